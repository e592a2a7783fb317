"""Flips, and the change of the true token's probability."""

from __future__ import annotations

import numpy as np
import pytest

from quant_action.errors import IntegrityError
from quant_action.metrics import metric
from quant_action.metrics.flips import Flips
from quant_action.metrics.probability import ProbabilityChange
from tests.unit.subjects import subject

RNG = np.random.default_rng(3)
BASE = RNG.gamma(2.0, 1.0, (9, 30))
MOVED = np.maximum(BASE + RNG.normal(0.05, 0.2, BASE.shape), 0.0)


def test_flips_count_both_ways() -> None:
    base = subject(kind="baseline", items={"a": [True, True, False, False], "b": [True]})
    moved = subject(items={"a": [True, False, True, False], "b": [True]})
    found = Flips().compare(moved, base)
    assert found is not None
    assert (found.value, found.n, found.samples, found.unit) == (2 / 5, 5, "items", "%")
    assert found.interval is not None
    assert 0 < found.interval.low < 0.4 < found.interval.high < 1


def test_equal_accuracy_does_not_hide_flips() -> None:
    base, moved = subject(kind="baseline", items={"a": [True, False] * 50}), subject(items={"a": [False, True] * 50})
    accuracy, flips = metric("accuracy").compare(moved, base), metric("flips").compare(moved, base)
    assert accuracy is not None
    assert flips is not None
    assert (accuracy.value, flips.value) == (0.0, 1.0)


def test_no_flip_is_not_certainty() -> None:
    answers = {"a": [True] * 50}
    found = Flips().compare(subject(items=answers), subject(kind="baseline", items=answers))
    assert found is not None
    assert found.interval is not None
    assert found.value == 0
    assert found.interval.low == pytest.approx(0, abs=1e-12)
    assert 0.03 < found.interval.high < 0.07


@pytest.mark.parametrize("rms", [False, True])
def test_probabilities_are_those_of_the_textbook(rms: bool) -> None:
    changes = [float(np.exp(-mine) - np.exp(-theirs)) for mine, theirs in zip(MOVED.ravel(), BASE.ravel(), strict=True)]
    expected = (sum(change**2 for change in changes) / len(changes)) ** 0.5 if rms else sum(changes) / len(changes)
    found = ProbabilityChange(rms=rms).compare(subject(nll=MOVED), subject(kind="baseline", nll=BASE))
    assert found is not None
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert (found.n, found.samples, found.unit) == (9, "windows", "pp")
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high


def test_the_interval_of_the_mean_is_that_of_window_means() -> None:
    means = (np.exp(-MOVED) - np.exp(-BASE)).mean(axis=1)
    reach = 1.8595480375 * means.std(ddof=1) / 3  # t, 8 degrees of freedom, 0.95
    found = ProbabilityChange(rms=False).compare(subject(nll=MOVED), subject(kind="baseline", nll=BASE))
    assert found is not None
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((means.mean() - reach, means.mean() + reach))


@pytest.mark.parametrize("id", ["flips", "dp_mean", "dp_rms"])
def test_two_models_are_needed(id: str) -> None:
    assert metric(id).compare(subject(nll=BASE, items={"a": [True]}), None) is None


def test_other_items_are_an_error() -> None:
    with pytest.raises(IntegrityError, match="stand in only one of two evaluations"):
        Flips().compare(subject(items={"a": [True]}), subject(kind="baseline", items={"a": [True, True]}))


@pytest.mark.parametrize(("id", "quantile"), [("kl_p50", 0.5), ("kl_p99", 0.99), ("kl_p999", 0.999)])
def test_quantiles_of_the_divergence(id: str, quantile: float) -> None:
    kl = RNG.gamma(0.3, 0.1, (20, 200))
    candidate = subject(kl=kl)
    assert candidate.evaluation.metrics[id].value == pytest.approx(float(np.quantile(kl, quantile)))
    found = metric(id).compare(candidate, None)
    assert found is not None
    assert found.interval is not None
    assert found.interval.low <= found.value <= found.interval.high
