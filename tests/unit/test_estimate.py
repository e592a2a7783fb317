"""Corrections by earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quant_action.costs import library
from quant_action.engines.interface import EVERY_DEVICE, Engine
from quant_action.estimate import BOUND, Expected, Forecast, JobForecast, corrected, learnt_quantizing, learnt_scoring, measured_here
from quant_action.records import Candidate, Estimate, Evaluation
from quant_action.store import Store
from tests.golden.records import BASELINE_EVALUATION, CANDIDATES, EVALUATIONS, PLAN

GUESS = Estimate(seconds=100.0, memory=1000, gpu_memory=None, disk=50, formulas="f")
GPTQ = CANDIDATES["gptq-w4-g128"]
JOB = PLAN.jobs[0]


def ran(*, seconds: float, memory: int, guess: Estimate | None = GUESS, **changes: Any) -> Candidate:
    figures = {"seconds": seconds, "peak_memory": memory, "peak_gpu_memory": None, "estimate": guess}
    return GPTQ.model_copy(update=figures | changes)


def test_without_experience_the_estimate_stands() -> None:
    assert corrected(GUESS, []) == Expected(estimate=GUESS, runs=0)
    assert corrected(GUESS, [ran(seconds=1, memory=1, guess=None)]).runs == 0


def test_the_median_run_corrects_and_disk_is_left_alone() -> None:
    past = [ran(seconds=150, memory=900), ran(seconds=200, memory=1100), ran(seconds=9999, memory=1200)]
    found = corrected(GUESS, past)
    assert found.runs == 3
    assert (found.estimate.seconds, found.estimate.memory, found.estimate.disk) == (200.0, 1100, 50)
    assert found.estimate.gpu_memory is None


def test_a_correction_is_bounded() -> None:
    assert corrected(GUESS, [ran(seconds=10**6, memory=1)]).estimate.seconds == 100 * BOUND
    assert corrected(GUESS, [ran(seconds=10**6, memory=1)]).estimate.memory == 1000 / BOUND


def test_gpu_memory_is_corrected_by_runs_that_measured_it() -> None:
    guess = GUESS.model_copy(update={"gpu_memory": 400})
    past = [ran(seconds=100, memory=1000, guess=guess, peak_gpu_memory=500), ran(seconds=100, memory=1000)]
    assert corrected(guess, past).estimate.gpu_memory == 500


def test_figures_of_other_formulas_do_not_count() -> None:
    old = GUESS.model_copy(update={"formulas": "older"})
    assert corrected(GUESS, [ran(seconds=300, memory=3000, guess=old)]).runs == 0


def test_only_the_same_engine_method_and_device_are_looked_at() -> None:
    other_method = CANDIDATES["awq-w4-g128"].scheme
    past = [
        ran(seconds=200, memory=1000),
        ran(seconds=900, memory=1000, engine="gptqmodel"),
        ran(seconds=900, memory=1000, device="cpu x86_64"),
        ran(seconds=900, memory=1000, scheme=other_method),
    ]
    found = learnt_quantizing(GUESS, JOB, PLAN.device, past)
    assert (found.runs, found.estimate.seconds) == (1, 200.0)


def test_baselines_learn_from_baselines_and_candidates_from_candidates() -> None:
    past: list[Evaluation] = [
        BASELINE_EVALUATION.model_copy(update={"estimate": GUESS, "seconds": 300.0}),
        BASELINE_EVALUATION.model_copy(update={"estimate": GUESS, "seconds": 400.0, "subject": "floor"}),
        *[evaluation.model_copy(update={"estimate": GUESS, "seconds": 50.0}) for evaluation in EVALUATIONS.values()],
    ]
    assert learnt_scoring(GUESS, "baseline", PLAN.device, past).estimate.seconds == 300.0
    assert learnt_scoring(GUESS, "floor", PLAN.device, past).estimate.seconds == 400.0
    assert learnt_scoring(GUESS, "release", PLAN.device, past).runs == 0
    candidate = learnt_scoring(GUESS, "candidate", PLAN.device, past)
    assert (candidate.runs, candidate.estimate.seconds) == (len(EVALUATIONS), 50.0)


def test_records_come_from_the_cache_and_broken_ones_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert measured_here(store, Candidate) == []
    mine = ran(seconds=1, memory=2)
    for name in ("a", "b", "c.part"):
        mine.save(store.candidate(name) / "candidate.json")
    (store.candidate("broken")).mkdir()
    (store.candidate("broken") / "candidate.json").write_text('{"schema": "quant_action.candidate/v0"}')
    assert measured_here(store, Candidate) == [mine, mine]
    assert measured_here(store, Evaluation) == []


def test_older_records_have_no_estimate_and_are_still_read() -> None:
    text = GPTQ.to_json().replace('  "estimate": null,\n', "")
    assert "estimate" not in text
    assert Candidate.from_json(text, where="x") == GPTQ
    kept = ran(seconds=1, memory=2)
    assert Candidate.from_json(kept.to_json(), where="x") == kept


def test_the_total_counts_what_is_not_cached() -> None:
    def expected(seconds: float, memory: int, gpu: int | None, disk: int) -> Expected:
        return Expected(estimate=Estimate(seconds=seconds, memory=memory, gpu_memory=gpu, disk=disk), runs=0)

    forecast = Forecast(
        jobs=(
            JobForecast(id="baseline", quantize=None, score=expected(10, 5, 70, 1000), quantized=False, scored=True),
            JobForecast(id="a", quantize=expected(20, 9, 40, 100), score=expected(5, 3, 60, 10), quantized=False, scored=False),
            JobForecast(id="b", quantize=expected(40, 99, 90, 100), score=expected(6, 4, 50, 10), quantized=True, scored=False),
        )
    )
    assert forecast.total == Estimate(seconds=31, memory=9, gpu_memory=60, disk=120)
    done = Forecast(jobs=forecast.jobs[:1]).total
    assert (done.seconds, done.memory, done.gpu_memory, done.disk) == (0, 0, None, 0)


def test_an_engine_that_says_nothing_of_itself_is_taken_for_a_library() -> None:
    engine = Engine(
        name="theirs",
        methods={"gptq": EVERY_DEVICE},
        environment="host",
        worker="theirs.worker",
        writes=("gptq",),
        deterministic=(),
        requires=(),
        sources=(),
        needs_calibration=lambda scheme: True,
        refuses=lambda scheme, device: None,
        why="it is there",
    )
    assert engine.estimate is library
    assert engine.builds_with == ()
    assert engine.refuses_shape(JOB.scheme, 7, 7) is None


@pytest.mark.parametrize("name", ["baseline", *EVALUATIONS])
def test_evaluations_of_before_are_still_read(name: str) -> None:
    evaluation = EVALUATIONS.get(name, BASELINE_EVALUATION)
    text = evaluation.to_json().replace('  "estimate": null,\n', "")
    assert Evaluation.from_json(text, where="x") == evaluation
