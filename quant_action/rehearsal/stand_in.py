"""What a rehearsal works on: the spec asking for little, and the twin and short texts in place of the model and its texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from quant_action.inputs import DataFile, Inputs
from quant_action.manifest import sha256_of
from quant_action.model_files import open_model
from quant_action.spec import DataTask, LmEvalTask, LoadedSpec
from quant_action.workers.environment import HOST
from quant_action.workers.process import OnProgress, run_worker

WORKER = "quant_action.rehearsal.worker"
LOGS = "runs"
"""Folder of the store that has the logs."""

SAMPLES, ITEMS, ANSWER_TOKENS, LENGTH = 4, 4, 8, 16


def make_stand_in(loaded: LoadedSpec, inputs: Inputs, folder: Path, on_progress: OnProgress) -> tuple[LoadedSpec, Inputs]:
    """Fill the empty `folder`. Raises the errors of `run_worker`, `DataError` among them where calibration data is too short."""
    calibration, text = loaded.spec.calibration, loaded.spec.evaluation.text
    run_worker(
        environment=HOST,
        module=WORKER,
        job="making the two-layer twin",
        request={
            "verb": "twin",
            "model": str(inputs.model.folder.resolve()),
            "dtype": Counter(tensor.dtype for tensor in inputs.model.tensors.values()).most_common(1)[0][0],
            "output": str(folder.resolve()),
            "calibration": {**calibration.model_dump(), "data": _data(inputs.calibration)} if calibration and inputs.calibration else None,
            "text": {"data": _data(inputs.text), "window": text.window} if text and inputs.text else None,
            "long_text": _data(inputs.long_text),
        },
        log=folder / LOGS / "twin.log",
        on_progress=on_progress,
    )
    model = open_model(folder / "model")
    return ask_little(loaded), Inputs(
        model=model,
        model_digest=model.manifest().digest,
        calibration=inputs.calibration,
        text=_data_file(folder / "text.jsonl") if inputs.text else None,
        long_text=_data_file(folder / "long.jsonl") if inputs.long_text else None,
        tasks=inputs.tasks,
        harness=inputs.harness,
    )


def ask_little(loaded: LoadedSpec) -> LoadedSpec:
    """The spec with the same candidates, few samples to calibrate on, few items, shortly answered, at one look, and little to time."""
    spec = loaded.spec
    calibration = spec.calibration and spec.calibration.model_copy(update={"samples": min(SAMPLES, spec.calibration.samples)})
    tasks = {name: _little(task) for name, task in spec.evaluation.tasks.items()}
    latency = spec.evaluation.latency
    if latency:
        shorter = {"prefill": sorted({min(LENGTH, tokens) for tokens in latency.prefill}), "batch": latency.batch[:1]}
        latency = latency.model_copy(update=shorter | {"decode": min(LENGTH, latency.decode) if latency.decode else None})
    evaluation = spec.evaluation.model_copy(update={"tasks": tasks, "looks": [1.0], "latency": latency})
    return LoadedSpec(spec.model_copy(update={"calibration": calibration, "evaluation": evaluation}), loaded.source)


def _little(task: DataTask | LmEvalTask) -> DataTask | LmEvalTask:
    limits = {"limit": min(ITEMS, task.limit or ITEMS)}
    if isinstance(task, DataTask):
        limits["max_tokens"] = min(ANSWER_TOKENS, task.max_tokens)
    return task.model_copy(update=limits)


def _data_file(path: Path) -> DataFile:
    return DataFile(path=path, digest=sha256_of(path), rows=len(path.read_bytes().splitlines()))


def _data(file: DataFile | None) -> str | None:
    return str(file.path.resolve()) if file else None
