"""What a run left on disk: a candidate that lacks what was asked for is not evaluated, whatever else it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.errors import InputError
from quant_action.records import Failure, Plan, SpeedProtocol, digest_of
from quant_action.saved_run import load_last_run
from quant_action.store import BASELINE, FLOOR, RELEASE, Store
from tests.golden import records
from tests.unit.speeds import case, speed

FLOORED = records.BASELINE_EVALUATION.model_copy(update={"key": digest_of("floor"), "subject": "floor", "bit_identical": True})
EVALUATIONS = {BASELINE: records.BASELINE_EVALUATION, FLOOR: FLOORED, **records.EVALUATIONS}
ASKED = records.PLAN.model_copy(update={"jobs": tuple(job for job in records.PLAN.jobs if job.id in ("gptq-w4-g128", "bnb-nf4"))})


PROTOCOL = SpeedProtocol(prefill=(), decode=8, batch=(1,), prompt=32, pairs=(6, 12), seconds=30.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two candidates, both made and measured; the runtime of one was checked."""
    store = Store(tmp_path)
    run = store.run(ASKED.key)
    for id in (BASELINE, FLOOR, *(job.id for job in ASKED.jobs)):
        evaluation = EVALUATIONS[id]
        folder = store.evaluation(evaluation.key)
        folder.mkdir(parents=True)
        records.VALUES[BASELINE if id == FLOOR else id].save(folder)
        evaluation.save(folder / "evaluation.json")
        run.link_evaluation(id, folder)
    for job in ASKED.jobs:
        records.CANDIDATES[job.id].save(store.candidate(job.key) / "candidate.json")
        run.link_candidate(job.id, store.candidate(job.key))
    records.RUNTIMES["bnb-nf4"].save(store.runtime("k"))
    run.link_runtime("bnb-nf4", store.runtime("k"))
    return store


def save(store: Store, plan: Plan) -> None:
    plan.save(store.run(plan.key).plan)
    store.run(plan.key).mark_latest(plan.name)


def test_without_the_runtime_check_that_was_asked_for_a_candidate_is_not_evaluated(store: Store) -> None:
    save(store, ASKED)
    saved = load_last_run(store, ASKED.name)
    assert saved.subjects.keys() == saved.runtimes.keys() == {"bnb-nf4"}
    assert saved.runtimes["bnb-nf4"] == records.RUNTIMES["bnb-nf4"]
    assert saved.failures["gptq-w4-g128"].kind == "NotEvaluated"


def test_a_check_that_is_not_asked_for_is_not_missed(store: Store) -> None:
    save(store, ASKED.model_copy(update={"runtime": None}))
    saved = load_last_run(store, ASKED.name)
    assert saved.subjects.keys() == {"gptq-w4-g128", "bnb-nf4"}
    assert saved.runtimes == {}


def test_a_failed_check_outweighs_what_was_measured(store: Store) -> None:
    save(store, ASKED)
    failure = Failure(id="bnb-nf4", stage="runtime", kind="EngineError", exit_code=4, message="differs", remedy=None)
    failure.save(store.run(ASKED.key).failure("bnb-nf4"))
    saved = load_last_run(store, ASKED.name)
    assert saved.subjects == {}
    assert saved.failures["bnb-nf4"] == failure


def test_a_candidate_without_the_times_that_were_asked_for_is_still_measured(store: Store) -> None:
    asked = ASKED.model_copy(update={"runtime": None, "speed": PROTOCOL})
    save(store, asked)
    run = store.run(asked.key)
    record = speed({case("decode", 8): ([1.0] * 6, [1.0] * 6)})
    record.save(store.speed("k"))
    run.link_speed("bnb-nf4", store.speed("k"))
    saved = load_last_run(store, asked.name)
    assert saved.failures == {}
    assert {id: subject.speed for id, subject in saved.subjects.items()} == {"gptq-w4-g128": None, "bnb-nf4": record}
    assert {id: failure.message for id, failure in saved.untimed.items()} == {"gptq-w4-g128": "has not been timed"}
    failure = Failure(id="gptq-w4-g128", stage="speed", kind="OutOfMemory", exit_code=4, message="full", remedy=None)
    failure.save(run.speed_failure("gptq-w4-g128"))
    assert load_last_run(store, asked.name).untimed == {"gptq-w4-g128": failure}


def test_times_that_are_not_asked_for_are_not_missed(store: Store) -> None:
    save(store, ASKED)
    assert load_last_run(store, ASKED.name).untimed == {}


def test_a_run_without_a_floor_is_not_judged(store: Store) -> None:
    save(store, ASKED)
    assert load_last_run(store, ASKED.name).floor.evaluation == FLOORED
    store.run(ASKED.key).evaluation(FLOOR).unlink()
    with pytest.raises(InputError, match="the last run has no evaluation of the floor") as caught:
        load_last_run(store, ASKED.name)
    assert caught.value.remedy == "quant-action evaluate SPEC"


def test_a_release_that_was_given_is_never_left_out(store: Store) -> None:
    """Without one in the plan, what lies in the folder under its name is not looked at."""
    plan = ASKED.model_copy(update={"release": ASKED.model})
    save(store, plan)
    with pytest.raises(InputError, match="the last run has no evaluation of the release") as caught:
        load_last_run(store, ASKED.name)
    assert caught.value.remedy == "quant-action evaluate SPEC --release DIR"
    store.run(plan.key).link_evaluation(RELEASE, store.evaluation(records.EVALUATIONS["bnb-nf4"].key))
    saved = load_last_run(store, ASKED.name)
    assert saved.release is not None
    assert saved.release.evaluation == records.EVALUATIONS["bnb-nf4"]
    save(store, ASKED)
    assert load_last_run(store, ASKED.name).release is None


def test_plans_of_before_are_still_read() -> None:
    old = Plan.model_validate(records.PLAN.model_dump(mode="json", exclude={"runtime", "release", "looks"}))
    assert (old.runtime, old.release, old.looks) == (None, None, (1.0,))
