"""Forest plots in plain characters, for where no image can go: one line per model with its interval, the reference and the limit."""

from __future__ import annotations

import re

from quant_action.formats import wording
from quant_action.formats.comparisons import Comparison, Line
from quant_action.formats.interface import Change, Report

COLUMNS = 37
"""Characters of the axis."""


def forest(comparison: Comparison, report: Report, most: int) -> str:
    """The first `most` candidates, and the references."""
    candidates = [line for line in comparison.lines if line.outcome is not None][:most]
    lines = candidates + [line for line in comparison.lines if line.outcome is None]
    names = max(len(_plain(line.name)) for line in lines)
    outcomes = max(len(_outcome(line)) for line in lines)
    said = [wording.change_words(line.change) for line in lines]
    width = max(map(len, said))
    marks = f"│ {'baseline' if comparison.vs == 'baseline' else 'last release'}"
    marks += ", ╎ limit" if comparison.limits else ""
    marks += ", ┆ release" if comparison.release is not None else ""
    drawn = [f"{comparison.title} ({wording.level_words(report)}; {marks})"]
    for line, words in zip(lines, said, strict=True):
        count = wording.format_count(line.change.n, line.change.samples)
        drawn.append(f"{_plain(line.name):<{names}}  {_outcome(line):<{outcomes}}  {_axis(line, comparison)}  {words:<{width}}  {count}")
    return "\n".join([*drawn, f"{'':<{names + outcomes + 4}}{_ruler(comparison)}".rstrip()])


def _plain(name: str) -> str:
    """A name that can neither end a code fence nor shift a column."""
    return re.sub(r"[^A-Za-z0-9._/ -]", "?", name)[:40]


def _outcome(line: Line) -> str:
    return line.outcome or "reference"


def _column(value: float, comparison: Comparison) -> int:
    share = (value - comparison.low) / (comparison.high - comparison.low)
    return min(max(round(share * (COLUMNS - 1)), 0), COLUMNS - 1)


def _axis(line: Line, comparison: Comparison) -> str:
    low, high, change = comparison.low, comparison.high, line.change
    cells = [" "] * COLUMNS
    if comparison.release is not None and low <= comparison.release <= high:
        cells[_column(comparison.release, comparison)] = "┆"
    cells[_column(comparison.reference, comparison)] = "│"
    limits = {line.limit} if line.limit is not None else comparison.limits if line.outcome is None else set()
    for limit in limits:
        cells[_column(limit, comparison)] = "╎"
    if interval := change.interval:
        start, end = _column(interval.low, comparison), _column(interval.high, comparison)
        cells[start : end + 1] = "─" * (end - start + 1)
        cells[start] = "├" if interval.low >= low else "◀"
        cells[end] = "┤" if interval.high <= high else "▶"
    cells[_column(change.value, comparison)] = "●" if low <= change.value <= high else "▶" if change.value > high else "◀"
    return "".join(cells)


def _ruler(comparison: Comparison) -> str:
    """Under the axis: what the reference and each limit are; one that would touch the one before it is left out."""
    unit = comparison.lines[0].change.unit

    def label(value: float) -> str:
        return wording.change_value(Change(name="", value=value, interval=None, n=1, unit=unit, samples=""))

    drawn = ""
    for value in (*sorted(comparison.limits, key=lambda limit: -abs(limit - comparison.reference)), comparison.reference):
        words = label(value)
        start = max(_column(value, comparison) - len(words) // 2, 0)
        room = drawn[max(start - 1, 0) : start + len(words) + 1]
        if not room.strip():
            drawn = f"{drawn[:start]:<{start}}{words}{drawn[start + len(words) :]}"
    return drawn
