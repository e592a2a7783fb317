"""Job -> Candidate: run the engine in a process of its own, check what it wrote, keep it under the job's key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quant_action.artifact import check_artifact
from quant_action.engines import engines
from quant_action.engines.interface import Answer, Engine
from quant_action.errors import EngineError, IntegrityError
from quant_action.estimate import expect_quantizing
from quant_action.hardware import device_of
from quant_action.inputs import Inputs
from quant_action.manifest import Manifest
from quant_action.records import Candidate, Job, Plan
from quant_action.storage import complete_folder
from quant_action.store import Store
from quant_action.workers.process import OnProgress, run_worker


def cached_candidate(store: Store, key: str) -> Candidate | None:
    """A candidate that is whole: its manifest, which is written last, names files that are there at their sizes."""
    folder = store.candidate(key)
    try:
        candidate = Candidate.load(folder / "candidate.json")
        manifest = Manifest.load(folder / "manifest.json")
    except (FileNotFoundError, IntegrityError):
        return None
    whole = manifest.digest == candidate.artifact and all(
        (path := folder / "model" / entry.path).is_file() and path.stat().st_size == entry.size for entry in manifest.files
    )
    return candidate if whole else None


def quantize(plan: Plan, job: Job, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None) -> Candidate:
    """Make a candidate, or take it from the cache. Its artifact lies in `<folder>/model`.

    `timeout`, in seconds, is for the engine's process.
    Raises the errors of `workers.process.run_worker`, and `EngineError` when the artifact does not pass its checks.
    """
    folder = store.candidate(job.key)
    log = store.run(plan.key).log(job.id, "quantize")
    with store.locked(folder):
        candidate = cached_candidate(store, job.key)
        if candidate is None:
            shutil.rmtree(folder, ignore_errors=True)
            with complete_folder(folder) as part:
                candidate = _make(plan, job, inputs, part, log, on_progress, timeout)
    store.run(plan.key).link_candidate(job.id, folder)
    return candidate


def _make(plan: Plan, job: Job, inputs: Inputs, folder: Path, log: Path, on_progress: OnProgress, timeout: float | None) -> Candidate:
    artifact = folder / "model"
    artifact.mkdir()
    engine = engines()[job.engine]
    log.unlink(missing_ok=True)
    result = run_worker(
        job=f"quantizing {job.id}",
        environment=engine.environment,
        module=engine.worker,
        request=_request(plan, job, inputs, artifact),
        log=log,
        on_progress=on_progress,
        timeout=timeout,
    )
    answer = _answer(engine, result.value, log)
    layers = check_artifact(artifact, base=inputs.model, scheme=job.scheme, candidate=job.id)
    manifest = Manifest.of(artifact)
    candidate = Candidate(
        key=job.key,
        scheme=job.scheme,
        engine=job.engine,
        artifact=manifest.digest,
        size=manifest.size,
        weights=sum(entry.size for entry in manifest.files if entry.path.endswith(".safetensors")),
        quantized_layers=len(layers),
        quantized_parameters=sum(rows * columns for rows, columns in (inputs.model.linear_layers[layer] for layer in layers)),
        seconds=result.seconds,
        peak_memory=result.peak_memory,
        peak_gpu_memory=answer.peak_gpu_memory,
        estimate=expect_quantizing(plan, job, inputs),
        device=plan.device,
        versions=answer.versions,
    )
    shutil.copyfile(log, folder / "log.txt")
    candidate.save(folder / "candidate.json")
    manifest.save(folder / "manifest.json")
    return candidate


def _answer(engine: Engine, value: dict[str, Any], log: Path) -> Answer:
    try:
        return Answer.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise EngineError(f"engine {engine.name} answered what is no answer: {place}: {first['msg']}", where=str(log)) from error


def _request(plan: Plan, job: Job, inputs: Inputs, output: Path) -> dict[str, object]:
    calibration = None
    if plan.calibration and inputs.calibration and engines()[job.engine].needs_calibration(job.scheme):
        calibration = {
            "data": str(inputs.calibration.path.resolve()),
            "samples": plan.calibration.samples,
            "tokens": plan.calibration.tokens,
            "seed": plan.calibration.seed,
        }
    return {
        "verb": "quantize",
        "scheme": job.scheme.model_dump(mode="json"),
        "model": str(inputs.model.folder.resolve()),
        "output": str(output.resolve()),
        "device": device_of(plan.device),
        "calibration": calibration,
    }
