"""What the forest plots show, whatever draws them: a line per model with its interval, the references, the limits and the axis."""

from __future__ import annotations

from dataclasses import dataclass

from quant_action.formats import wording
from quant_action.formats.interface import Change, Report, Row
from quant_action.records import Outcome, Versus

REACH = 2
"""The axis ends at this many times the distance from the reference to the limit, so that one ruined candidate cannot flatten the others."""

REFERENCE_NAMES = {"floor": "A/A floor", "release": "release"}


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str
    """Not escaped."""
    outcome: Outcome | None
    """None for a reference."""
    won: bool
    change: Change
    limit: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of every candidate beside the same reference's."""

    title: str
    metric: str
    vs: Versus
    lines: tuple[Line, ...]
    """Candidates as the report orders them, then release and A/A floor."""
    reference: float
    """The value that says: no difference."""
    release: float | None
    """The release's value, where the reference is the baseline."""
    low: float
    high: float
    """Ends of the axis."""

    @property
    def limits(self) -> set[float]:
        """Limits of two candidates may differ."""
        return {line.limit for line in self.lines if line.limit is not None}


def comparisons(report: Report) -> list[Comparison]:
    """Those that the report has values for."""
    asked: tuple[tuple[str, str, Versus], ...] = (
        ("perplexity, × baseline", wording.PERPLEXITY, "baseline"),
        ("accuracy, change from baseline", wording.ACCURACY, "baseline"),
        ("KL divergence, × last release", wording.KL, "release"),
        ("accuracy, change from last release", wording.ACCURACY, "release"),
    )
    found = [_comparison(title, metric, vs, report) for title, metric, vs in asked]
    return [comparison for comparison in found if comparison]


def _comparison(title: str, metric: str, vs: Versus, report: Report) -> Comparison | None:
    rows = [row for row in report.rows if metric in row.compared(vs)]
    if not rows:
        return None
    lines = [
        Line(
            name=row.id, outcome=row.outcome, won=row.id == report.winner, change=row.compared(vs)[metric], limit=limit_of(row, metric, vs)
        )
        for row in rows
    ]
    references = [row for row in (report.release, report.floor) if row and vs == "baseline" and metric in row.changes]
    lines += [Line(name=REFERENCE_NAMES[row.id], outcome=None, won=False, change=row.changes[metric], limit=None) for row in references]
    reference = 1.0 if lines[0].change.unit == "x" else 0.0
    low, high = _axis_ends(lines, reference)
    release = next((row.changes[metric].value for row in references if row.id == "release"), None)
    return Comparison(title=title, metric=metric, vs=vs, lines=tuple(lines), reference=reference, release=release, low=low, high=high)


def limit_of(row: Row, metric: str, vs: Versus) -> float | None:
    """The limit that a gate sets for `metric`."""
    return next((check.limit for check in row.checks if check.metric == metric and check.vs == vs), None)


def _axis_ends(lines: list[Line], reference: float) -> tuple[float, float]:
    """Ends of an axis that shows the reference, every limit and as much of the intervals as lies within reach of them."""
    limits = [line.limit for line in lines if line.limit is not None]
    changes = [line.change for line in lines]
    ends = [end for change in changes for end in ((change.interval.low, change.interval.high) if change.interval else (change.value,))]
    low, high = min(*ends, *limits, reference), max(*ends, *limits, reference)
    if reach := REACH * max((abs(limit - reference) for limit in limits), default=0):
        low, high = max(low, reference - reach), min(high, reference + reach)
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin
