from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.guide import GOALS, GUIDE, HARDWARE, SUGGESTIONS, fitting_group_size, guide_table

ROOT = Path(__file__).parents[2]


def test_every_question_has_an_answer_of_two_candidates_or_more() -> None:
    assert set(GUIDE) == set(product(GOALS, (True, False), HARDWARE))
    assert all(len(set(names)) == len(names) >= 2 for names in GUIDE.values())
    assert {name for names in GUIDE.values() for name in names} == set(SUGGESTIONS)


@pytest.mark.parametrize("case", GUIDE)
def test_without_calibration_data_nothing_is_suggested_that_needs_it(case: tuple[str, bool, str]) -> None:
    methods = {SUGGESTIONS[name].options["method"] for name in GUIDE[case]}  # type: ignore[index]
    assert bool(methods & {"gptq", "awq"}) == case[1]


def test_the_readme_shows_the_guide() -> None:
    assert f"<!-- guide -->\n{guide_table()}\n<!-- /guide -->" in (ROOT / "README.md").read_text()


def test_the_reasons_agree_with_what_was_measured() -> None:
    table = (ROOT / "README.md").read_text().partition("| method | CPU seconds |")[2].partition("\n\n")[0]
    measured = {name: float(ratio) for name, ratio in re.findall(r"^\| ([^|]+?) \| \d+ \| ([\d.]+) \|", table, re.MULTILINE)}
    example = dict(
        re.findall(r"^\| ([\w-]+) \| \d+ MB \| [\d.]+ \| ([\d.]+) \|", (ROOT / "examples/smollm2/README.md").read_text(), re.MULTILINE)
    )
    best, gptq, awq, rtn = (
        measured[f"native {name}"] for name in ("best-w4", "GPTQ, symmetric (default)", "AWQ (default)", "RTN, symmetric")
    )
    nf4, int8 = float(example["bnb-nf4"]), float(example["bnb-int8"])
    assert int8 < best < gptq < awq < nf4 < rtn
    assert min(measured.values()) == best
    assert awq - gptq < 0.1 * (rtn - gptq)  # "far ahead of plain rounding", "a little behind GPTQ"


@given(st.lists(st.integers(1, 64).map(lambda width: width * 8), min_size=1))
def test_the_group_size_divides_every_layer_and_no_larger_one_does(widths: list[int]) -> None:
    size = fitting_group_size(widths)
    fits = [size for size in (128, 64, 32, 16) if all(width % size == 0 for width in widths)]
    assert size == (fits[0] if fits else "channel")
