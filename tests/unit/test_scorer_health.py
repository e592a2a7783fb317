from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.scorer.health import fault_of, loops


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (list(range(8)) * 4, True),
        (list(range(8)) * 3 + list(range(7)), False),
        ([*range(100, 120), *(list(range(8)) * 4), 7, 9], True),
        ([5] * 11, True),
        ([5] * 10, False),
        ([1, 2] * 7, True),
        ([1, 2] * 6, False),
        ([], False),
        (list(range(200)), False),
    ],
)
def test_eight_tokens_that_stand_there_four_times_are_a_loop(ids: list[int], found: bool) -> None:
    assert loops(ids) is found


@given(st.lists(st.integers(0, 3), max_size=60))
def test_loops_are_those_of_the_definition(ids: list[int]) -> None:
    runs = [ids[start : start + 8] for start in range(len(ids) - 7)]
    assert loops(ids) == any(runs.count(run) >= 4 for run in runs)


@pytest.mark.parametrize(
    ("text", "ids", "ended", "fault"),
    [
        ("72", [7, 2], True, None),
        ("72", [7, 2], False, "no end"),
        ("", [], True, "empty"),
        (" \t", [3, 3], False, "empty"),
        ("aaaa", [5] * 32, True, "loop"),
        ("aaaa", [5] * 32, False, "loop"),
    ],
)
def test_the_gravest_fault_is_named(text: str, ids: list[int], ended: bool, fault: str | None) -> None:
    assert fault_of(text, ids, ended=ended) == fault
