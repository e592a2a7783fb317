"""Remarks on the lines of the spec that decided, for the check run and for the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from quant_action.errors import QuantActionError
from quant_action.formats.interface import Objection, Report
from quant_action.formats.wording import clean
from quant_action.records import Decision, Outcome

Level = Literal["notice", "warning", "failure"]
PLACE = re.compile(r"(?P<file>.+?):(?P<line>[1-9]\d{0,6})(?::\d+)?")
MOST = 200
"""Annotations of one report; the report itself has the rest."""
MESSAGE, TITLE = 4_000, 200
"""Characters; GitHub takes 64 KB and 255."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    path: str
    """Of a file, relative to the repository's root."""
    line: int
    level: Level
    title: str
    message: str


def annotations_of(report: Report, spec: str) -> list[Annotation]:
    """One per line and level, the gravest first; `spec` is the spec's path in the repository.

    Failures are what keeps a run from being approved; what an approved run's other candidates fail is a warning.
    """
    void = [
        Objection(id=report.baseline.id, outcome=Outcome.VOID, gate=check.gate, text=check.reason, where=check.where)
        for check in report.void
    ]
    found: dict[tuple[int, Level], list[Objection]] = {}
    for objection in (*void, *report.objections, *report.warnings):
        if (line := _line(objection.where or "", spec)) is not None:
            found.setdefault((line, _level(objection, report)), []).append(objection)
    order = sorted(found, key=lambda place: (("failure", "warning", "notice").index(place[1]), place[0]))
    return [_annotation(spec, line, level, found[line, level]) for line, level in order[:MOST]]


def annotations_of_error(error: QuantActionError, spec: str) -> list[Annotation]:
    """One for each line of the message that begins with a place in the spec."""
    found = []
    for text in str(error).splitlines():
        place, _, message = text.partition(": ")
        if message and (line := _line(place, spec)) is not None:
            said = clean(f"{message} {error.remedy or ''}", MESSAGE)
            found.append(Annotation(path=spec, line=line, level="failure", title=f"quant_action: {type(error).__name__}", message=said))
    return found[:MOST]


def _line(where: str, spec: str) -> int | None:
    """Of a place as an error or a gate gives it: the spec as it was named on the command line, line and column."""
    match = PLACE.fullmatch(where)
    return int(match["line"]) if match and PurePosixPath(match["file"]).name == PurePosixPath(spec).name else None


def _level(objection: Objection, report: Report) -> Level:
    decides = report.decision is not Decision.APPROVED and objection not in report.warnings
    return "failure" if decides and objection.outcome in (Outcome.FAIL, Outcome.VOID, Outcome.NOT_EVALUATED) else "warning"


def _annotation(spec: str, line: int, level: Level, objections: list[Objection]) -> Annotation:
    gates = dict.fromkeys(clean(objection.gate, 60) for objection in objections if objection.gate)
    outcomes = dict.fromkeys(objection.outcome.value for objection in objections)
    message = "\n".join(f"{clean(objection.id, 60)}: {clean(objection.text, 400)}" for objection in objections)
    title = f"{', '.join(gates) or 'quant_action'}: {', '.join(outcomes)}"
    return Annotation(path=spec, line=line, level=level, title=clean(title, TITLE), message=message[:MESSAGE])
