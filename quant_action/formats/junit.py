"""JUnit XML for CI viewers: one suite per candidate, one case per gate, and a suite for the baseline measured against itself.

A gate that fails is a failure. One that is undecided or void is an error, because a skipped test looks green. Skipped is what decides
nothing: a gate without anything to compare with, one that only warns, one that was overridden, a tripwire that is still open; and the
case `runtime` where the spec does not ask for it; the message says which. A candidate that was not evaluated has one case, `evaluated`,
in error.
"""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

from quant_action.formats import wording
from quant_action.formats.interface import Format, Report, Row
from quant_action.records import Check, Outcome

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may contain, even escaped (w3.org/TR/xml, production 2)."""

ELEMENTS = {
    Outcome.FAIL: "failure",
    Outcome.INCONCLUSIVE: "error",
    Outcome.NOT_EVALUATED: "error",
    Outcome.VOID: "error",
    Outcome.NOT_APPLICABLE: "skipped",
}


def render(report: Report) -> str:
    root = ElementTree.Element("testsuites", name=_legal(report.name))
    for row in report.rows:
        suite = ElementTree.SubElement(root, "testsuite", name=_legal(row.id))
        if row.outcome is Outcome.NOT_EVALUATED:
            _add_unevaluated(suite, row, report)
        else:
            _add_gates(suite, row, report)
            _add_runtime(suite, row, report)
        _count(suite)
    if report.floor and report.floor.checks:
        suite = ElementTree.SubElement(root, "testsuite", name="baseline against itself")
        _add_gates(suite, report.floor, report)
        _count(suite)
    _count(root)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_gates(suite: ElementTree.Element, row: Row, report: Report) -> None:
    """A gate that is set more than once, against baseline and release or on each task, is told apart by what it looks at."""
    times = Counter(check.gate for check in row.checks)
    for check in row.checks:
        detail = f" ({check.metric}{f', {check.vs}' if check.vs else ''})" if times[check.gate] > 1 else ""
        _add_gate(_add_case(suite, f"{check.gate}{detail}", row, report), check, is_floor=row.outcome is None)


def _add_gate(case: ElementTree.Element, check: Check, *, is_floor: bool) -> None:
    if check.where and check.where.count(":") >= 2:
        file, line, _ = check.where.rsplit(":", 2)
        case.set("file", _legal(file))
        case.set("line", _legal(line))
    said = f"{check.outcome}: {check.reason}"
    full = f"{said}\n{check.where}" if check.where else said
    if is_floor and check.outcome is Outcome.FAIL:
        _add_outcome(case, "error", Outcome.VOID, said, full)
    elif check.outcome in ELEMENTS and (why := _decides_nothing(check)):
        _add_outcome(case, "skipped", check.outcome, f"{why}: {said}", full)
    elif element := ELEMENTS.get(check.outcome):
        _add_outcome(case, element, check.outcome, said, full)


def _decides_nothing(check: Check) -> str:
    """Why this outcome does not hold its candidate back; empty where it does."""
    if check.override:
        return f"overridden by {check.override.by} ({check.override.reason})"
    if check.level == "warn" and check.outcome is not Outcome.VOID:
        return "only warns"
    return "never blocks when open" if check.family and check.outcome is Outcome.INCONCLUSIVE else ""


def _add_runtime(suite: ElementTree.Element, row: Row, report: Report) -> None:
    """Of a candidate that was evaluated: where the check is asked for, one that fails it was not."""
    case = _add_case(suite, "runtime", row, report)
    said = wording.runtime_line(row, report)
    if row.runtime is None:
        _add_outcome(case, "skipped", Outcome.NOT_APPLICABLE, said, said)
    else:
        ElementTree.SubElement(case, "system-out").text = _legal(said)


def _add_unevaluated(suite: ElementTree.Element, row: Row, report: Report) -> None:
    case = _add_case(suite, "evaluated", row, report)
    reasons = [objection.text for objection in report.objections if objection.id == row.id]
    said = f"{Outcome.NOT_EVALUATED}: {' '.join(reasons)}"
    _add_outcome(case, "error", Outcome.NOT_EVALUATED, said, said)


def _add_case(suite: ElementTree.Element, name: str, row: Row, report: Report) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_legal(f"{report.name}.{row.id}"), name=_legal(name))


def _add_outcome(case: ElementTree.Element, element: str, outcome: Outcome, message: str, text: str) -> None:
    child = ElementTree.SubElement(case, element, message=wording.clean(message))
    if element != "skipped":
        child.set("type", str(outcome))
        child.text = _legal(text)


def _count(element: ElementTree.Element) -> None:
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(1 for _ in element.iter(tag))))


def _legal(text: str) -> str:
    return ILLEGAL.sub("", text)


JUNIT = Format(name="junit", file="junit.xml", render=render)
