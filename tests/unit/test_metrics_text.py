"""Bits per byte, slices of the text, and long documents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quant_action.errors import IntegrityError, SpecError
from quant_action.metrics import metric
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import jackknife, t_interval
from tests.unit.subjects import subject

RNG = np.random.default_rng(1)
NLL, KL = RNG.gamma(2.0, 1.5, (24, 31)), RNG.lognormal(-3, 1.0, (24, 31))
BYTES = RNG.integers(60, 200, 24)
SLICES = ["ja", "en"] * 8 + [""] * 8


def compare(id: str, candidate: Subject, reference: Subject | None = None) -> Difference:
    found = metric(id).compare(candidate, reference)
    assert found is not None
    return found


def test_bits_per_byte_is_the_whole_text_s() -> None:
    candidate = subject(nll=NLL, bytes=BYTES)
    found = compare("bits_per_byte", candidate)
    assert found.value == pytest.approx(NLL.sum() / math.log(2) / BYTES.sum())
    assert candidate.evaluation.metrics["bits_per_byte"].value == pytest.approx(found.value)
    assert (found.unit, found.n) == ("bit/B", 24)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high


def test_bits_per_byte_against_a_reference_is_a_ratio() -> None:
    found = compare("bits_per_byte", subject(nll=1.02 * NLL, bytes=BYTES), subject(nll=NLL, bytes=BYTES, kind="baseline"))
    assert (found.value, found.unit) == (pytest.approx(1.02), "x")
    moved = NLL + RNG.normal(0, 0.1, NLL.shape)
    sums, others = moved.sum(axis=1), NLL.sum(axis=1)
    log_ratios = np.array([math.log((sums.sum() - sums[n]) / (others.sum() - others[n])) for n in range(24)])
    expected = jackknife(math.log(sums.sum() / others.sum()), log_ratios)
    found = compare("bits_per_byte", subject(nll=moved, bytes=BYTES), subject(nll=NLL, bytes=BYTES))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(math.exp(expected.low)), pytest.approx(math.exp(expected.high)))


def test_text_without_bytes_has_no_bits_per_byte() -> None:
    special = subject(nll=NLL, bytes=np.zeros(24, dtype=np.int64))
    assert "bits_per_byte" not in special.evaluation.metrics
    assert metric("bits_per_byte").compare(special, None) is None


def test_a_slice_is_measured_by_its_own_windows() -> None:
    candidate, base = subject(nll=NLL + 0.05 * KL, kl=KL, slices=SLICES), subject(nll=NLL, slices=SLICES, kind="baseline")
    of_ja = [n for n, name in enumerate(SLICES) if name == "ja"]
    assert {id for id in candidate.evaluation.metrics if "@" in id} == {"perplexity@ja", "perplexity@en", "kl@ja", "kl@en"}
    assert candidate.evaluation.metrics["kl@ja"].value == pytest.approx(KL[of_ja].mean())
    assert candidate.evaluation.metrics["perplexity"].value == pytest.approx(math.exp((NLL + 0.05 * KL).mean()))
    kl, ratio = compare("kl@ja", candidate, base), compare("perplexity@ja", candidate, base)
    assert kl.interval is not None
    assert (kl.value, kl.n, kl.interval.high) == (
        pytest.approx(KL[of_ja].mean()),
        8,
        pytest.approx(t_interval(KL[of_ja].mean(axis=1)).high),
    )
    assert (ratio.value, ratio.n) == (pytest.approx(math.exp((0.05 * KL[of_ja]).mean())), 8)


def test_slices_that_differ_are_refused() -> None:
    with pytest.raises(IntegrityError, match="they are of other text"):
        metric("perplexity").compare(subject(nll=NLL, slices=SLICES), subject(nll=NLL, slices=SLICES[::-1]))
    with pytest.raises(IntegrityError, match="they are of other text"):
        metric("perplexity").compare(subject(nll=NLL, bytes=BYTES), subject(nll=NLL))


def test_a_slice_that_was_not_measured_gives_nothing() -> None:
    candidate = subject(nll=NLL, slices=SLICES)
    assert metric("kl@de").compare(candidate, None) is None
    assert metric("perplexity@de").compare(candidate, candidate) is None


@pytest.mark.parametrize("id", ["kl@", "accuracy:", "top1@ja", "kl_long@ja", "@ja"])
def test_no_other_metric_has_slices(id: str) -> None:
    with pytest.raises(SpecError, match="there is no metric"):
        metric(id)


def test_a_slice_may_have_any_name() -> None:
    odd = "a@b: <c>`"
    candidate = subject(kl=KL, slices=[odd] * 24)
    assert compare(f"kl@{odd}", candidate).value == pytest.approx(KL.mean())


def test_the_ends_of_long_documents_are_compared_document_by_document() -> None:
    ends = RNG.lognormal(-2, 1.0, (9, 40))
    candidate, other = subject(long_kl=ends), subject(long_kl=1.5 * ends)
    found = compare("kl_long", candidate)
    interval = t_interval(ends.mean(axis=1))
    assert found.interval is not None
    assert (found.value, found.n, found.samples) == (pytest.approx(ends.mean()), 9, "documents")
    assert (found.interval.low, found.interval.method) == (pytest.approx(interval.low), "t over documents")
    assert set(candidate.evaluation.metrics) == {"kl_long"}
    ratio = compare("kl_long", other, candidate)
    assert (ratio.value, ratio.unit) == (pytest.approx(1.5), "x")
    assert metric("kl").compare(candidate, None) is None
