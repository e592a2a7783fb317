"""The error rates that the judge promises where it looks several times, has many gates, or has tripwires, held by simulation.

Where only counts matter, many thousands of runs by the formula of `bonett_price` on arrays; where the whole verdict does, hundreds through
`judge` itself.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest

from quant_action.judge import judge, undecided
from quant_action.judge.tripwires import holm
from quant_action.metrics.interface import Subject
from quant_action.metrics.intervals import bonett_price
from quant_action.metrics.looks import looks_level, looks_quantile
from quant_action.records import CandidateVerdict, GateLimit, Outcome
from tests.unit.subjects import subject

RUNS = 60_000
NOISE = 2 * math.sqrt(0.05 * 0.95 / RUNS)
MARGIN = 0.02
PLANS = {"one": (1.0,), "three": (0.25, 0.5, 1.0), "five": (0.2, 0.4, 0.6, 0.8, 1.0)}


def bounds(gains: np.ndarray, losses: np.ndarray, n: int, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Bonett and Price's interval of many evaluations at once."""
    gained, lost = (gains + 1) / (n + 2), (losses + 1) / (n + 2)
    difference = gained - lost
    reach = z * np.sqrt((gained + lost - difference**2) / (n + 2))
    return difference - reach, difference + reach


def test_the_formula_on_arrays_is_that_of_the_interval() -> None:
    z = looks_quantile(PLANS["three"])
    low, high = bounds(np.array([0, 3]), np.array([0, 10]), 160, z)
    for index, (gains, losses) in enumerate([(0, 0), (3, 10)]):
        found = bonett_price(gains=gains, losses=losses, n=160, level=looks_level(PLANS["three"]))
        assert (found.low, found.high) == (pytest.approx(low[index]), pytest.approx(high[index]))


def planned_items(looks: tuple[float, ...], flips: float, margin: float) -> int:
    """So many that a candidate which loses nothing passes, and one which loses twice the margin fails, in 95% of the cases."""
    return math.ceil((looks_quantile(looks) + 1.645) ** 2 * flips / margin**2)


def rates(looks: tuple[float, ...], *, loss: float, flips: float, n: int, z: float | None = None) -> dict[str, float]:
    """Of the outcomes at the first look that decides, and the share of the items that it took."""
    rng = np.random.default_rng(11)
    probabilities = [(flips - loss) / 2, (flips + loss) / 2, 1 - flips]
    z = looks_quantile(looks) if z is None else z
    gains, losses, asked = np.zeros(RUNS, int), np.zeros(RUNS, int), 0
    passed, failed, used = np.zeros(RUNS, bool), np.zeros(RUNS, bool), np.zeros(RUNS)
    for look in looks:
        items = math.ceil(look * n)
        more = rng.multinomial(items - asked, probabilities, RUNS)
        gains, losses, asked = gains + more[:, 0], losses + more[:, 1], items
        still = ~(passed | failed)
        low, high = bounds(gains, losses, items, z)
        used[still] = items / n
        passed |= still & (low >= -MARGIN)
        failed |= still & (high < -MARGIN)
    return {"pass": passed.mean(), "fail": failed.mean(), "used": used.mean()}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("flips", [0.02, 0.05, 0.10])
@pytest.mark.parametrize("n", [40, 500, 2000])
def test_a_candidate_that_loses_nothing_hardly_ever_fails_at_any_look(plan: str, flips: float, n: int) -> None:
    assert rates(PLANS[plan], loss=0.0, flips=flips, n=n)["fail"] <= 0.05


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("flips", [0.05, 0.10])
@pytest.mark.parametrize("n", [400, 2000])
def test_one_at_the_margin_passes_or_fails_in_about_five_percent_of_the_runs_at_most(plan: str, flips: float, n: int) -> None:
    """The formula is an approximation: where most flips are losses the bound that a gate passes by errs in up to 5.6%."""
    found = rates(PLANS[plan], loss=MARGIN, flips=flips, n=n)
    assert found["pass"] <= 0.056 + NOISE
    assert found["fail"] <= 0.05


def test_looking_again_at_the_level_of_one_look_would_err_more_than_twice_as_often() -> None:
    naive = rates(PLANS["five"], loss=MARGIN, flips=0.05, n=2000, z=1.645)
    assert min(naive["pass"], naive["fail"]) > 0.10


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("flips", [0.05, 0.10])
def test_at_the_planned_size_both_truths_are_told(plan: str, flips: float) -> None:
    n = planned_items(PLANS[plan], flips, MARGIN)
    assert rates(PLANS[plan], loss=0.0, flips=flips, n=n)["pass"] >= 0.945
    assert rates(PLANS[plan], loss=2 * MARGIN, flips=flips, n=n)["fail"] >= 0.95


def test_looks_save_most_of_the_items_where_the_loss_is_plain() -> None:
    n = planned_items(PLANS["three"], 0.06, MARGIN)
    assert rates(PLANS["three"], loss=0.055, flips=0.06, n=n)["used"] < 0.35


def test_a_pool_stratified_by_task_errs_no_more_than_a_plain_one() -> None:
    """Three tasks that lose 0, 1 and 8 points: shares of the items as planned, so only flips within the tasks are left to chance."""
    rng, sizes, losses, flips = np.random.default_rng(12), (500, 300, 200), (0.0, 0.01, 0.08), 0.09
    truth = -sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes)
    counts = np.zeros((RUNS, 3), int)
    for size, loss in zip(sizes, losses, strict=True):
        counts += rng.multinomial(size, [(flips - loss) / 2, (flips + loss) / 2, 1 - flips], RUNS)
    low, high = bounds(counts[:, 0], counts[:, 1], sum(sizes), 1.6448536)
    assert (low > truth).mean() <= 0.05 + NOISE
    assert (high < truth).mean() <= 0.05 + NOISE


@pytest.mark.parametrize("n", [1, 2, 5, 10, 30, 100])
def test_the_interval_holds_the_truth_with_few_items_and_no_flips(n: int) -> None:
    """Two-sided coverage, exact: the sum over all possible counts."""
    for gained, lost in ((0.0, 0.0), (0.01, 0.01), (0.02, 0.05), (0.1, 0.2)):
        same = 1 - gained - lost
        covered = 0.0
        for gains in range(n + 1):
            losses = np.arange(n - gains + 1)
            ways = [math.comb(n, gains) * math.comb(n - gains, int(loss)) for loss in losses]
            chance = np.array(ways, float) * gained**gains * lost**losses * same ** (n - gains - losses)
            low, high = bounds(np.array(gains), losses, n, 1.6448536)
            covered += float(chance[(low <= gained - lost) & (gained - lost <= high)].sum())
        assert covered >= 0.885, (gained, lost)


# Tripwires


@pytest.mark.parametrize("plan", ["one", "three"])
def test_many_tripwires_fail_a_candidate_at_all_margins_as_rarely_as_one(plan: str) -> None:
    """Ten tasks that lose exactly the margin, the worst that may pass: how often any of them falls at any look."""
    runs, n, flips, looks = 4000, 600, 0.08, PLANS[plan]
    rng = np.random.default_rng(13)
    probabilities = [(flips - MARGIN) / 2, (flips + MARGIN) / 2, 1 - flips]
    counts, asked = np.zeros((runs, 10, 3), int), 0
    fallen, uncorrected = np.zeros(runs, bool), np.zeros(runs, bool)
    for look in looks:
        items = math.ceil(look * n)
        counts, asked = counts + rng.multinomial(items - asked, probabilities, (runs, 10)), items
        for run in range(runs):
            high_at = {k: bounds(counts[run, :, 0], counts[run, :, 1], items, looks_quantile(looks, 0.05 / k))[1] for k in (1, 10)}
            uncorrected[run] |= bool((high_at[1] < -MARGIN).any())
            fallen[run] |= bool(holm(range(10), lambda task, error, high=high_at: bool(high[10][task] < -MARGIN), error=0.05))
    assert fallen.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert uncorrected.mean() > 0.2  # why they share one error rate


# The whole verdict

SIZES = {"a": 240, "b": 120, "c": 60}
Kind = Literal["baseline", "release", "candidate"]


def limit(gate: str, metric: str, vs: str, at: float, **more: str) -> GateLimit:
    return GateLimit.model_validate({"gate": gate, "metric": metric, "vs": vs, "bound": "min", "limit": at, "where": None} | more)


GATES = [
    limit("accuracy", "accuracy", "release", -0.01),
    limit("accuracy", "accuracy", "baseline", -0.02),
    *(limit("tasks", f"accuracy:{task}", "release", -0.03, family="tasks") for task in SIZES),
    limit("perplexity_ratio", "perplexity", "baseline", 1.01, bound="max"),
    limit("kl_ratio", "kl", "release", 1.10, bound="max"),
    limit("top1", "top1", "release", -0.02),
]


class World:
    """A baseline, and models whose answers differ from it at random, none of them better or worse than the release."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.right = {task: self.rng.random(size) < 0.7 for task, size in SIZES.items()}
        self.nll = self.rng.gamma(2.0, 1.0, (24, 20))
        self.noise = {kind: self.rng.normal(0, 0.05, self.nll.shape) for kind in ("release", "candidate")}
        """Text is measured once, at the first look."""

    def answers(self, flips: float, loss: float) -> dict[str, np.ndarray]:
        """Flips to either side, and losses beside them."""
        found = {}
        for task, right in self.right.items():
            moved = self.rng.random(len(right)) < flips
            lost = self.rng.random(len(right)) < loss
            found[task] = np.where(moved, self.rng.random(len(right)) < 0.5, right) & ~lost
        return found

    def model(self, kind: Kind, answers: dict[str, np.ndarray], *, look: int, looks: tuple[float, ...]) -> Subject:
        share = looks[look - 1] if kind == "candidate" else 1.0
        items = {task: right[: math.ceil(share * len(right))].tolist() for task, right in answers.items()}
        noise = self.noise.get(kind, np.zeros_like(self.nll))
        return subject(
            kind=kind,
            nll=self.nll + noise,
            kl=np.abs(noise),
            top1=np.abs(noise) < 0.1,
            items=items,
            look=look,
            looks=len(looks),
        )


def decided(seed: int, looks: tuple[float, ...], loss: float) -> CandidateVerdict:
    """The verdict on a candidate that goes on from look to look as a run lets it."""
    world = World(seed)
    baseline = world.model("baseline", world.right, look=1, looks=(1.0,))
    release = world.model("release", world.answers(0.06, 0.0), look=1, looks=(1.0,))
    answers = world.answers(0.06, loss)
    for look in range(1, len(looks) + 1):
        candidate = world.model("candidate", answers, look=look, looks=looks)
        verdict = judge(
            plan_key="p",
            gates={"x": GATES},
            baseline=baseline,
            release=release,
            floor=None,
            candidates={"x": candidate},
            required=(),
            choose="smallest",
            looks=looks,
        )
        if not undecided(verdict.candidates[0].checks):
            break
    return verdict.candidates[0]


@pytest.mark.parametrize("plan", ["one", "three"])
def test_all_gates_together_hardly_ever_fail_a_candidate_that_is_like_the_release(plan: str) -> None:
    runs = 40
    outcomes = [decided(seed, PLANS[plan], 0.0).outcome for seed in range(runs)]
    assert outcomes.count(Outcome.FAIL) / runs <= 0.05


@pytest.mark.parametrize("plan", ["one", "three"])
def test_all_gates_together_catch_one_that_loses_much(plan: str) -> None:
    runs = 15
    found = [decided(seed, PLANS[plan], 0.2) for seed in range(runs)]
    assert [one.outcome for one in found].count(Outcome.FAIL) / runs >= 0.95
    assert sum(one.outcome is Outcome.PASS for one in found) == 0
