"""The ratio of two models' times: what it is, how often its interval holds the truth, and what the order of runs does to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quant_action.judge import gate_outcome, judge
from quant_action.metrics import metric
from quant_action.metrics.interface import Subject
from quant_action.metrics.intervals import t_interval
from quant_action.metrics.speed import times_as_fast
from quant_action.records import GateLimit, Outcome, Speed

from .speeds import case, speed, timed
from .subjects import subject

BASELINE = subject(kind="baseline")
DECODE = GateLimit(gate="decode", metric="decode", vs="baseline", bound="min", limit=0.9, where=None)


def candidate(record: Speed | None) -> Subject:
    return replace(subject(), speed=record)


def test_twice_as_fast_is_a_ratio_of_two() -> None:
    found = metric("decode").compare(candidate(speed({case("decode", 128): ([0.2] * 10, [0.1] * 10)})), BASELINE)
    assert found is not None
    assert (found.value, found.unit, found.n, found.samples) == (2.0, "x", 10, "pairs")
    assert found.interval is not None
    assert (found.interval.low, found.interval.high, found.interval.level) == (2.0, 2.0, 0.9)


def test_the_first_case_of_a_phase_is_judged() -> None:
    record = speed(
        {
            case("prefill", 512): ([1.0] * 6, [2.0] * 6),
            case("prefill", 512, 32): ([1.0] * 6, [4.0] * 6),
            case("decode", 128): ([1.0] * 6, [0.5] * 6),
        }
    )
    ratios = {id: metric(id).compare(candidate(record), BASELINE) for id in ("prefill", "decode")}
    assert {id: found and found.value for id, found in ratios.items()} == {"prefill": 0.5, "decode": 2.0}


@pytest.mark.parametrize(
    ("record", "reference"),
    [
        (None, BASELINE),
        (speed({case("prefill", 512): ([1.0] * 6, [1.0] * 6)}), BASELINE),
        (speed({case("decode", 128): ([1.0] * 6, [1.0] * 6)}), None),
        (speed({case("decode", 128): ([1.0] * 6, [1.0] * 6)}), subject(kind="candidate")),
    ],
    ids=["not timed", "only the other phase", "beside nothing", "beside what it was not timed with"],
)
def test_without_times_beside_the_baseline_there_is_no_comparison(record: Speed | None, reference: Subject | None) -> None:
    assert metric("decode").compare(candidate(record), reference) is None


@pytest.mark.parametrize(
    ("seconds", "unstable", "outcome"),
    [
        ([0.1] * 10, (), Outcome.PASS),
        ([0.15] * 10, (), Outcome.FAIL),
        ([0.1, 0.12] * 5, (), Outcome.INCONCLUSIVE),
        ([0.1] * 10, ("2 other processes on the GPU",), Outcome.INCONCLUSIVE),
        ([0.15] * 10, ("2 other processes on the GPU",), Outcome.INCONCLUSIVE),
    ],
)
def test_times_of_a_disturbed_machine_settle_nothing(seconds: list[float], unstable: tuple[str, ...], outcome: Outcome) -> None:
    found = metric("decode").compare(candidate(speed({case("decode", 128): ([0.1] * 10, seconds)}, unstable=unstable)), BASELINE)
    assert found is not None
    assert gate_outcome(DECODE, found) is outcome
    assert found.unstable == "".join(unstable)


@pytest.mark.parametrize(
    ("unstable", "outcome", "reason"),
    [
        ((), Outcome.FAIL, "decode speed ×0.667 [0.667, 0.667] against the baseline is below ×0.900"),
        (
            ("2 other processes on the GPU",),
            Outcome.INCONCLUSIVE,
            "decode speed ×0.667 [0.667, 0.667] against the baseline may or may not be below ×0.900; "
            "it is not to be relied on: 2 other processes on the GPU",
        ),
    ],
)
def test_a_gate_on_speed_says_why_it_is_open_and_is_never_void(unstable: tuple[str, ...], outcome: Outcome, reason: str) -> None:
    """The floor has no times, and no number of pairs settles what was disturbed."""
    verdict = judge(
        plan_key="p",
        gates={"c": [DECODE]},
        baseline=BASELINE,
        release=None,
        floor=subject(kind="floor"),
        candidates={"c": candidate(speed({case("decode", 128): ([0.1] * 10, [0.15] * 10)}, unstable=unstable))},
        required=(),
        choose="smallest",
        looks=(0.5, 1.0),
    )
    (check,) = verdict.candidates[0].checks
    assert (check.outcome, check.reason, check.needed, check.look) == (outcome, reason, None, None)
    assert [found.outcome for found in verdict.floor] == [Outcome.NOT_APPLICABLE]


def test_too_few_pairs_have_no_interval() -> None:
    with pytest.raises(ValueError, match="4 and 4 runs are no 5 pairs"):
        times_as_fast(timed(case("decode", 128), [1.0] * 4, [1.0] * 4))


# What the interval is worth -------------------------------------------------------------------------------------------

TRUE = 1.2


class Machine:
    """Runs that scatter by 1%; one in `interrupted` of them takes much longer; over a whole measurement it slows down by `drift`."""

    def __init__(self, seed: int, *, interrupted: float = 0.0, drift: float = 0.0) -> None:
        self.random, self.interrupted, self.drift = np.random.default_rng(seed), interrupted, drift

    def measured(self, order: str) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of a and of b, run in this order; a takes `TRUE` times as long."""
        runs = len(order)
        noise = self.random.normal(0, 0.01, runs) + (self.random.random(runs) < self.interrupted) * self.random.exponential(0.3, runs)
        slower = self.drift * np.arange(runs) / (runs - 1)
        seconds = np.exp(noise + slower) * np.where(np.array(list(order)) == "a", TRUE, 1.0)
        return seconds[[who == "a" for who in order]], seconds[[who == "b" for who in order]]


ALTERNATING, FIXED, SEQUENTIAL = "abba" * 5, "ab" * 10, "a" * 10 + "b" * 10


def held(order: str, **machine: float) -> tuple[float, float]:
    """Share of 400 measurements whose interval holds the truth, and the median width of the intervals."""
    found = [times_as_fast(timed(case("decode", 1), *Machine(seed, **machine).measured(order)))[1] for seed in range(400)]
    return float(np.mean([one.low <= TRUE <= one.high for one in found])), float(np.median([one.high - one.low for one in found]))


@pytest.mark.parametrize("machine", [{}, {"interrupted": 0.1}, {"drift": 0.02}, {"drift": 0.1}, {"interrupted": 0.1, "drift": 0.1}])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(machine: dict[str, float]) -> None:
    coverage, _ = held(ALTERNATING, **machine)
    assert coverage >= 0.87  # 0.90 and three standard errors, rounded


def test_on_a_machine_that_slows_down_only_turns_that_alternate_hold_the_truth() -> None:
    """By a tenth from the first run to the last: run one after the other, b is charged for half of that; in a fixed order for a step."""

    def bias(order: str) -> float:
        return float(np.median([np.median(a) / np.median(b) for a, b in (Machine(seed, drift=0.1).measured(order) for seed in range(400))]))

    assert bias(SEQUENTIAL) == pytest.approx(TRUE * np.exp(-0.1 * 10 / 19), rel=0.002)
    assert bias(FIXED) == pytest.approx(TRUE * np.exp(-0.1 / 19), rel=0.002)
    assert bias(ALTERNATING) == pytest.approx(TRUE, rel=0.002)
    assert held(SEQUENTIAL, drift=0.1)[0] < 0.05


def test_one_interrupted_run_in_ten_widens_the_interval_of_medians_less_than_that_of_students_t() -> None:
    def width(seed: int) -> float:
        a, b = Machine(seed, interrupted=0.1).measured(ALTERNATING)
        interval = t_interval(np.log(a / b))
        return float(np.exp(interval.high) - np.exp(interval.low))

    students = float(np.median([width(seed) for seed in range(400)]))
    assert students > 3 * held(ALTERNATING, interrupted=0.1)[1]
    assert times_as_fast(timed(case("decode", 1), *Machine(1).measured(ALTERNATING)))[1].method == "bootstrap over pairs"


def test_in_a_fixed_order_students_interval_misses_the_truth_one_time_in_four() -> None:
    intervals = []
    for seed in range(400):
        a, b = Machine(seed, drift=0.1).measured(FIXED)
        intervals.append(t_interval(np.log(a / b)))
    assert np.mean([one.low <= np.log(TRUE) <= one.high for one in intervals]) < 0.8
