"""The exact files of one imagined run. After a change that is meant: `pytest tests/golden --update-golden`, and read the diff."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.formats import FORMATS
from quant_action.formats.interface import Format
from tests.golden.records import report


@pytest.mark.parametrize("format", [format for format in FORMATS if format.name != "html"], ids=lambda format: format.file)
def test_a_report_is_rendered_to_the_byte(format: Format, request: pytest.FixtureRequest) -> None:
    golden = Path(__file__).with_name(format.file)
    rendered = format.render(report())
    if request.config.getoption("--update-golden"):
        golden.write_text(rendered, encoding="utf-8")
    assert rendered == golden.read_text(encoding="utf-8")
