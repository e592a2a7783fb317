from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from quant_action.errors import IntegrityError, SpecError
from quant_action.metrics import METRICS, measure_all, metric
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import bonett_price, quantile_interval, t_interval, wilson
from quant_action.metrics.units import spell
from quant_action.values import Values
from tests.unit.subjects import subject

RNG = np.random.default_rng(0)
NLL = RNG.gamma(2.0, 1.5, (24, 31))
KL = RNG.lognormal(-3, 1.5, (24, 31))


def compare(id: str, candidate: Subject, reference: Subject | None = None) -> Difference:
    difference = metric(id).compare(candidate, reference)
    assert difference is not None
    return difference


def ends(difference: Difference) -> tuple[float, float]:
    assert difference.interval is not None
    return difference.interval.low, difference.interval.high


def test_everything_that_values_give_is_measured() -> None:
    top1 = np.less(KL, np.quantile(KL, 0.9))
    values = subject(nll=NLL, kl=KL, top1=top1, items={"x": [True, False], "y": [True] * 6}).values

    measured = {id: (measurement.value, measurement.n) for id, measurement in measure_all(values).items()}

    assert measured == {
        "perplexity": (pytest.approx(math.exp(NLL.sum() / NLL.size)), 24),
        "bits_per_byte": (pytest.approx(NLL.sum() / math.log(2) / (24 * 31 * 4)), 24),
        "kl": (pytest.approx(KL.mean()), 24),
        "kl_p50": (np.quantile(KL, 0.5), 24),
        "kl_p99": (np.quantile(KL, 0.99), 24),
        "kl_p999": (np.quantile(KL, 0.999), 24),
        "top1": (pytest.approx(top1.sum() / 744), 24),
        "accuracy": (7 / 8, 8),
        "accuracy:x": (0.5, 2),
        "accuracy:y": (1.0, 6),
    }


def test_nothing_measured_is_nothing_said() -> None:
    empty = subject()

    assert measure_all(Values(windows=None, items=())) == {}
    assert [known.id for known in METRICS if known.compare(empty, None) is not None] == ["size", "memory"]
    assert [known.id for known in METRICS if known.compare(empty, subject()) is not None] == ["size", "memory"]
    assert metric("accuracy:x").compare(subject(items={"y": [True]}), None) is None


def test_numbers_that_are_not_finite_never_come_out() -> None:
    broken = NLL.copy()
    broken[3, 4] = np.nan
    candidate, reference = subject(nll=broken), subject(nll=NLL, kind="baseline")

    assert "perplexity" not in measure_all(candidate.values)
    for against in (None, reference):
        with pytest.raises(IntegrityError, match="not finite"):
            metric("perplexity").compare(candidate, against)


def test_a_ruined_models_perplexity_is_a_huge_number() -> None:
    difference = compare("perplexity", subject(nll=NLL + 1e5), subject(nll=NLL, kind="baseline"))

    assert difference.value > 1e300
    assert math.isfinite(ends(difference)[1])


def test_perplexity_ratio_is_the_exponential_of_the_paired_difference() -> None:
    noise = RNG.normal(0.05, 0.02, (24, 31))

    difference = compare("perplexity", subject(nll=NLL + noise), subject(nll=NLL, kind="baseline"))

    assert difference.value == pytest.approx(math.exp((NLL + noise).mean()) / math.exp(NLL.mean()))
    expected = stats.t.interval(0.90, 23, loc=noise.mean(), scale=stats.sem(noise.mean(axis=1)))
    assert ends(difference) == pytest.approx(tuple(np.exp(expected)))
    assert (difference.n, difference.unit, difference.samples) == (24, "x", "windows")


def test_perplexity_alone_has_the_interval_of_its_windows() -> None:
    difference = compare("perplexity", subject(nll=NLL))

    assert difference.value == pytest.approx(math.exp(NLL.mean()))
    interval = t_interval(NLL.mean(axis=1))
    assert ends(difference) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert difference.unit == ""


@pytest.mark.parametrize("reference", [None, subject(kl=np.zeros((24, 31)), kind="baseline")], ids=["nothing", "baseline"])
def test_divergence_and_agreement_are_comparisons_with_the_baseline_already(reference: Subject | None) -> None:
    candidate = subject(kl=KL, top1=KL < 0.1)

    kl, p99, top1 = (compare(id, candidate, reference) for id in ("kl", "kl_p99", "top1"))

    expected = t_interval(KL.mean(axis=1)), quantile_interval(KL, 0.99), t_interval((KL < 0.1).mean(axis=1))
    assert [ends(d) for d in (kl, p99, top1)] == [pytest.approx((i.low, i.high)) for i in expected]
    assert [d.value for d in (kl, p99, top1)] == [pytest.approx(KL.mean()), np.quantile(KL, 0.99), pytest.approx((KL < 0.1).mean())]
    assert [d.unit for d in (kl, p99, top1)] == ["nat", "nat", "%"]


@pytest.mark.parametrize("id", ["kl", "kl_p99"])
def test_the_ratio_to_a_release_is_jackknifed_over_windows(id: str) -> None:
    statistic = {"kl": np.mean, "kl_p99": lambda values: np.quantile(values, 0.99)}[id]
    other = KL * RNG.lognormal(0.1, 0.3, KL.shape)

    difference = compare(id, subject(kl=other), subject(kl=KL))

    def log_ratio(keep: Any) -> float:
        return math.log(statistic(other[keep]) / statistic(KL[keep]))

    without = np.array([log_ratio(np.arange(24) != left_out) for left_out in range(24)])
    reach = stats.t.ppf(0.95, 23) * math.sqrt(23 / 24 * ((without - without.mean()) ** 2).sum())
    full = log_ratio(slice(None))
    assert difference.value == pytest.approx(math.exp(full))
    assert ends(difference) == pytest.approx((math.exp(full - reach), math.exp(full + reach)))
    assert difference.unit == "x"


def test_ratios_to_a_perfect_release_are_finite() -> None:
    perfect = subject(kl=np.zeros((24, 31)))

    assert compare("kl", subject(kl=KL), perfect).value == pytest.approx(KL.mean() / 1e-6)
    assert ends(compare("kl", perfect, perfect)) == (1.0, 1.0)


def test_agreement_against_a_release_is_a_paired_difference() -> None:
    mine, theirs = KL < 0.1, KL < 0.12

    difference = compare("top1", subject(top1=mine), subject(top1=theirs))

    interval = t_interval(mine.mean(axis=1) - theirs.mean(axis=1))
    assert difference.value == pytest.approx(mine.mean() - theirs.mean())
    assert ends(difference) == pytest.approx((interval.low, interval.high))
    assert difference.unit == "pp"


def test_accuracy_counts_flips_of_the_same_items() -> None:
    theirs = {"x": [True] * 60 + [False] * 40, "y": [True] * 50}
    mine = {"x": [False] * 6 + [True] * 57 + [False] * 37, "y": [False] + [True] * 49}

    pooled, one = (compare(id, subject(items=mine), subject(items=theirs, kind="baseline")) for id in ("accuracy", "accuracy:x"))

    assert (pooled.value, pooled.n, pooled.unit, pooled.samples) == (pytest.approx(-4 / 150), 150, "pp", "items")
    assert pooled.interval == bonett_price(gains=3, losses=7, n=150)
    assert (one.value, one.interval) == (pytest.approx(-3 / 100), bonett_price(gains=3, losses=6, n=100))


def test_accuracy_alone_has_a_wilson_interval() -> None:
    difference = compare("accuracy:x", subject(items={"x": [True, True, False], "y": [False] * 9}))

    assert (difference.value, difference.interval, difference.unit) == (2 / 3, wilson(successes=2, n=3), "%")


def test_sizes_are_exact() -> None:
    alone = compare("size", subject(size=250))
    ratio = compare("size", subject(size=250), subject(size=1000, kind="baseline"))

    assert (alone.value, alone.interval, alone.unit) == (250, None, "B")
    assert (ratio.value, ratio.interval, ratio.unit) == (0.25, None, "x")


def test_memory_is_the_gpus_where_there_is_one() -> None:
    on_gpu, on_host = subject(peak_memory=7, peak_gpu_memory=3), subject(peak_memory=14)

    assert compare("memory", on_gpu).value == 3
    assert compare("memory", on_host).value == 14
    assert compare("memory", subject(peak_memory=7), on_host).value == 0.5
    assert metric("memory").compare(on_gpu, on_host) is None


@pytest.mark.parametrize(
    ("id", "candidate", "reference", "message"),
    [
        ("perplexity", subject(nll=NLL), subject(nll=NLL[:20]), "24 windows of 31 tokens against 20 windows of 31 tokens"),
        ("kl", subject(kl=KL), subject(kl=KL[:, :30]), "against 24 windows of 30 tokens"),
        ("top1", subject(kl=KL), subject(), "against none"),
        ("kl", subject(kl=KL), subject(kl=KL, protocol="other"), "different protocols"),
        ("kl", subject(kl=KL[:1]), None, "one window"),
        ("accuracy", subject(items={"x": [True, True]}), subject(items={"x": [True]}), "1 task items .* '1' of x"),
        ("accuracy:x", subject(items={"x": [True]}), subject(items={"x": [True]}, protocol="other"), "different protocols"),
    ],
)
def test_values_that_do_not_belong_together_are_refused(id: str, candidate: Subject, reference: Subject | None, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        metric(id).compare(candidate, reference)


def test_every_metric_is_found_by_its_id() -> None:
    assert [metric(known.id) for known in METRICS] == list(METRICS)
    assert len({known.id for known in METRICS}) == len(METRICS)
    assert metric("accuracy:tickets").name == "accuracy on tickets"
    with pytest.raises(SpecError, match="no metric 'perplexitty'"):
        metric("perplexitty")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0834, "x", "×1.083"),
        (1e304, "x", "×1e+304"),
        (-0.0068, "pp", "−0.68 pp"),
        (0.931, "%", "93.10%"),
        (5_100_000_000, "B", "5.1 GB"),
        (12, "B", "12 B"),
        (0.031123, "nat", "0.03112 nat"),
        (12.3456, "", "12.35"),
    ],
)
def test_numbers_are_spelled_with_their_unit(value: float, unit: str, text: str) -> None:
    assert spell(value, unit) == text
