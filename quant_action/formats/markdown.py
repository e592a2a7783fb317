"""The report as a pull request shows it: verdict first, one row per candidate, the rest in folds.

Every string of the report is untrusted, because whoever opens a pull request wrote it: `escape` makes it inert text. Flavour: GitHub
Flavored Markdown (github.github.com/gfm).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from quant_action.formats import speed, wording
from quant_action.formats.forest import accuracy_forest, perplexity_forest
from quant_action.formats.interface import Format, Report, Row
from quant_action.records import Outcome

LIMIT = 60_000
"""Characters; GitHub refuses a comment of more than 65,536."""

MOST_ROWS = 40
"""Candidates in the table; with more, the HTML report is the place."""

BREAK = "\u200b"
"""A space of no width. GitHub looks for mentions and links after unescaping, so only a break in the text keeps it from finding one."""

AUTOLINK = re.compile(r"(?<=@)|(?<=#)(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\bGH-)(?=\d)", re.IGNORECASE)

INERT = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "\\": "&#92;", "$": "&#36;"}
    | {char: f"\\{char}" for char in "*[]~"}
)

UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""One that could begin or end emphasis; those inside a word cannot."""


def escape(text: str) -> str:
    """Inert text for within a line or a table cell: no markup, HTML, link, mention, cell, fence or comment can come of it."""
    return UNDERSCORE.sub(r"\\_", AUTOLINK.sub(BREAK, wording.clean(text)).translate(INERT))


def marker(spec: str) -> str:
    """The invisible first line by which a later run finds its own comment."""
    return f"<!-- quant_action:report:v1:{quote(wording.clean(spec), safe='/').replace('--', '%2D%2D')} -->"


def render(report: Report) -> str:
    """At most `LIMIT` characters: sections that do not fit are left out, and the text says so."""
    kept = ["\n\n".join([marker(report.spec), _heading(report), _table(report)])]
    sections = _sections(report)
    note = "_Shortened: the rest is in the HTML report._"
    for section in sections:
        if len("\n\n".join([*kept, section, note])) < LIMIT:
            kept.append(section)
    shortened = len(kept) <= len(sections)
    return "\n\n".join([*kept, note] if shortened else kept) + "\n"


def _heading(report: Report) -> str:
    lines = [
        f"## {escape(wording.headline(report))}",
        f"**{escape(report.name)}**: {wording.tally(report)}, compared with the unquantized {_code(report.model)}. "
        + escape(wording.sentence(report.reason)),
    ]
    return "\n\n".join(lines)


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(report: Report) -> str:
    interval = wording.level_words(report)
    windows, items = wording.counted(report, wording.PERPLEXITY), wording.counted(report, wording.ACCURACY)
    header = [
        "candidate",
        "verdict",
        "size of weights (× baseline)",
        "perplexity",
        f"perplexity, × baseline: {interval}; {windows}",
        "KL divergence, nats: mean · p99",
        "same top token, %",
        "accuracy, %",
        f"accuracy change, pp: {interval}; {items}",
    ]
    rows = [_cells(row, report) for row in report.rows[:MOST_ROWS]]
    table = _grid(header, [_cells(report.baseline, report), *rows], left=2)
    hidden = len(report.rows) - len(rows)
    return table + (f"\n\n_And {hidden} more candidates: see the HTML report._" if hidden else "")


def _cells(row: Row, report: Report) -> list[str]:
    name = f"**{escape(row.id)}**" if row.id == report.winner else escape(row.id)
    trophy = " 🏆 winner" if row.id == report.winner and row.outcome else ""
    kl = [wording.metric_cell(row, metric) for metric in (wording.KL, wording.KL_P99)]
    return [
        f"{name}{trophy}<br><sub>{escape(row.scheme)}</sub>",
        (wording.outcome_words(row.outcome) + (", required" if row.required else "")) if row.outcome else "reference",
        _pair(*wording.size_cell(row), brackets=True),
        wording.metric_cell(row, wording.PERPLEXITY),
        _pair(*wording.ratio_cell(row)),
        wording.NOTHING if set(kl) == {wording.NOTHING} else " · ".join(kl),
        wording.percent_cell(row, wording.TOP1),
        wording.percent_cell(row, wording.ACCURACY),
        _pair(*wording.points_cell(row)),
    ]


def _pair(main: str, more: str, *, brackets: bool = False) -> str:
    return escape(f"{main} ({more})" if brackets and more else f"{main} {more}".strip())


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table whose first `left` columns are words and the others numbers."""
    rule = ["---" if column < left else "--:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


# Sections, in the order in which they have a claim to the room ----------------------------------------------------------


def _sections(report: Report) -> list[str]:
    legend = f"<sub>{wording.LEGEND}</sub>"
    sections = [
        _objections(report),
        _forests(report),
        legend,
        _gates(report),
        _runtimes(report),
        _speed(report),
        _tasks(report),
        _changes(report),
        _cost(report),
        _method(report),
    ]
    return [section for section in sections if section]


def _objections(report: Report) -> str:
    lines = [
        f"- {wording.SYMBOLS[objection.outcome]} **{escape(objection.id)}** ({objection.outcome})"
        + (f", {_code(objection.gate)}" if objection.gate else "")
        + (f" at {_code(objection.where)}" if objection.where else "")
        + f": {escape(wording.sentence(objection.text))}"
        for objection in report.objections
    ]
    return "\n".join([f"**{'Why not the others' if report.winner else 'Why none was chosen'}**", "", *lines]) if lines else ""


def _forests(report: Report) -> str:
    plots = [plot for plot in (perplexity_forest(report), accuracy_forest(report)) if plot]
    return "```text\n" + "\n\n".join(plots) + "\n```" if plots else ""


def _fold(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _gates(report: Report) -> str:
    lines = [
        [
            escape(row.id),
            _code(check.gate),
            wording.outcome_words(check.outcome),
            wording.NOTHING if check.vs is None else "baseline" if check.vs == "baseline" else "last release",
            escape(check.reason),
            f"{check.n:,}" if check.n is not None else wording.NOTHING,
            _code(check.where) if check.where else wording.NOTHING,
        ]
        for row in report.rows
        for check in row.checks
    ]
    if not lines:
        return ""
    counts = {outcome: sum(check.outcome is outcome for row in report.rows for check in row.checks) for outcome in Outcome}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return _fold(f"Gates: {summary}", _grid(["candidate", "gate", "outcome", "against", "why", "n", "where"], lines, left=7))


def _runtimes(report: Report) -> str:
    lines = [f"- {escape(row.id)}: {escape(wording.runtime_line(row, report))}" for row in report.rows]
    if report.runtime is None:
        return ""
    passed = sum(row.runtime is not None for row in report.rows)
    return _fold(f"Runtime check: {passed} of {len(report.rows)} compute what was scored", "\n".join(lines))


def _speed(report: Report) -> str:
    told = [f"- {escape(id)}: {escape(note)}" for id, note in speed.notes(report)]
    if not told:
        return ""
    rows = [[escape(cell) for cell in line] for line in speed.lines(report)]
    table = [_grid(speed.HEADER, rows, left=speed.LEFT)] if rows else []
    return _fold(f"Speed: {speed.SUMMARY}", "\n\n".join([*table, "\n".join(told)]))


def _tasks(report: Report) -> str:
    if not report.tasks:
        return ""
    lines = [
        [escape(row.id), *(escape(", ".join(filter(None, wording.task_cell(row, task)))) for task in report.tasks)]
        for row in (report.baseline, *report.rows)
        if row.metrics
    ]
    return _fold("Accuracy per task: %, change in pp, n", _grid(["candidate", *map(escape, report.tasks)], lines, left=1))


def _changes(report: Report) -> str:
    """Every metric that knows how to compare, those without a column of their own among them."""
    names = {id: change.name for row in report.rows for id, change in row.changes.items()}
    rows = [row for row in report.rows if row.changes][:MOST_ROWS]
    if not names:
        return ""
    lines = [
        [escape(name), *(escape(wording.change_words(row.changes[id])) if id in row.changes else wording.NOTHING for row in rows)]
        for id, name in names.items()
    ]
    return _fold("Every comparison with the baseline", _grid(["metric", *(escape(row.id) for row in rows)], lines, left=1))


def _cost(report: Report) -> str:
    lines = [
        [
            escape(row.id),
            wording.seconds_cell(row.quantize_seconds),
            wording.bytes_cell(row.quantize_memory),
            wording.bytes_cell(row.evaluate_memory),
        ]
        for row in (report.baseline, *report.rows)
    ]
    header = ["candidate", "time to quantize", "peak memory while quantizing", "peak memory while evaluating"]
    return _fold("Time and memory", _grid(header, lines, left=1))


def _method(report: Report) -> str:
    lines = [f"- {escape(fact.label)}: {_code(fact.text)}" for fact in report.method]
    return _fold("Method, versions and digests", "\n".join([*lines, f"- Versions: {_code(', '.join(report.versions))}"]))


MARKDOWN = Format(name="markdown", file="report.md", render=render)
