"""The harness on one model, from the host's side: its process, and whether what it asked is what the baseline was asked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quant_action.errors import IntegrityError
from quant_action.hardware import device_of
from quant_action.harness import ENVIRONMENT
from quant_action.inputs import Inputs
from quant_action.records import HarnessTask, Plan
from quant_action.values import Values
from quant_action.workers.process import OnProgress, WorkerResult, run_worker

WORKER = "quant_action.harness.worker"

BATCH = {"cpu": 4, "cuda": 8}
"""Sequences of one forward pass, the same for every model. The harness holds all their logits in float32: with a vocabulary of 128,000 that
is 1 GB for each sequence of 2,048 tokens."""


def run_harness(
    plan: Plan,
    inputs: Inputs,
    *,
    model: Path,
    name: str,
    baseline: Path | None,
    log: Path,
    on_progress: OnProgress,
    timeout: float | None,
    share: tuple[float, float] = (0.0, 1.0),
    other_batches: bool = False,
) -> tuple[WorkerResult, list[dict[str, Any]]]:
    """Items of every task of the harness on the model in a folder, from one share of the items to another.

    `baseline` is the folder of its evaluation, None for the baseline itself. `other_batches` is for the baseline measured a second time,
    to see what the batches alone change. Raises the errors of `run_worker`, and of `refuse_other_documents`.
    """
    device = device_of(plan.device)
    with tempfile.TemporaryDirectory(prefix="quant-action-") as folder:
        output = Path(folder) / "items.jsonl"
        result = run_worker(
            job=f"evaluating {name} by lm-evaluation-harness",
            environment=ENVIRONMENT,
            module=WORKER,
            request={
                "verb": "evaluate",
                "model": str(model.resolve()),
                "base": str(inputs.model.folder.resolve()),
                "device": device,
                "dtype": plan.protocol.dtype,
                "batch": BATCH[device] // 2 if other_batches else BATCH[device],
                "samples": plan.protocol.samples,
                "share": share,
                "output": str(output),
                "tasks": [_asked(task, inputs) for task in plan.protocol.harness],
            },
            log=log,
            on_progress=on_progress,
            timeout=timeout,
        )
        items = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    if baseline:
        refuse_other_documents(items, Values.load(baseline).items, where=str(baseline))
    return result, items


def refuse_other_documents(items: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]], *, where: str) -> None:
    """Raise `IntegrityError` where an item is not the document that the baseline was asked under its name; `where` its evaluation lies.

    A data set of the suite lies in the user's cache, under no key of ours, and may have been fetched anew since.
    """
    documents = {(item["task"], item["item"]): item["doc"] for item in known if "doc" in item}
    for item in items:
        asked = documents.get((item["task"], item["item"]), item["doc"])
        if asked != item["doc"]:
            raise IntegrityError(
                f"the data set of task {item['task']} has changed since the baseline was measured: item {item['item']} is another document",
                where=where,
                remedy="Delete this folder, so that the baseline is measured again on the data set of now.",
            )


def _asked(task: HarnessTask, inputs: Inputs) -> dict[str, Any]:
    file = inputs.harness.get(task.id)
    return {
        "id": task.id,
        "task": task.task,
        "metric": task.metric,
        "limit": task.limit,
        "config": dict(file.config) if file else None,
        "splits": {split: [str(path.resolve()) for path in paths] for split, paths in file.splits.items()} if file else {},
    }
