"""Saved records judged again, under the spec as it is now: no model, no data, no GPU, and the same verdict to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quant_action.pipeline import DECISION_CODES, judge_saved
from quant_action.records import Decision, Evaluation, Outcome, Plan, Verdict
from quant_action.session import Settings
from quant_action.store import BASELINE, FLOOR, RELEASE, Store
from quant_action.values import Values
from tests.golden import records

SPEC = """\
version: 1
name: support-8b
model: {source: acme/support-8b, revision: 0e9e39f249a16976918f6564b8830bc894c89659}
calibration: {data: data/calibration.jsonl}
candidates:
  gptq-w4-g128: {method: gptq, bits: 4}
  awq-w4-g128: {method: awq, bits: 4}
  bnb-int8: {method: bitsandbytes, type: int8}
  bnb-nf4: {method: bitsandbytes, type: nf4}
  gptq-w3-g128: {method: gptq, bits: 3}
  rtn-w2: {method: rtn, bits: 2, group_size: channel}
evaluation:
  text: {data: data/heldout.jsonl, window: 65}
  tasks:
    tickets: {data: data/tickets.jsonl, kind: choice}
    extract: {data: data/extract.jsonl, kind: generate, limit: 200}
gates:
  perplexity_ratio: {vs: baseline, max: 1.05}
  accuracy: [{vs: baseline, margin: 0.03}, {vs: release, margin: 0.03}]
  tasks: {vs: baseline, margin: 0.05}
"""

Rejudge = Callable[[str], Verdict]


def put(store: Store, id: str, evaluation: Evaluation, values: Values) -> None:
    folder = store.evaluation(evaluation.key)
    folder.mkdir(parents=True)
    values.save(folder)
    evaluation.save(folder / "evaluation.json")
    store.run(records.PLAN.key).link_evaluation(id, folder)


def again(id: str, kind: str) -> Evaluation:
    """An evaluation of the run as that of another subject."""
    found = records.BASELINE_EVALUATION if id == BASELINE else records.EVALUATIONS[id]
    return Evaluation.model_validate(found.model_dump() | {"key": f"{kind}-{found.key}", "subject": kind})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / ".quant")
    plan = Plan.model_validate(records.PLAN.model_dump() | {"runtime": None})
    run = store.run(plan.key)
    for id, values in records.VALUES.items():
        put(store, id, records.BASELINE_EVALUATION if id == BASELINE else records.EVALUATIONS[id], values)
    put(store, FLOOR, again(BASELINE, "floor"), records.VALUES[BASELINE])
    for job in plan.jobs:
        if job.id in records.CANDIDATES:
            records.CANDIDATES[job.id].save(store.candidate(job.key) / "candidate.json")
            run.link_candidate(job.id, store.candidate(job.key))
    records.FAILURES["rtn-w2"].save(run.failure("rtn-w2"))
    plan.save(run.plan)
    run.mark_latest(plan.name)
    return store


@pytest.fixture
def rejudge(tmp_path: Path, store: Store) -> Rejudge:
    def under(spec: str) -> Verdict:
        (tmp_path / "quant.yml").write_text(spec)
        return judge_saved(Settings(spec=tmp_path / "quant.yml"))

    return under


def test_the_same_records_give_the_same_verdict_to_the_last_bit(rejudge: Rejudge, store: Store) -> None:
    saved = store.run(records.PLAN.key).verdict
    first = rejudge(SPEC)
    bytes_of_first = saved.read_bytes()
    rejudge(SPEC.replace("max: 1.05", "max: 1.001"))
    assert saved.read_bytes() != bytes_of_first
    assert rejudge(SPEC) == first
    assert saved.read_bytes() == bytes_of_first


def test_an_edited_spec_decides_anew(rejudge: Rejudge) -> None:
    assert (rejudge(SPEC).decision, rejudge(SPEC).winner) == (Decision.APPROVED, "gptq-w4-g128")
    strict = rejudge(SPEC.replace("max: 1.05", "max: 1.003"))
    assert (strict.decision, strict.winner) == (Decision.APPROVED, "bnb-int8")
    required = rejudge(SPEC.replace("gptq, bits: 3", "gptq, bits: 3, required: true"))
    assert required.decision is Decision.REJECTED


def test_an_override_is_read_from_the_spec_and_kept_in_the_verdict(rejudge: Rejudge) -> None:
    artifact = records.EVALUATIONS["gptq-w3-g128"].artifact
    line = f"overrides:\n  - {{candidate: gptq-w3-g128, gate: GATE, artifact: {artifact[:12]!r}, by: Ana, reason: a trial}}\n"
    part = rejudge(SPEC + line.replace("GATE", "perplexity_ratio"))
    assert part.winner == "gptq-w4-g128"
    (override,) = part.overrides
    assert override.by == "Ana"
    assert str(override.where).endswith("quant.yml:22:5")
    judged = {one.id: one for one in part.candidates}["gptq-w3-g128"]
    assert [check.override for check in judged.checks if check.gate == "perplexity_ratio"] == [override]
    assert judged.outcome is Outcome.FAIL
    gates = "".join(line.replace("GATE", gate).removeprefix("overrides:\n") for gate in ("perplexity_ratio", "accuracy", "tasks"))
    assert rejudge(f"{SPEC}overrides:\n{gates}").winner == "gptq-w3-g128"


def test_the_floor_is_judged_and_the_release_where_there_is_one(rejudge: Rejudge, store: Store) -> None:
    def of_release(verdict: Verdict) -> set[Outcome]:
        return {check.outcome for one in verdict.candidates if one.id == "bnb-int8" for check in one.checks if check.vs == "release"}

    assert of_release(rejudge(SPEC)) == {Outcome.NOT_APPLICABLE}
    put(store, RELEASE, again("bnb-int8", "release"), records.VALUES["bnb-int8"])
    run = store.run(records.PLAN.key)
    Plan.load(run.plan).model_copy(update={"release": records.PLAN.model}).save(run.plan)
    second = rejudge(SPEC)
    assert of_release(second) == {Outcome.PASS}
    assert {check.outcome for check in second.floor} == {Outcome.PASS}
    assert len(second.floor) == 6  # perplexity, accuracy and a tripwire on each of two tasks and two slices


def test_a_floor_that_fails_ends_as_broken_with_a_code_of_its_own(rejudge: Rejudge, store: Store) -> None:
    put(store, FLOOR, again("gptq-w3-g128", "floor"), records.VALUES["gptq-w3-g128"])
    found = rejudge(SPEC)
    assert (found.decision, found.winner, DECISION_CODES[found.decision]) == (Decision.BROKEN, None, 4)


def test_the_looks_are_those_of_the_plan_whatever_the_spec_says_now(rejudge: Rejudge, store: Store) -> None:
    run = store.run(records.PLAN.key)
    plan = Plan.load(run.plan)
    plan.model_copy(update={"looks": (0.5, 1.0)}).save(run.plan)
    found = rejudge(SPEC.replace("  tasks:", "  looks: [0.1, 0.2, 1]\n  tasks:", 1))
    assert found.looks == (0.5, 1.0)
    assert {check.look for one in found.candidates for check in one.checks if check.gate == "accuracy" and check.n} == {2}


def test_a_plan_of_before_looks_has_one() -> None:
    old = records.PLAN.model_dump(mode="json", exclude={"looks"})
    assert Plan.model_validate(old).looks == (1.0,)
