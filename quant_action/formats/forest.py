"""Forest plots in plain characters, for where no image can go: one line per candidate with its interval, the baseline and the limit."""

from __future__ import annotations

import re
from collections.abc import Callable

from quant_action.formats import wording
from quant_action.formats.interface import Change, Report, Row

COLUMNS = 37
"""Characters of the axis."""

REACH = 2
"""The axis ends at this many times the distance from the baseline to the limit, so that one ruined candidate cannot flatten the others."""


def perplexity_forest(report: Report) -> str:
    """Perplexity over the baseline's; empty when nothing was compared."""

    def words(change: Change) -> str:
        return f"{wording.format_ratio(change.value)} {wording.format_ratio_interval(change.interval)}"

    return _forest("perplexity, × baseline", report, wording.PERPLEXITY, reference=1.0, words=words)


def accuracy_forest(report: Report) -> str:
    """Accuracy minus the baseline's; empty when nothing was compared."""

    def words(change: Change) -> str:
        return f"{wording.format_points(change.value)} {wording.format_points_interval(change.interval)}"

    return _forest("accuracy, change from baseline", report, wording.ACCURACY, reference=0.0, words=words)


def axis_ends(entries: list[tuple[Row, Change]], metric: str, reference: float) -> tuple[float, float]:
    """Ends of an axis that shows the baseline, every limit and as much of the intervals as lies within reach of them."""
    limits = [limit for row, _ in entries if (limit := wording.limit_of(row, metric)) is not None]
    ends = [end for _, change in entries for end in ((change.interval.low, change.interval.high) if change.interval else (change.value,))]
    low, high = min(*ends, *limits, reference), max(*ends, *limits, reference)
    if reach := REACH * max((abs(limit - reference) for limit in limits), default=0):
        low, high = max(low, reference - reach), min(high, reference + reach)
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


def _forest(title: str, report: Report, metric: str, *, reference: float, words: Callable[[Change], str]) -> str:
    entries = wording.comparable(report, metric)
    if not entries:
        return ""
    ends = axis_ends(entries, metric, reference)
    ids = max(len(_plain_id(row)) for row, _ in entries)
    outcomes = max(len(row.outcome or "") for row, _ in entries)
    said = {row.id: words(change).strip() for row, change in entries}
    width = max(map(len, said.values()))
    lines = [f"{title} ({wording.level_words(report)}; │ baseline, ╎ limit)"]
    for row, change in entries:
        axis = _axis(change, ends, reference, wording.limit_of(row, metric))
        count = wording.format_count(change.n, change.samples)
        lines.append(f"{_plain_id(row):<{ids}}  {row.outcome or '':<{outcomes}}  {axis}  {said[row.id]:<{width}}  {count}")
    return "\n".join(lines)


def _plain_id(row: Row) -> str:
    """An id that can neither end a code fence nor shift a column."""
    return re.sub(r"[^A-Za-z0-9._-]", "?", row.id)[:40]


def _axis(change: Change, ends: tuple[float, float], reference: float, limit: float | None) -> str:
    low, high = ends

    def column(value: float) -> int:
        return min(max(round((value - low) / (high - low) * (COLUMNS - 1)), 0), COLUMNS - 1)

    cells = [" "] * COLUMNS
    cells[column(reference)] = "│"
    if limit is not None:
        cells[column(limit)] = "╎"
    if interval := change.interval:
        start, end = column(interval.low), column(interval.high)
        cells[start : end + 1] = "─" * (end - start + 1)
        cells[start] = "├" if interval.low >= low else "◀"
        cells[end] = "┤" if interval.high <= high else "▶"
    cells[column(change.value)] = "●" if low <= change.value <= high else "▶" if change.value > high else "◀"
    return "".join(cells)
