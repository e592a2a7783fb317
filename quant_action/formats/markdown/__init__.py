"""The report as a pull request shows it: verdict first, one row per candidate, the rest in folds, and never more than a comment takes."""

from __future__ import annotations

from quant_action.formats import wording
from quant_action.formats.interface import Format, Report
from quant_action.formats.markdown import folds, heading
from quant_action.formats.markdown.inert import marker
from quant_action.formats.markdown.samples import samples
from quant_action.formats.markdown.shape import LIMIT, SHAPES, Shape
from quant_action.formats.markdown.table import candidates_table


def render(report: Report) -> str:
    """At most `LIMIT` bytes of UTF-8: the fullest of `SHAPES` that fits, and what it leaves out is said."""
    comment = compose(report, SHAPES[0])
    for shape in SHAPES[1:]:
        if len(comment.encode()) <= LIMIT:
            break
        comment = compose(report, shape)
    return comment


def compose(report: Report, shape: Shape) -> str:
    """The comment of one shape, whatever its size."""
    sections = [
        marker(report.spec),
        heading.heading(report),
        heading.void_gates(report, shape),
        heading.overrides(report, shape),
        candidates_table(report, shape),
        heading.objections(report, shape),
        heading.warnings(report, shape),
        heading.forests(report, shape),
        heading.trend_and_floor(report),
        f"<sub>{wording.LEGEND}</sub>",
        folds.parts(report) if shape.parts else "",
        samples(report, shape),
        *([folds.gates(report, shape), folds.runtimes(report, shape), folds.speed(report, shape)] if shape.folds else []),
        *([folds.comparisons_tables(report), folds.cost(report, shape)] if shape.folds else []),
        folds.method(report) if shape.method else "",
        shape.note if shape != Shape() else "",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


MARKDOWN = Format(name="markdown", file="report.md", render=render)
