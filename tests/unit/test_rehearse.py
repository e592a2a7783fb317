from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quant_action.errors import DataError, EngineError
from quant_action.records import Stage
from quant_action.rehearsal.stand_in import ask_little
from quant_action.rehearse import Rehearsal, Step
from quant_action.spec import DataTask, load_spec
from tests.golden.records import PLAN


def step(subject: str, stage: Stage, error: Exception | None = None) -> Step:
    return Step(subject=subject, stage=stage, seconds=1.0, peak_memory=None, peak_gpu_memory=None, error=error)  # type: ignore[arg-type]


@pytest.mark.parametrize(("errors", "code"), [([None, None], 0), ([None, EngineError("x")], 4), ([DataError("x"), EngineError("y")], 2)])
def test_the_first_failure_gives_the_exit_code(errors: list[Exception | None], code: int) -> None:
    steps = tuple(step("a", "evaluate", error) for error in errors)
    assert Rehearsal(twin=PLAN.model, steps=steps).exit_code == code


def test_little_is_asked_of_the_same_candidates(workspace: Path, edit_spec: Callable[[str, str], Path]) -> None:
    edit_spec("samples: 4", "samples: 128")
    edit_spec("evaluation:\n", "evaluation:\n  looks: [0.5, 1]\n")
    loaded = load_spec(edit_spec("kind: choice}", "kind: choice, limit: 100}"))
    little = ask_little(loaded)
    assert little.spec.candidates == loaded.spec.candidates
    assert little.spec.calibration is not None
    assert (little.spec.calibration.samples, little.spec.calibration.tokens) == (4, 16)
    task = little.spec.evaluation.tasks["facts"]
    assert isinstance(task, DataTask)
    assert (task.limit, task.max_tokens) == (4, 8)
    assert little.spec.evaluation.latency is None
    assert little.spec.evaluation.looks == [1.0]
    assert little.where("candidates", "gptq-w4") == loaded.where("candidates", "gptq-w4")


def test_no_more_is_asked_than_the_spec_does(workspace: Path, edit_spec: Callable[[str, str], Path]) -> None:
    edit_spec("samples: 4", "samples: 2")
    little = ask_little(load_spec(edit_spec("kind: choice}", "kind: choice, limit: 1, max_tokens: 3}")))
    assert little.spec.calibration is not None
    assert little.spec.calibration.samples == 2
    task = little.spec.evaluation.tasks["facts"]
    assert isinstance(task, DataTask)
    assert (task.limit, task.max_tokens) == (1, 3)


def test_little_is_timed(edit_spec: Callable[[str, str], Path]) -> None:
    path = edit_spec("evaluation:\n", "evaluation:\n  latency: {prefill: [512, 2048, 8], decode: 128, batch: [4, 1]}\n")
    latency = ask_little(load_spec(path)).spec.evaluation.latency
    assert latency is not None
    assert (latency.prefill, latency.decode, latency.batch) == ([8, 16], 16, [4])
