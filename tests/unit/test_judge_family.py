"""Tripwires on tasks and slices, warnings, the floor, and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.judge import judge
from quant_action.judge.tripwires import holm
from quant_action.metrics.interface import Subject
from quant_action.records import CandidateVerdict, Decision, Failure, GateLimit, Outcome, Override, Verdict
from tests.unit.subjects import subject

N = 400
TASKS = [f"t{number}" for number in range(8)]
BASELINE = subject(kind="baseline", items={task: [True] * N for task in TASKS})


def losing(**losses: int) -> Subject:
    """A candidate that loses so many items of tasks, and none of the others."""
    return subject(items={task: [False] * losses.get(task, 0) + [True] * (N - losses.get(task, 0)) for task in TASKS}, size=10)


def limit(metric: str, at: float, **more: Any) -> GateLimit:
    values = {"gate": metric, "metric": metric, "vs": "baseline", "bound": "min", "limit": at, "where": None}
    return GateLimit.model_validate(values | more)


TRIPWIRES = [limit(f"accuracy:{task}", -0.03, gate="tasks", family="tasks") for task in TASKS]
ACCURACY = limit("accuracy", -0.02)
SIZE = limit("size", 5, vs=None, bound="max")


def verdict(candidate: Subject | Failure, gates: Sequence[GateLimit], **more: Any) -> Verdict:
    values: dict[str, Any] = {"release": None, "floor": None, "required": (), "choose": "smallest"}
    return judge(plan_key="p", gates={"x": gates}, baseline=BASELINE, candidates={"x": candidate}, **(values | more))


def judged(candidate: Subject | Failure, gates: Sequence[GateLimit], **more: Any) -> CandidateVerdict:
    return verdict(candidate, gates, **more).candidates[0]


# Tripwires


def test_a_task_that_surely_loses_too_much_fails_the_candidate() -> None:
    found = judged(losing(t3=40), [ACCURACY, *TRIPWIRES])
    assert [check.outcome for check in found.checks] == [Outcome.PASS] * 4 + [Outcome.FAIL] + [Outcome.PASS] * 4
    assert found.outcome is Outcome.FAIL
    assert found.reason == "accuracy on t3 −10.00 pp [−12.47, −7.43] against the baseline is below −3.00 pp"


def test_one_of_many_that_fails_only_by_itself_does_not() -> None:
    alone = judged(losing(t3=21), [TRIPWIRES[3]])
    assert alone.outcome is Outcome.FAIL
    found = judged(losing(t3=21), [ACCURACY, *TRIPWIRES])
    assert found.checks[4].outcome is Outcome.INCONCLUSIVE
    assert "is below −3.00 pp by itself, but not with certainty where one of 8 tripwires may be so by chance" in found.checks[4].reason
    assert (found.outcome, found.reason) == (Outcome.PASS, "8 of 9 gates that apply pass, 1 tripwire is open")


def test_tripwires_that_fall_leave_their_share_to_the_others() -> None:
    gates = TRIPWIRES[:3]
    assert judged(losing(t0=22), gates).checks[0].outcome is Outcome.INCONCLUSIVE
    assert judged(losing(t0=22, t1=60, t2=60), gates).checks[0].outcome is Outcome.FAIL


def test_open_tripwires_never_block_a_candidate_that_something_else_speaks_for() -> None:
    found = judged(losing(t0=10, t1=10), [ACCURACY, *TRIPWIRES])
    assert [check.outcome for check in found.checks[:3]] == [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE]
    assert found.checks[1].needed is not None
    assert (found.outcome, found.reason) == (Outcome.PASS, "7 of 9 gates that apply pass, 2 tripwires are open")


def test_where_there_is_nothing_but_tripwires_an_open_one_blocks() -> None:
    assert judged(losing(t0=10), TRIPWIRES).outcome is Outcome.INCONCLUSIVE
    assert judged(losing(), TRIPWIRES).outcome is Outcome.PASS


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=12))
def test_holm_is_the_textbook_s(values: list[float]) -> None:
    rejected = holm(range(len(values)), lambda one, error: values[one] <= error, error=0.05)
    textbook: set[int] = set()
    for rank, one in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[one] > 0.05 / (len(values) - rank):
            break
        textbook.add(one)
    assert {values[one] for one in rejected} == {values[one] for one in textbook}


# Warnings


def test_a_warning_is_shown_and_never_decides() -> None:
    warned = SIZE.model_copy(update={"level": "warn"})
    found = judged(losing(), [ACCURACY, warned])
    assert [(check.outcome, check.level) for check in found.checks] == [(Outcome.PASS, "error"), (Outcome.FAIL, "warn")]
    assert (found.outcome, found.reason) == (Outcome.PASS, "the one gate that applies passes")
    alone = judged(losing(), [SIZE.model_copy(update={"level": "warn", "limit": 50.0})])
    assert (alone.outcome, alone.reason) == (Outcome.INCONCLUSIVE, "none of its gates applies, so nothing speaks for it")


# The floor

OFF = subject(kind="floor", items={task: [False] * 20 + [True] * (N - 20) for task in TASKS}, size=10)


def test_a_gate_that_the_baseline_fails_against_itself_is_void_and_the_run_broken() -> None:
    found = verdict(losing(), [ACCURACY, limit("size", 50, vs=None, bound="max")], floor=OFF, required=["x"])
    assert (found.decision, found.winner) == (Decision.BROKEN, None)
    assert found.reason == (
        "the baseline does not pass against itself, so nothing is decided: "
        "accuracy −5.00 pp [−5.63, −4.36] against the baseline is below −2.00 pp"
    )
    assert [(check.gate, check.outcome) for check in found.floor] == [("accuracy", Outcome.FAIL)]
    (candidate,) = found.candidates
    assert [check.outcome for check in candidate.checks] == [Outcome.VOID, Outcome.PASS]
    assert candidate.outcome is Outcome.VOID
    assert candidate.checks[0].reason.startswith("fails on the baseline measured again, so it says nothing: accuracy −5.00 pp")
    assert Verdict.from_json(found.to_json(), where="x") == found


def test_a_floor_that_agrees_changes_nothing_but_is_shown() -> None:
    same = subject(kind="floor", items={task: [True] * N for task in TASKS}, size=10**9)
    found = verdict(losing(), [ACCURACY, *TRIPWIRES, limit("size", 50, vs=None, bound="max")], floor=same)
    assert found.decision is Decision.APPROVED
    assert [check.outcome for check in found.floor] == [Outcome.PASS] * 9


def test_a_floor_that_is_not_settled_voids_nothing() -> None:
    few = subject(kind="baseline", items={"t": [True] * 20})
    found = judge(
        plan_key="p",
        gates={"x": [ACCURACY]},
        baseline=few,
        release=None,
        floor=subject(kind="floor", items={"t": [True] * 20}),
        candidates={"x": subject(items={"t": [True] * 20})},
        required=(),
        choose="smallest",
    )
    assert (found.decision, found.floor[0].outcome) == (Decision.INCONCLUSIVE, Outcome.INCONCLUSIVE)


def test_a_warning_that_fails_on_the_floor_is_void_and_breaks_nothing() -> None:
    found = verdict(losing(), [ACCURACY.model_copy(update={"level": "warn"}), limit("size", 50, vs=None, bound="max")], floor=OFF)
    assert found.decision is Decision.APPROVED
    assert found.candidates[0].checks[0].outcome is Outcome.VOID


def test_gates_against_the_release_do_not_look_at_the_floor() -> None:
    found = verdict(losing(), [ACCURACY.model_copy(update={"vs": "release"})], floor=OFF, release=BASELINE)
    assert (found.decision, found.floor) == (Decision.APPROVED, ())


# Overrides

BAD = losing(t0=200)
ARTIFACT = BAD.evaluation.artifact


def word(**more: str) -> Override:
    values = {
        "candidate": "x",
        "gate": "accuracy",
        "artifact": ARTIFACT[:12],
        "by": "Ana",
        "reason": "t0 is being relabelled",
        "where": None,
    }
    return Override.model_validate(values | more)


def test_an_override_lets_one_artifact_pass_one_gate() -> None:
    found = verdict(BAD, [ACCURACY], overrides=[word()])
    (candidate,) = found.candidates
    assert (found.decision, found.winner, found.overrides) == (Decision.APPROVED, "x", (word(),))
    assert (candidate.outcome, candidate.checks[0].outcome, candidate.checks[0].override) == (Outcome.PASS, Outcome.FAIL, word())
    assert candidate.reason == "0 of 1 gates that apply pass, accuracy is let pass by Ana (t0 is being relabelled)"
    assert "is below −2.00 pp" in candidate.checks[0].reason


def test_what_is_open_may_be_overridden_too() -> None:
    assert judged(losing(t0=60), [ACCURACY]).outcome is Outcome.INCONCLUSIVE
    assert judged(losing(t0=60), [ACCURACY], overrides=[word()]).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "other",
    [word(artifact="b" * 12), word(candidate="y"), word(gate="kl"), word(gate="accuracy:t0")],
    ids=["artifact", "candidate", "gate", "tripwire"],
)
def test_an_override_of_something_else_is_shown_and_does_nothing(other: Override) -> None:
    found = verdict(BAD, [ACCURACY], overrides=[other])
    assert (found.decision, found.overrides) == (Decision.REJECTED, (other,))
    assert found.candidates[0].checks[0].override is None


def test_an_override_of_one_tripwire_leaves_the_others() -> None:
    two = losing(t0=60, t1=60)
    both, one = word(gate="tasks"), word(gate="accuracy:t0")
    gates = [limit("accuracy", -0.1), *TRIPWIRES]
    assert judged(two, gates, overrides=[both]).outcome is Outcome.PASS
    found = judged(two, gates, overrides=[one])
    assert found.outcome is Outcome.FAIL
    assert found.reason.startswith("accuracy on t1 ")


def test_nobody_s_word_stands_for_what_was_not_evaluated_or_is_void() -> None:
    crash = Failure(id="x", stage="quantize", kind="OutOfMemory", exit_code=4, message="full", remedy=None)
    assert verdict(crash, [ACCURACY], overrides=[word()]).decision is Decision.REJECTED
    void = verdict(losing(), [ACCURACY], floor=OFF, overrides=[word()])
    assert void.decision is Decision.BROKEN
    assert void.candidates[0].checks[0].override is None


def test_a_gate_that_passes_needs_nobody_s_word() -> None:
    found = judged(losing(), [ACCURACY], overrides=[word()])
    assert (found.checks[0].override, found.reason) == (None, "the one gate that applies passes")
