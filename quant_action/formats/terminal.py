"""The report in a terminal or a CI log: verdict first, what is void or overridden, a table that fits 80 columns, why the others lost."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quant_action.formats import speed, wording
from quant_action.formats.interface import Change, Report, Row
from quant_action.records import Decision, Outcome

STYLES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INCONCLUSIVE: "yellow"}

DECISION_STYLES = {
    Decision.APPROVED: "bold green",
    Decision.REJECTED: "bold red",
    Decision.INCONCLUSIVE: "bold yellow",
    Decision.BROKEN: "bold red",
}

WIDE = 120
"""Columns of a console that has room for intervals and top-1 agreement."""

IN_ASCII = str.maketrans(
    dict.fromkeys((*wording.SYMBOLS.values(), *wording.SPARKS), "")
    | {"→": "->", "“": '"', "”": '"', "−": "-", "×": "x", "±": "+-", "–": "-", "·": "/", "…": "...", "⚠": "!"}
)


def print_report(report: Report, console: Console) -> None:
    _print(console, wording.headline(report), DECISION_STYLES[report.decision])
    _print(console, wording.sentence(report.reason))
    release = " and the last release" if report.release else ""
    _print(console, f"{wording.tally(report)}, compared with the unquantized {report.model}{release}")
    for check in report.void:
        _print(console, f"🚫 {check.gate} is void, it fails on the baseline itself: {wording.sentence(check.reason)}", "bold red")
    for note in report.overrides:
        _print(console, f"override of {wording.override_line(note)}", "bold" if note.checks else "dim")
    console.print(_table(report, console))
    if not report.release and wording.first_release(report):
        _print(console, "gates against a release: not applicable, first release")
    counts = (f"perplexity: {wording.counted(report, wording.PERPLEXITY)}", f"accuracy: {wording.counted(report, wording.ACCURACY)}")
    _print(console, " · ".join(count for count in counts if not count.endswith(": ")))
    if floor := wording.floor_line(report):
        _print(console, f"noise floor, the baseline measured a second time: {floor}")
    if trend := wording.trend_line(report):
        _print(console, f"KL divergence over releases: {trend}")
    for row in report.rows if report.runtime else ():
        _print(console, f"runtime of {row.id}: {wording.runtime_line(row, report)}")
    for id, line in speed.summaries(report.rows):
        _print(console, f"speed of {id}: {line}")
    for remark in (*report.objections, *report.warnings):
        gate = f", {remark.gate}" if remark.gate else ""
        where = f" at {remark.where}" if remark.where else ""
        _print(console, f"{wording.SYMBOLS[remark.outcome]} {remark.id} ({remark.outcome}{gate}{where}): {wording.sentence(remark.text)}")


def _print(console: Console, words: str, style: str = "") -> None:
    """In a log, lines stay whole so that they can be searched."""
    console.print(_text(console, words, style), soft_wrap=not console.is_terminal)


def _text(console: Console, words: str, style: str = "") -> Text:
    """Never markup, whatever the words say; on a console that is not Unicode the symbols go, and the words beside them stay."""
    visible = wording.clean(words)
    if not console.encoding.startswith("utf"):
        visible = visible.translate(IN_ASCII).encode("ascii", "replace").decode().strip()
    return Text(visible, style=style)


def _table(report: Report, console: Console) -> Table:
    wide = console.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    release = ["accuracy\nvs release"] if report.release else []
    for name in ("candidate", "verdict"):
        table.add_column(name, overflow="fold")
    for name in ("size", "perplexity\n× baseline", "KL\nnats", *(["same top\ntoken"] if wide else []), "accuracy\nchange", *release):
        table.add_column(Text("\n").join(_text(console, line) for line in name.split("\n")), justify="right", no_wrap=True)
    for row in filter(None, (report.baseline, report.release, *report.rows)):
        won = row.id == report.winner and row.outcome is not None
        name, verdict, *numbers = _cells(row, won=won, wide=wide, release=report.release is not None)
        tone = "bold" if won else "" if row.outcome else "dim"
        outcome_style = STYLES.get(row.outcome, "") if row.outcome else "dim"
        table.add_row(_text(console, name, tone), _text(console, verdict, outcome_style), *(_text(console, cell, tone) for cell in numbers))
    return table


def _cells(row: Row, *, won: bool, wide: bool, release: bool) -> list[str]:
    def change(found: Change | None) -> str:
        value, interval = wording.change_cell(found)
        return f"{value} {interval}" if wide else value

    verdict = wording.outcome_words(row.outcome) if row.outcome else "reference"
    return [
        row.id,
        f"{verdict}, winner" if won else verdict,
        wording.size_cell(row)[0],
        change(row.changes.get(wording.PERPLEXITY)),
        wording.metric_cell(row, wording.KL),
        *([wording.percent_cell(row, wording.TOP1)] if wide else []),
        change(row.changes.get(wording.ACCURACY)),
        *([change(row.release_changes.get(wording.ACCURACY))] if release else []),
    ]
