"""Candidate, or the baseline -> Evaluation: always of the folder reloaded from disk, in a process of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from quant_action.errors import IntegrityError
from quant_action.estimate import expect_scoring
from quant_action.hardware import device_of
from quant_action.harness.run import run_harness
from quant_action.inputs import Inputs
from quant_action.metrics import measure_all
from quant_action.records import Candidate, Evaluation, Plan, Scheme, WeightScheme, digest_of
from quant_action.storage import complete_folder
from quant_action.store import BASELINE, Store
from quant_action.values import Values
from quant_action.workers.process import OnProgress, run_worker

WORKER = "quant_action.scorer.worker"


def evaluation_key(plan: Plan, candidate: Candidate) -> str:
    """The same bytes, measured the same way against the same baseline, give the same numbers."""
    return digest_of(["candidate", candidate.artifact, plan.baseline_key])


def cached_evaluation(store: Store, key: str) -> Evaluation | None:
    try:
        return Evaluation.load(store.evaluation(key) / "evaluation.json")
    except (FileNotFoundError, IntegrityError):
        return None


def evaluate_baseline(plan: Plan, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None) -> Evaluation:
    """Measure the unquantized model, or take it from the cache; keeps the hidden states that candidates are compared with."""
    measured = _Model(name=BASELINE, folder=inputs.model.folder, artifact=inputs.model_digest, size=inputs.model.size)
    return _evaluate(plan, measured, plan.baseline_key, inputs, store, on_progress, timeout)


def evaluate_candidate(
    plan: Plan, name: str, candidate: Candidate, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None
) -> Evaluation:
    """Measure a candidate against the baseline, which must have been measured. Raises the errors of `workers.process.run_worker`."""
    measured = _Model(
        name=name,
        folder=store.candidate(candidate.key) / "model",
        artifact=candidate.artifact,
        size=candidate.weights,
        scheme=candidate.scheme,
    )
    return _evaluate(plan, measured, evaluation_key(plan, candidate), inputs, store, on_progress, timeout)


@dataclass(frozen=True, kw_only=True)
class _Model:
    name: str
    folder: Path
    artifact: str
    size: int
    scheme: Scheme | None = None

    @property
    def subject(self) -> Literal["baseline", "candidate"]:
        return "baseline" if self.name == BASELINE else "candidate"


def _rounding(scheme: Scheme) -> dict[str, int]:
    """What the scorer compares a candidate's layers with."""
    return {"bits": scheme.bits, "group_size": scheme.group_size if isinstance(scheme, WeightScheme) else -1}


def _evaluate(
    plan: Plan, model: _Model, key: str, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None
) -> Evaluation:
    folder = store.evaluation(key)
    run = store.run(plan.key)
    with store.locked(folder):
        evaluation = cached_evaluation(store, key)
        if evaluation is None:
            shutil.rmtree(folder, ignore_errors=True)
            with complete_folder(folder) as part:
                evaluation = _measure(plan, model, key, inputs, store, part, on_progress, timeout)
    run.link_evaluation(model.name, folder)
    return evaluation


def _measure(
    plan: Plan, model: _Model, key: str, inputs: Inputs, store: Store, folder: Path, on_progress: OnProgress, timeout: float | None
) -> Evaluation:
    log = store.run(plan.key).log(model.name, "evaluate")
    log.unlink(missing_ok=True)
    baseline = {"model": str(inputs.model.folder.resolve()), "states": str((store.evaluation(plan.baseline_key) / "states").resolve())}
    result = run_worker(
        job=f"evaluating {model.name}",
        environment="host",
        module=WORKER,
        request={
            "verb": "evaluate",
            "subject": model.subject,
            "model": str(model.folder.resolve()),
            "baseline": baseline | _rounding(model.scheme) if model.scheme else None,
            "device": device_of(plan.device),
            "protocol": plan.protocol.model_dump(mode="json"),
            "data": {
                "text": str(inputs.text.path.resolve()) if inputs.text else None,
                "long_text": str(inputs.long_text.path.resolve()) if inputs.long_text else None,
                "tasks": {name: str(file.path.resolve()) for name, file in inputs.tasks.items()},
            },
            "output": str(folder.resolve()),
        },
        log=log,
        on_progress=on_progress,
        timeout=timeout,
    )
    parts, values = [result], Values.load(folder)
    if plan.protocol.harness:
        baseline_folder = store.evaluation(plan.baseline_key) if model.scheme else None
        harness, items = run_harness(
            plan, inputs, model=model.folder, name=model.name, baseline=baseline_folder, log=log, on_progress=on_progress, timeout=timeout
        )
        parts.append(harness)
        values = replace(values, items=(*values.items, *items))
        values.save(folder)
    gpu_memory = [part.value["peak_gpu_memory"] for part in parts if part.value["peak_gpu_memory"] is not None]
    evaluation = Evaluation(
        key=key,
        subject=model.subject,
        artifact=model.artifact,
        protocol=plan.protocol.digest,
        size=model.size,
        metrics=measure_all(values),
        scoring=result.value["scoring"],
        seconds=sum(part.seconds for part in parts),
        peak_memory=max(part.peak_memory for part in parts),
        peak_gpu_memory=max(gpu_memory, default=None),
        estimate=expect_scoring(plan, next((job for job in plan.jobs if job.id == model.name), None), inputs),
        device=plan.device,
        versions={package: version for part in parts for package, version in part.value["versions"].items()},
    )
    evaluation.save(folder / "evaluation.json")
    return evaluation
