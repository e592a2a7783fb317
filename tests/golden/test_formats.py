"""The exact files of imagined runs. After a change that is meant: `pytest tests/golden --update-golden`, and read the diff."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.formats import FORMATS, markdown
from quant_action.formats.interface import Format
from tests.golden.hostile import hostile_report
from tests.golden.records import broken_report, next_report, report


def hold(name: str, rendered: str, request: pytest.FixtureRequest) -> None:
    golden = Path(__file__).with_name(name)
    if request.config.getoption("--update-golden"):
        golden.write_text(rendered, encoding="utf-8")
    assert rendered == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("format", [format for format in FORMATS if format.name != "html"], ids=lambda format: format.file)
def test_a_report_is_rendered_to_the_byte(format: Format, request: pytest.FixtureRequest) -> None:
    hold(format.file, format.render(report()), request)


def test_a_report_against_a_release_and_of_samples_that_stay_private(request: pytest.FixtureRequest) -> None:
    hold("against-a-release.md", markdown.render(next_report()), request)


def test_a_report_of_a_measurement_that_is_broken(request: pytest.FixtureRequest) -> None:
    hold("broken.md", markdown.render(broken_report()), request)


def test_a_report_of_hostile_text(request: pytest.FixtureRequest) -> None:
    hold("hostile.md", markdown.render(hostile_report(rows=2)), request)


@pytest.mark.parametrize(("name", "shape"), [("without-samples.md", 4), ("without-folds.md", 6), ("shortest.md", -1)])
def test_a_report_that_is_cut_to_fit(name: str, shape: int, request: pytest.FixtureRequest) -> None:
    hold(name, markdown.compose(report(), markdown.SHAPES[shape]), request)
