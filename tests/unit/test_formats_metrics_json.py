from __future__ import annotations

import json

import pytest

from quant_action.formats.metrics_json import render
from tests.golden.records import report


def test_numbers_are_flat_sorted_and_nothing_else() -> None:
    numbers = json.loads(render(report()))
    assert list(numbers) == sorted(numbers)
    assert all(isinstance(value, int | float) for value in numbers.values())
    assert numbers["gptq-w4-g128.size"] == 5_120_000_000
    assert numbers["gptq-w4-g128.accuracy:tickets_change"] == pytest.approx(0.0025)


def test_a_ratio_is_the_quotient_of_the_two_values() -> None:
    numbers = json.loads(render(report()))
    assert numbers["awq-w4-g128.perplexity_ratio"] == pytest.approx(
        numbers["awq-w4-g128.perplexity"] / numbers["baseline.perplexity"], rel=1e-5
    )
    assert numbers["awq-w4-g128.size_ratio"] == pytest.approx(5.21 / 16.06, rel=1e-5)


def test_a_candidate_without_results_has_no_numbers() -> None:
    assert not [key for key in json.loads(render(report())) if key.startswith("rtn-w2")]
