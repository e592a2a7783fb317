"""The worst regressions of one candidate as differences: what was asked, what was expected, and both answers."""

from __future__ import annotations

from quant_action.formats import wording
from quant_action.formats.interface import Regression, Report
from quant_action.formats.markdown.folds import fold
from quant_action.formats.markdown.inert import NAME, code, escape, fenced
from quant_action.formats.markdown.shape import Shape


def samples(report: Report, shape: Shape) -> str:
    """Of the winner, or without one of the candidate that came nearest."""
    found = next((regressions for regressions in report.regressions if regressions.id == report.nearest), None)
    if found is None or not found.worst or not shape.samples:
        return ""
    shown = found.worst[: shape.samples]
    hashed = [f"<sub>{wording.HASHED.replace('`', '')}</sub>"] if shown[0].hashed else []
    of = f"{len(shown)} shown" if len(shown) < found.lost + found.rewritten else "all shown"
    summary = f"Worst regressions of {code(found.id)}: {wording.regressions_line(found)} ({of})"
    return fold(summary, "\n\n".join(hashed + [_sample(item, found.id) for item in shown]))


def _sample(item: Regression, candidate: str) -> str:
    what = "right → wrong" if item.lost else "changed"
    title = [code(f"{item.task}/{item.item}", 2 * NAME), f"slice {escape(item.slice, NAME)}" if item.slice else "", what]
    names = {"baseline": item.before, wording.clean(candidate, 40): item.after}
    width = max(len("expected"), *map(len, names))
    signs = zip("-+", names.items(), strict=True)
    lines = [
        *(
            f"  {name:<{width}}  {wording.isolate(wording.sample(text))}"
            for name, text in (("prompt", item.prompt), ("expected", item.expected))
            if text is not None
        ),
        *(
            f"{sign} {wording.isolate(name):<{width}}  {wording.isolate(wording.sample(text))}"
            for sign, (name, text) in signs
            if text is not None
        ),
    ]
    heading = " · ".join(filter(None, [*title, escape(item.note)]))
    return f"{heading}\n\n{fenced(lines, 'diff')}" if lines else heading
