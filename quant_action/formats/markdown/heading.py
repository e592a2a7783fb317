"""What a reviewer reads before unfolding anything: the verdict, what broke, whose word counted, and why the others lost."""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.formats import wording
from quant_action.formats.comparisons import comparisons
from quant_action.formats.forest import forest
from quant_action.formats.interface import Objection, Report
from quant_action.formats.markdown.inert import NAME, PLACE, code, escape, fenced, place
from quant_action.formats.markdown.shape import Shape


def heading(report: Report) -> str:
    against = f"the unquantized {code(report.model, PLACE)}{' and the last release' if report.release else ''}"
    first = "" if report.release or not wording.first_release(report) else " Gates against a release: not applicable, first release."
    return "\n\n".join(
        [
            f"## {escape(wording.headline(report), PLACE)}",
            f"**{escape(report.name, NAME)}**: {wording.tally(report)}, compared with {against}. "
            f"{escape(wording.sentence(report.reason))}{first}",
        ]
    )


def void_gates(report: Report, shape: Shape) -> str:
    lines = [
        f"- {code(check.gate)}{f' at {place(check.where, report)}' if check.where else ''}: {escape(wording.sentence(check.reason))}"
        for check in report.void[: shape.remarks]
    ]
    if not lines:
        return ""
    words = "**🚫 Void gates: they fail on the baseline measured against itself, so the measurement is wrong, not the candidates**"
    return _list(words, lines, len(report.void))


def overrides(report: Report, shape: Shape) -> str:
    lines = [
        f"- {'⚠️' if note.checks else '🕓'} {escape(wording.override_line(note), 700)}"
        + (f" at {place(note.override.where, report)}" if note.override.where else "")
        for note in report.overrides[: shape.remarks]
    ]
    return _list("**Overrides**", lines, len(report.overrides)) if lines else ""


def objections(report: Report, shape: Shape) -> str:
    title = "Why not the others" if report.winner else "Why none was chosen"
    return _remarks(f"**{title}**", report.objections, report, shape)


def warnings(report: Report, shape: Shape) -> str:
    return _remarks("**Warnings**", report.warnings, report, shape)


def _remarks(title: str, remarks: Sequence[Objection], report: Report, shape: Shape) -> str:
    lines = [
        f"- {wording.SYMBOLS[remark.outcome]} **{escape(remark.id, NAME)}** ({remark.outcome})"
        + (f", {code(remark.gate)}" if remark.gate else "")
        + (f" at {place(remark.where, report)}" if remark.where else "")
        + f": {escape(wording.sentence(remark.text))}"
        for remark in remarks[: shape.remarks]
    ]
    return _list(title, lines, len(remarks)) if lines else ""


def _list(title: str, lines: Sequence[str], of: int) -> str:
    more = [f"- _and {of - len(lines)} more: see the HTML report_"] if of > len(lines) else []
    return "\n".join([title, "", *lines, *more])


def forests(report: Report, shape: Shape) -> str:
    plots = [forest(comparison, report, shape.candidates) for comparison in comparisons(report)]
    return fenced(["\n\n".join(plots)], "text") if plots else ""


def trend_and_floor(report: Report) -> str:
    trend, floor = wording.trend_line(report), wording.floor_line(report)
    parts = [
        f"KL divergence over releases: {escape(trend)}" if trend else "",
        f"Noise floor, the baseline measured a second time: {escape(floor)}" if floor else "",
    ]
    return " · ".join(filter(None, parts))
