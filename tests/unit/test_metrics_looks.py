"""The constant of several looks, against the multivariate normal distribution, simulation and the published figures."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.looks import ERROR, looks_level, looks_quantile

FIVE = [0.2, 0.4, 0.6, 0.8, 1]


def correlations(looks: list[float]) -> np.ndarray:
    """Of the standardised sums at the looks: the root of the earlier share over the later."""
    correlation: np.ndarray = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    return correlation


@pytest.mark.parametrize(
    ("looks", "z"),
    [
        ([1], 1.6449),
        (FIVE, 2.122),  # Pocock (1977), table 1: five looks, 10% two-sided
        ([0.5, 1], 1.875),  # the same, two looks
        ([tenth / 10 for tenth in range(1, 11)], 2.270),  # and ten
        ([0.25, 0.5, 1], 2.018),
    ],
)
def test_the_constant_of_looks(looks: list[float], z: float) -> None:
    assert looks_quantile(looks) == pytest.approx(z, abs=0.001)


@pytest.mark.parametrize("error", [0.05, 0.05 / 7])
@pytest.mark.parametrize("looks", [[0.25, 0.5, 1], [0.01, 0.02, 1], [0.9, 0.95, 1], FIVE], ids=str)
def test_it_is_crossed_as_often_as_promised(looks: list[float], error: float) -> None:
    z = looks_quantile(looks, error)
    inside = multivariate_normal.cdf(np.full(len(looks), z), cov=correlations(looks), abseps=1e-6, releps=1e-6, maxpts=200_000)
    assert 1 - inside == pytest.approx(error, abs=1e-4)


def test_looking_again_at_the_constant_of_one_look_errs_more_than_twice_as_often() -> None:
    inside = multivariate_normal.cdf(np.full(5, looks_quantile([1])), cov=correlations(FIVE), abseps=1e-4)
    assert 1 - inside == pytest.approx(0.12, abs=0.01)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 99), max_size=5, unique=True), st.sampled_from([0.05, 0.005]))
def test_more_looks_ask_for_more_and_never_for_more_than_bonferroni(shares: list[int], error: float) -> None:
    looks = [*(share / 100 for share in sorted(shares)), 1.0]
    one, all_apart = NormalDist().inv_cdf(1 - error), NormalDist().inv_cdf(1 - error / len(looks))
    assert one <= looks_quantile(looks, error) <= all_apart + 1e-6


def test_the_level_of_one_look_is_that_of_every_interval() -> None:
    assert looks_level([1.0]) == LEVEL == 1 - 2 * ERROR
    assert looks_level([0.25, 0.5, 1]) == pytest.approx(2 * NormalDist().cdf(2.01774) - 1, abs=1e-6)


@pytest.mark.parametrize("looks", [[], [0.5], [0.5, 0.5, 1], [1, 0.5], [0.0, 1], [-1, 1]])
def test_shares_that_do_not_rise_to_one_are_refused(looks: list[float]) -> None:
    with pytest.raises(ValueError, match="rise to 1"):
        looks_quantile(looks)
