from __future__ import annotations

import io

import pytest
from rich.console import Console

from quant_action.formats.interface import Report
from quant_action.formats.terminal import print_report
from tests.golden.records import report


def printed(report: Report, width: int, encoding: str = "utf-8", *, terminal: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_report(report, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_the_verdict_is_the_first_line() -> None:
    assert printed(report(), 80).splitlines()[0] == "✅ Approved: release gptq-w4-g128"


def test_at_80_columns_each_model_is_one_line() -> None:
    lines = printed(report(), 80, terminal=True).splitlines()
    assert max(map(len, lines)) <= 80
    rule = next(index for index, line in enumerate(lines) if line.startswith("──"))
    assert [line.split()[0] for line in lines[rule + 1 : rule + 8]] == [
        "baseline",
        "gptq-w4-g128",
        "awq-w4-g128",
        "bnb-int8",
        "bnb-nf4",
        "gptq-w3-g128",
        "rtn-w2",
    ]


def test_the_runtime_check_is_a_line_per_candidate_where_it_is_asked_for() -> None:
    lines = [line for line in printed(report(), 80).splitlines() if line.startswith("runtime of ")]
    assert len(lines) == 6
    assert lines[1].startswith("runtime of awq-w4-g128: ✅ computes what was scored: AwqMarlinLinear × 224 (")
    assert lines[5] == "runtime of rtn-w2: ⛔ not reached"
    assert "runtime of" not in printed(report().model_copy(update={"runtime": None}), 80)


def test_a_wide_console_shows_intervals() -> None:
    assert "×1.021 [1.019, 1.024]" in printed(report(), 140)
    assert "×1.021 [1.019, 1.024]" not in printed(report(), 80)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_console_that_is_not_unicode_keeps_the_words(encoding: str) -> None:
    text = printed(report(), 80, encoding)
    assert text.startswith("Approved: release gptq-w4-g128\n")
    assert "not evaluated" in text
    assert "x1.021" in text


def test_markup_and_control_sequences_in_text_are_only_text() -> None:
    hostile = report().model_copy(update={"reason": "[bold red]\x1b[2Jgone[/]", "model": "[link=https://evil.example]x[/link]"})
    text = printed(hostile, 200)
    assert "[bold red][2Jgone[/]." in text
    assert "[link=https://evil.example]x[/link]" in text
    assert "\x1b" not in text
