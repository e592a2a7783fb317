"""The scorer's process: one model in, its values per window and per item out.

Its request, the output being an empty folder:

    {"verb": "evaluate", "subject": "baseline" | "floor" | "release" | "candidate", "model": "/path", "device": "cpu" | "cuda",
     "baseline": {"model": "/path", "states": "/path"} | null, "rounding": {"bits": 4, "group_size": 64} | null, "protocol": {...},
     "data": {"text": "/path" | null, "long_text": "/path" | null, "tasks": {"id": "/path"}},
     "look": {"after": 0.25, "upto": 0.5, "earlier": "/path" | null}, "output": "/path"}

`baseline` is what the model is compared with; the floor is the baseline's own model, in other batches. With `rounding` the layers are
compared with the original's, too. A look asks each task's items between two shares of them, and adds to what the look before it left in
the folder `earlier`: texts are scored at the first.

It writes what `values.py` says, for a baseline `states/` too (see `states.py`), and answers

    {"metrics": {id: {"value": 0.0, "n": 0}}, "scoring": {...}, "peak_gpu_memory": bytes | null, "versions": {"torch": "2.13.0", ...}}

where `scoring` has the fields of `records.Scoring`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from quant_action.checkpoints.load import load_tokenizer
from quant_action.data import Row, item_id
from quant_action.errors import EnvironmentMissing
from quant_action.metrics import measure_all
from quant_action.records import Protocol, Scoring
from quant_action.scorer.choice import score_choice
from quant_action.scorer.generate import score_generate
from quant_action.scorer.items import rows_between, task_rows
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder
from quant_action.scorer.reconstruction import check_layers
from quant_action.scorer.text import Passages, long_documents, score_text, text_windows
from quant_action.values import Values
from quant_action.workers.protocol import serve

STATES = "states"
PROBE_TOKENS = 2048
"""Layers are compared on no more: the original's and the candidate's activations are held of every layer."""
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "bitsandbytes", "numpy")
TASKS = {"choice": score_choice, "generate": score_generate}


def evaluate(request: dict[str, Any], progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Answer one request. Raises the errors of `load_model`, `score_text` and the tasks."""
    device = request["device"]
    if device == "cuda":
        if not torch.cuda.is_available():
            raise EnvironmentMissing("a GPU was asked for, and torch sees none", remedy="Use a GPU build of torch, or --device cpu.")
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        values, scoring = measure(request, progress)
    values.save(Path(request["output"]))
    return {
        "metrics": {id: measurement.model_dump() for id, measurement in measure_all(values).items()},
        "scoring": scoring.model_dump(),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": versions(),
    }


def measure(request: dict[str, Any], progress: Callable[[str, int, int], None]) -> tuple[Values, Scoring]:
    """Score text and tasks. Everything is read before the model is: a bad file shall not cost the minutes of loading it."""
    folder, data, baseline, device = Path(request["model"]), request["data"], request["baseline"], request["device"]
    look, rounding = request["look"], request["rounding"]
    protocol = Protocol.model_validate(request["protocol"])
    dtype: torch.dtype = getattr(torch, protocol.dtype)
    earlier = Values.load(Path(look["earlier"])) if look["earlier"] else None
    tokenizer = load_tokenizer(folder)
    encoder = Encoder(load_tokenizer(Path(baseline["model"])), tokenizer) if baseline else Encoder(tokenizer)
    text = text_windows(Path(data["text"]), encoder, window=protocol.text.window) if protocol.text and not earlier else None
    long = long_documents(Path(data["long_text"]), encoder, protocol.long_text) if protocol.long_text and not earlier else None
    tasks = [(task, task_rows(task, Path(data["tasks"][task.id]))) for task in protocol.tasks]
    model = ScoredModel.load(folder, device=device, dtype=dtype, batch_tokens=protocol.batch_tokens, tokenizer=tokenizer)
    if request["subject"] == "floor":
        model = replace(model, batching=model.batching.other())
    if text:
        model.fits(text.ids.shape[1], what="a window", where="evaluation.text.window")
    if long:
        model.fits(long.ids.shape[1], what="a document", where="evaluation.long_text.tokens")
    if rounding:
        check_layers(
            model.decoder,
            Path(baseline["model"]),
            _probe(text, long, lambda: _first_prompt(encoder, tasks[0][1][0]) if tasks else model.some_tokens()).to(device),
            bits=rounding["bits"],
            group_size=rounding["group_size"],
            dtype=dtype,
            device=device,
            progress=progress,
        )
    windows, documents = (
        score_text(
            model,
            passages,
            baseline=Path(baseline["states"]) if baseline else None,
            states=None if baseline else Path(request["output"]) / STATES,
            progress=progress,
        )
        if passages
        else None
        for passages in (text, long)
    )
    items: list[dict[str, Any]] = []
    for task, rows in tasks:
        asked = rows_between(rows, after=look["after"], upto=look["upto"])
        new = TASKS[task.kind](model, encoder, task, asked, samples=protocol.samples, progress=progress)
        known = {item["item"]: item for item in (*(earlier.items_of(task=task.id) if earlier else ()), *new)}
        items += [known[id] for id in map(item_id, rows) if id in known]
    if earlier:
        windows, documents = earlier.windows, earlier.long
    values = Values(windows=windows, long=documents, items=tuple(items))
    return values, _scoring(values, encoder, model)


def _scoring(values: Values, encoder: Encoder, model: ScoredModel) -> Scoring:
    windows = values.windows
    return Scoring(
        start_token=encoder.start[0] if encoder.start else None,
        attention=model.attention,
        windows=len(windows.nll) if windows else 0,
        tokens=windows.nll.size if windows else 0,
        bytes=int(windows.bytes.sum()) if windows else 0,
        documents=len(values.long.nll) if values.long else 0,
    )


def _probe(text: Passages | None, long: Passages | None, prompt: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What layers are compared on: a window, the beginning of a long document, or else what `prompt` gives."""
    if text:
        return text.ids[:1]
    return long.ids[:1, :PROBE_TOKENS] if long else prompt()


def _first_prompt(encoder: Encoder, row: Row) -> torch.Tensor:
    return torch.tensor([encoder.encode(encoder.prompt(row), where=row.where)])


def versions() -> dict[str, str]:
    """Of Python and of every package here that may decide a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    serve(evaluate)
