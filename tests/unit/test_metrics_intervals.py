from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quant_action.metrics.intervals import LEVEL, bonett_price, exp, jackknife, quantile_interval, t_interval, wilson

Z = 1.6448536269514722


def test_t_interval_is_scipys() -> None:
    values = np.array([0.1, 0.4, -0.2, 0.9, 0.3])

    interval = t_interval(values)

    expected = stats.t.interval(0.90, 4, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-12)
    assert interval.level == 0.90


def test_two_values_give_a_wide_interval_and_one_gives_none() -> None:
    interval = t_interval(np.array([-1.0, 1.0]))

    assert interval.high == pytest.approx(math.tan(math.pi * 0.45))  # the 95% quantile of Cauchy's distribution: t with 1 degree of freedom
    with pytest.raises(ValueError, match="at least two"):
        t_interval(np.array([1.0]))
    with pytest.raises(ValueError, match="at least two"):
        jackknife(1.0, np.array([1.0]))


def test_the_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    without = np.array([np.delete(values, index).mean() for index in range(12)])

    interval, expected = jackknife(float(values.mean()), without), t_interval(values)

    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


@pytest.mark.parametrize(
    ("gains", "losses", "n", "low", "high"),
    [
        # (c + 1) / (n + 2) = p, (b + 1) / (n + 2) = q: p - q -+ z sqrt((p + q - (p - q)^2) / (n + 2)), by hand
        (0, 0, 50, -Z * math.sqrt(2 / 52 / 52), Z * math.sqrt(2 / 52 / 52)),
        (0, 0, 1, -Z * math.sqrt(2 / 9), Z * math.sqrt(2 / 9)),
        (1, 0, 1, 1 / 3 - Z * math.sqrt((1 - 1 / 9) / 3), 1.0),
        (3, 10, 160, -0.08213539741530167, -0.004284355671118081),
    ],
)
def test_bonett_price_by_hand(gains: int, losses: int, n: int, low: float, high: float) -> None:
    interval = bonett_price(gains=gains, losses=losses, n=n)

    assert (interval.low, interval.high) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))


@given(n=st.integers(1, 500), data=st.data())
def test_bonett_price_is_symmetric_never_empty_and_within_reach(n: int, data: st.DataObject) -> None:
    gains = data.draw(st.integers(0, n))
    losses = data.draw(st.integers(0, n - gains))

    interval, mirrored = bonett_price(gains=gains, losses=losses, n=n), bonett_price(gains=losses, losses=gains, n=n)

    assert -1 <= interval.low < interval.high <= 1
    assert (mirrored.low, mirrored.high) == (pytest.approx(-interval.high), pytest.approx(-interval.low))


def test_wilson_is_scipys() -> None:
    for successes, n in ((0, 10), (7, 10), (10, 10), (1, 1), (123, 400)):
        interval = wilson(successes=successes, n=n)
        expected = stats.binomtest(successes, n).proportion_ci(0.90, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def misses(low: np.ndarray, high: np.ndarray, truth: float) -> tuple[float, float]:
    """Shares of intervals that lie wholly above and wholly below the truth."""
    return float((low > truth).mean()), float((high < truth).mean())


def test_bonett_price_bounds_err_in_five_percent_of_simulated_evaluations() -> None:
    lost, gained, n = 0.035, 0.015, 500
    counts = np.random.default_rng(1).multinomial(n, [gained, lost, 1 - gained - lost], size=4000)
    intervals = [bonett_price(gains=int(c), losses=int(b), n=n) for c, b, _ in counts]

    above, below = misses(np.array([i.low for i in intervals]), np.array([i.high for i in intervals]), gained - lost)

    assert 0.03 < above < 0.065
    assert 0.03 < below < 0.065


def test_t_interval_of_window_means_holds_its_level_for_clustered_tokens() -> None:
    rng = np.random.default_rng(2)
    windows = rng.normal(0, 1, (2000, 20, 1)) + rng.normal(0, 3, (2000, 20, 50))
    clustered = [t_interval(windows[run].mean(axis=1)) for run in range(2000)]
    per_token = [t_interval(windows[run].ravel()) for run in range(2000)]

    above, below = misses(np.array([i.low for i in clustered]), np.array([i.high for i in clustered]), 0.0)
    naive = sum(misses(np.array([i.low for i in per_token]), np.array([i.high for i in per_token]), 0.0))

    assert above == pytest.approx(0.05, abs=0.015)
    assert below == pytest.approx(0.05, abs=0.015)
    assert naive > 0.3  # why tokens are never counted as independent


def test_quantile_interval_nearly_holds_its_level_for_clustered_tokens() -> None:
    rng = np.random.default_rng(3)
    values = np.exp(rng.normal(0, 0.5, (400, 24, 1)) + rng.normal(0, 1.5, (400, 24, 128)))
    truth = math.exp(math.hypot(0.5, 1.5) * stats.norm.ppf(0.99))
    intervals = [quantile_interval(values[run], 0.99) for run in range(400)]

    above, below = misses(np.array([i.low for i in intervals]), np.array([i.high for i in intervals]), truth)

    assert above < 0.09
    assert below < 0.11


def test_quantile_interval_of_equal_values_is_that_value() -> None:
    interval = quantile_interval(np.zeros((5, 10)), 0.99)

    assert (interval.low, interval.high, interval.level) == (0.0, 0.0, LEVEL)


def test_exp_stays_finite() -> None:
    assert exp(1.0) == math.e
    assert math.isfinite(exp(1e6))
