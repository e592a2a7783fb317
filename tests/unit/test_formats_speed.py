"""What the reports say of speed."""

from __future__ import annotations

from typing import Any

from quant_action.formats import speed as formats
from quant_action.formats.html import HTML
from quant_action.formats.interface import Report
from quant_action.formats.markdown import MARKDOWN
from quant_action.records import Failure, GpuState
from tests.golden.records import report

from .speeds import case, speed

TIMES = {
    case("prefill", 512): ([0.05] * 10, [0.1] * 10),
    case("decode", 128, 32): ([2.0] * 10, [1.0] * 9 + [1.5]),
}
GPU = GpuState(
    driver="580.159.04",
    clocks=(1755, 1980),
    highest_clock=1980,
    temperature=61,
    power=698.5,
    power_limit=700.0,
    throttled=("software power cap",),
    others=0,
    busy_before=0.0,
)


def told(**changes: Any) -> Report:
    whole = report()
    return whole.model_copy(update={"rows": tuple(row.model_copy(update=changes) for row in whole.rows if row.id == "bnb-nf4")})


def test_a_line_for_each_case() -> None:
    assert formats.lines(told(speed=speed(TIMES)).rows) == [
        ("bnb-nf4", "prefill-512-b1", "×0.500 [0.500, 0.500]", "5,120", "10,240", "100.0 [100.0–100.0]", "50.0 [50.0–50.0]", "10"),
        (
            "bnb-nf4",
            "decode-128-b32",
            "×2.000 [2.000, 2.000]",
            "4,096",
            "2,048",
            "1,000.0 [1,000.0–1,050.0]",
            "2,000.0 [2,000.0–2,000.0]",
            "10",
        ),
    ]


def test_who_ran_it_where_and_when() -> None:
    record = speed(TIMES, gpu=GPU, device="NVIDIA H200", backend="marlin")
    assert formats.notes(told(speed=record).rows) == [
        (
            "bnb-nf4",
            "transformers 5.17.0 with gptqmodel 7.6.0, MarlinLinear × 28 (told backend=marlin), in bfloat16 (baseline bfloat16); "
            "measured 2026-11-23T12:00:00+00:00; NVIDIA H200, driver 580.159.04, 1755 to 1980 MHz, "
            "at most 698 W, at most 61 °C, software power cap.",
        )
    ]


def test_what_is_unstable_is_marked_everywhere() -> None:
    whole = told(speed=speed(TIMES, unstable=("2 other processes on the GPU",), turns="blocks"))
    assert all(line[2].startswith("⚠ ×") for line in formats.lines(whole.rows))
    note = formats.notes(whole.rows)[0][1]
    assert "loaded in turns" in note
    assert note.endswith("⚠ Unstable: 2 other processes on the GPU.")
    assert formats.summaries(whole.rows) == [
        ("bnb-nf4", "⚠ prefill-512-b1 ×0.50, ⚠ decode-128-b32 ×2.00 (baseline ×1); ⚠ unstable, the report says why")
    ]


def test_what_could_not_be_timed_says_why() -> None:
    failure = Failure(
        id="bnb-nf4", stage="speed", kind="EngineError", exit_code=4, message="<b>@everyone</b> it does not load", remedy="See the log."
    )
    whole = told(untimed=failure)
    assert formats.lines(whole.rows) == []
    assert formats.notes(whole.rows) == [("bnb-nf4", "not timed: <b>@everyone</b> it does not load. See the log.")]
    assert "<b>" not in MARKDOWN.render(whole).partition("Speed: ")[2]
    assert "@everyone" not in MARKDOWN.render(whole)
    assert "&lt;b&gt;@everyone" in HTML.render(whole)


def test_both_reports_have_the_table_and_none_where_nothing_was_timed() -> None:
    whole = told(speed=speed(TIMES))
    for form in (MARKDOWN, HTML):
        assert "decode-128-b32" in form.render(whole)
        assert "Speed: beside the baseline" in form.render(whole)
        assert "Speed: beside the baseline" not in form.render(report())
