"""What a run left on disk: a candidate that lacks what was asked for is not evaluated, whatever else it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.records import Failure, Plan, SpeedProtocol
from quant_action.saved_run import load_last_run
from quant_action.store import BASELINE, Store
from tests.golden import records
from tests.unit.speeds import case, speed

ASKED = records.PLAN.model_copy(update={"jobs": tuple(job for job in records.PLAN.jobs if job.id in ("gptq-w4-g128", "bnb-nf4"))})


PROTOCOL = SpeedProtocol(prefill=(), decode=8, batch=(1,), prompt=32, pairs=(6, 12), seconds=30.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two candidates, both made and measured; the runtime of one was checked."""
    store = Store(tmp_path)
    run = store.run(ASKED.key)
    for id in (BASELINE, *(job.id for job in ASKED.jobs)):
        evaluation = records.BASELINE_EVALUATION if id == BASELINE else records.EVALUATIONS[id]
        folder = store.evaluation(evaluation.key)
        folder.mkdir(parents=True)
        records.VALUES[id].save(folder)
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


def test_plans_of_before_the_check_are_still_read() -> None:
    old = records.PLAN.model_dump(mode="json", exclude={"runtime"})
    assert Plan.model_validate_json(Plan.model_validate(old).model_dump_json()).runtime is None
