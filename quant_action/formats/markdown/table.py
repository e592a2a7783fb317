"""Tables: the one of all candidates, and the form of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quant_action.formats import wording
from quant_action.formats.interface import Change, Report, Row
from quant_action.formats.markdown.inert import NAME, PLACE, escape
from quant_action.formats.markdown.shape import Shape


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table whose first `left` columns are words and the others numbers."""
    rule = ["---" if column < left else "--:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def candidates_table(report: Report, shape: Shape) -> str:
    """The references first; a column against the release only when there is one."""
    interval = wording.level_words(report)
    header = [
        "candidate",
        "verdict",
        "size of weights (× baseline)",
        _heading(f"perplexity, × baseline: {interval}", wording.counted(report, wording.PERPLEXITY)),
        "KL divergence, nats: mean · p99",
        *(["KL, × release"] if report.release else []),
        "same top token",
        _heading(f"accuracy change: {interval}", wording.counted(report, wording.ACCURACY)),
        *([f"accuracy change from release: {interval}"] if report.release else []),
        "flips",
    ]
    references = [row for row in (report.baseline, report.release) if row]
    shown = report.rows[: shape.candidates]
    table = grid(header, [_cells(row, report) for row in (*references, *shown)], left=2)
    hidden = len(report.rows) - len(shown)
    return table + (f"\n\n_And {hidden} more candidates: see the HTML report._" if hidden else "")


def _heading(words: str, count: str) -> str:
    return f"{words}; {count}" if count else words


def _cells(row: Row, report: Report) -> list[str]:
    won = row.id == report.winner and row.outcome is not None
    name = f"**{escape(row.id, NAME)}**" if won else escape(row.id, NAME)
    verdict = (wording.outcome_words(row.outcome) + (", required" if row.required else "")) if row.outcome else "reference"
    kl = [wording.metric_cell(row, metric) for metric in (wording.KL, wording.KL_P99)]
    size, ratio = wording.size_cell(row)
    accuracy, perplexity = row.changes.get(wording.ACCURACY), row.changes.get(wording.PERPLEXITY)
    flips = row.changes.get(wording.FLIPS)
    return [
        f"{name}{' 🏆 winner' if won else ''}<br><sub>{escape(row.scheme, PLACE)}</sub>",
        verdict,
        f"{size} ({ratio})" if ratio else size,
        _change(perplexity, "") if row.changes else wording.metric_cell(row, wording.PERPLEXITY),
        wording.NOTHING if set(kl) == {wording.NOTHING} else " · ".join(kl),
        *([_change(row.release_changes.get(wording.KL), "")] if report.release else []),
        wording.percent_cell(row, wording.TOP1),
        _change(accuracy, wording.own_count(report, wording.ACCURACY, accuracy))
        if row.changes
        else wording.percent_cell(row, wording.ACCURACY),
        *([_released(row)] if report.release else []),
        wording.change_value(flips) if flips else wording.NOTHING,
    ]


def _released(row: Row) -> str:
    change = row.release_changes.get(wording.ACCURACY)
    return _change(change, f"n = {change.n:,}" if change else "")


def _change(change: Change | None, count: str) -> str:
    return escape(" ".join(filter(None, [*wording.change_cell(change), count])))
