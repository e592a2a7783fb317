"""The error rates that the judge promises of one gate and one look, held by simulated evaluations.

10,000 verdicts on the same truth; a rate of 5% is then known to within 0.4 points (two standard errors), which every limit here allows for.
Several looks, many gates together and tripwires: tests/unit/test_judge_simulation_looks.py.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from quant_action.judge import gate_outcome, judge
from quant_action.metrics.interface import Difference
from quant_action.metrics.intervals import LEAST_WINDOWS, bonett_price, t_interval
from quant_action.records import GateLimit, Outcome
from tests.unit.subjects import subject

RUNS = 10_000
NOISE = 0.0044
MARGIN = 0.02
GATE = GateLimit(gate="accuracy", metric="accuracy", vs="baseline", bound="min", limit=-MARGIN, where=None)
Z = 1.6448536269514722


def planned_items(flips: float, margin: float) -> int:
    """So many that a candidate which loses nothing passes, and one which loses twice the margin fails, in 95% of the cases."""
    return math.ceil((2 * Z) ** 2 * flips / margin**2)


@cache
def outcome(gains: int, losses: int, n: int) -> Outcome:
    interval = bonett_price(gains=gains, losses=losses, n=n)
    return gate_outcome(GATE, Difference(value=(gains - losses) / n, interval=interval, n=n, unit="pp", samples="items"))


def rates(*, loss: float, flips: float, n: int, seed: int = 0) -> dict[Outcome, float]:
    """Of the outcomes, when items flip with probability `flips` and the true accuracy falls by `loss`."""
    gained, lost = (flips - loss) / 2, (flips + loss) / 2
    draws = np.random.default_rng(seed).multinomial(n, [gained, lost, 1 - flips], RUNS)
    found = [outcome(int(gains), int(losses), n) for gains, losses, _ in draws]
    return {one: found.count(one) / RUNS for one in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)}


@pytest.mark.parametrize("flips", [0.02, 0.05, 0.10])
@pytest.mark.parametrize("n", [20, 100, 500, 2000])
def test_a_candidate_that_loses_nothing_hardly_ever_fails(flips: float, n: int) -> None:
    assert rates(loss=0.0, flips=flips, n=n)[Outcome.FAIL] <= 0.05


@pytest.mark.parametrize("flips", [0.05, 0.10])
@pytest.mark.parametrize("n", [100, 500, 2000])
def test_one_at_the_margin_passes_or_fails_in_five_percent_of_the_cases_at_most(flips: float, n: int) -> None:
    found = rates(loss=MARGIN, flips=flips, n=n)
    assert found[Outcome.PASS] <= 0.05 + NOISE
    assert found[Outcome.FAIL] <= 0.05 + NOISE


@pytest.mark.parametrize("flips", [0.05, 0.10])
def test_at_the_planned_size_both_truths_are_told(flips: float) -> None:
    n = planned_items(flips, MARGIN)
    assert rates(loss=0.0, flips=flips, n=n)[Outcome.PASS] >= 0.95 - 2 * NOISE
    assert rates(loss=2 * MARGIN, flips=flips, n=n)[Outcome.FAIL] >= 0.95 - 2 * NOISE


@pytest.mark.parametrize("n", [1, 5, 20, 50])
def test_few_items_that_all_stay_the_same_settle_nothing(n: int) -> None:
    assert outcome(0, 0, n) is Outcome.INCONCLUSIVE


def test_many_items_that_all_stay_the_same_do() -> None:
    assert outcome(0, 0, 500) is Outcome.PASS


@pytest.mark.parametrize(
    ("shape", "tokens", "limit"), [(60.0, 500, 0.07), (4.0, 60, 0.10)], ids=["as unequal as SmolLM2's", "as unequal as tiny-llama's"]
)
@pytest.mark.parametrize("windows", [LEAST_WINDOWS, 68, 200])
def test_intervals_of_clustered_text_hold_the_truth(windows: int, shape: float, tokens: int, limit: float) -> None:
    """Windows that differ in how much they suffer (coefficients of variation 0.15 and 0.57), and skewed tokens within them."""
    rng, runs = np.random.default_rng(1), 4000
    suffering = rng.gamma(shape, 1 / shape, (runs, windows))
    values = 0.01 * suffering * rng.gamma(0.3 * tokens, 1 / (0.3 * tokens), (runs, windows))
    found = [t_interval(row) for row in values]
    assert sum(interval.low > 0.01 for interval in found) / runs <= 0.05 + 0.007
    assert sum(interval.high < 0.01 for interval in found) / runs <= limit


def test_fewer_windows_than_that_settle_nothing() -> None:
    rng = np.random.default_rng(4)
    for windows, outcome in ((LEAST_WINDOWS - 1, Outcome.INCONCLUSIVE), (LEAST_WINDOWS, Outcome.PASS)):
        nll = rng.gamma(2.0, 1.5, (windows, 60))
        base, same = subject(kind="baseline", nll=nll), subject(nll=nll)
        gate = GateLimit(gate="perplexity_ratio", metric="perplexity", vs="baseline", bound="max", limit=1.05, where=None)
        candidates = {"same": same}
        verdict = judge(
            plan_key="p",
            gates={"same": [gate]},
            baseline=base,
            release=None,
            floor=None,
            candidates=candidates,
            required=(),
            choose="smallest",
        )
        assert verdict.candidates[0].outcome is outcome
        assert ("19 windows are too few to tell, 20 are the least" in verdict.candidates[0].reason) == (outcome is Outcome.INCONCLUSIVE)


def test_a_baseline_against_itself_passes_every_gate() -> None:
    rng = np.random.default_rng(2)
    base = subject(kind="baseline", nll=rng.gamma(2.0, 1.5, (40, 60)), items={"a": list(rng.random(900) < 0.7)})
    gates = [
        GateLimit(gate="perplexity_ratio", metric="perplexity", vs="baseline", bound="max", limit=1.001, where=None),
        GateLimit(gate="kl", metric="kl", vs=None, bound="max", limit=0.0001, where=None),
        GateLimit(gate="top1", metric="top1", vs=None, bound="min", limit=0.999, where=None),
        GATE,
    ]
    verdict = judge(
        plan_key="p",
        gates={"same": gates},
        baseline=base,
        release=None,
        floor=None,
        candidates={"same": subject(nll=base.values.windows.nll, items={"a": list(base.values.correct().values())})},  # type: ignore[union-attr]
        required=(),
        choose="smallest",
    )
    assert [check.outcome for check in verdict.candidates[0].checks] == [Outcome.PASS] * 4
