"""What holds for every format of the report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quant_action.formats import FORMATS
from quant_action.formats.interface import Format, Report
from quant_action.records import Decision, Outcome
from tests.golden.records import report

EVERY_FORMAT = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.file)


def rejected() -> Report:
    """The same run, had no candidate passed."""
    whole = report()
    rows = tuple(row.model_copy(update={"outcome": Outcome.FAIL} if row.outcome else {}) for row in whole.rows)
    return whole.model_copy(update={"rows": rows, "decision": Decision.REJECTED, "winner": None})


def test_files_are_told_apart() -> None:
    assert len({format.file for format in FORMATS}) == len({format.name for format in FORMATS}) == len(FORMATS)


@EVERY_FORMAT
@pytest.mark.parametrize("make", [report, rejected])
def test_the_same_report_gives_the_same_text(format: Format, make: Callable[[], Report]) -> None:
    first = format.render(make())
    assert first == format.render(make())
    assert first.endswith("\n")
    assert "\r" not in first


@EVERY_FORMAT
def test_every_candidate_is_there(format: Format) -> None:
    text = format.render(report())
    evaluated = [row.id for row in report().rows if row.metrics]
    assert len(evaluated) > 3
    assert all(id in text for id in evaluated)


@EVERY_FORMAT
def test_what_a_candidate_is_called_cannot_become_markup(format: Format) -> None:
    evil = '<script>alert(1)</script>"&|`'
    whole = report()
    rows = tuple(row.model_copy(update={"id": evil} if row.outcome else {}) for row in whole.rows[:2])
    text = format.render(whole.model_copy(update={"rows": rows, "winner": evil, "objections": ()}))
    assert "<script>alert" not in text or format.file.endswith(".json")
