"""The harness's process, in the environment `lm-eval`: one model in, its items of the harness's tasks out.

Its request, the output being a file to write:

    {"verb": "evaluate", "model": "/path", "base": "/path", "device": "cpu" | "cuda", "dtype": "bfloat16", "batch": 8,
     "samples": "text" | "hash-only", "share": [0.0, 1.0], "output": "/path/items.jsonl",
     "tasks": [{"id": "facts", "task": "gsm8k", "metric": "exact_match" | null, "limit": 500 | null,
                "config": {...} | null, "splits": {"test": ["/path"]}}]}

`base` has the tokenizer that texts are read with; a task with a `config` comes from a file of the repository (`task_file.py`), one without
from the harness's own suite. It answers

    {"peak_gpu_memory": bytes | null, "versions": {"lm_eval": "0.4.13", ...}}
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # its bars are one endless line in a log; progress goes its own way

import numpy as np
import torch
from jinja2 import TemplateError
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.models.huggingface import HFLM

from quant_action.checkpoints.load import load_model, load_tokenizer
from quant_action.errors import DataError, EnvironmentMissing
from quant_action.harness.items import asked_items, items_of
from quant_action.harness.tasks import load_tasks
from quant_action.scorer.prompt import Encoder
from quant_action.workers.protocol import serve

PACKAGES = ("lm_eval", "datasets", "accelerate")
SEED = 1234
"""The harness's own: a task that draws its answers draws the same for every model."""

FAULTS_OF_TASKS = (TemplateError, AssertionError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)
"""What templates and settings that do not fit an item raise; faults of the model are other errors."""

Progress = Callable[[str, int, int], None]


def evaluate(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Answer one request. Raises the errors of `load_tasks`, `load_model`, `Encoder` and `items_of`."""
    device = request["device"]
    if device == "cuda":
        if not torch.cuda.is_available():
            raise EnvironmentMissing("a GPU was asked for, and torch sees none", remedy="Use a GPU build of torch, or --device cpu.")
        torch.cuda.reset_peak_memory_stats()
    tasks = [(asked, load_tasks(asked)) for asked in request["tasks"]]  # all of them before the model: it takes minutes to load
    folder, base = Path(request["model"]), Path(request["base"])
    encoder = Encoder(load_tokenizer(base), load_tokenizer(folder))
    model = Reader(load_model(folder, device=device, dtype=getattr(torch, request["dtype"])), encoder, batch=request["batch"])
    with torch.inference_mode():
        items = [
            item
            for asked, found in tasks
            for item in measure(model, asked, found, request["share"], hash_only=request["samples"] == "hash-only", progress=progress)
        ]
    lines = [json.dumps(item, sort_keys=True) + "\n" for item in items]
    Path(request["output"]).write_text("".join(lines), encoding="utf-8")
    return {
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": {package: version(package) for package in PACKAGES},
    }


def measure(
    model: Reader, asked: dict[str, Any], tasks: dict[str, Any], share: Sequence[float], *, hash_only: bool, progress: Progress
) -> list[dict[str, Any]]:
    """The items of one task of the spec, which is one task of the harness, or all of a group; between the two shares of them.

    Only the part of the harness that runs a model is called. What it wraps around that writes facts about the machine into its results
    (`pretty_env_info`), calls git, and asks the Hub about the model.
    """
    places = [(name, doc) for name, task in tasks.items() for doc in range(len(task.eval_docs))]
    ids = [f"{name}/{doc}" if len(tasks) > 1 else str(doc) for name, doc in places]
    items: list[dict[str, Any]] = []
    chosen: dict[str, list[int]] = {}
    for index in asked_items(ids, limit=asked["limit"], share_from=share[0], share_to=share[1]):
        name, doc = places[index]
        chosen.setdefault(name, []).append(doc)  # rising, as the harness needs them: it gives its n-th document the n-th number
    model.report_to(lambda done, total: progress(f"task {asked['id']}", done, total))
    torch.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)  # the harness's tasks draw from the global generators
    for name, docs in chosen.items():
        some = docs if len(docs) < len(tasks[name].eval_docs) else None  # a list is searched for every document
        try:
            result = run_harness(model, {"tasks": {name: tasks[name]}}, samples={name: some}, bootstrap_iters=0, log_samples=True)
        except FAULTS_OF_TASKS as error:
            raise DataError(f"task {asked['id']}: {name} fails on one of its items ({type(error).__name__}: {error})") from error
        named = {doc: f"{name}/{doc}" if len(tasks) > 1 else str(doc) for doc in docs}
        items += items_of(asked["id"], result["samples"][name], named, metric=asked["metric"], hash_only=hash_only)
    return items


class Reader(HFLM):  # type: ignore[misc]
    """The harness's own way to ask a model of transformers. It says how far it is, and checks that both tokenizers read alike."""

    def __init__(self, model: Any, encoder: Encoder, *, batch: int) -> None:
        super().__init__(pretrained=model, tokenizer=encoder.tokenizer, batch_size=batch, softmax_dtype="float32")
        self._encoder = encoder

    def report_to(self, on_done: Callable[[int, int], None]) -> None:
        self._on_done = on_done

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self._begin(requests)
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self._begin(requests)
        answers: list[str] = super().generate_until(requests, disable_tqdm=True)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise DataError(
            f"task {requests[0].task_name} measures the likelihood of whole texts, and none of its items is right or wrong",
            remedy="Take it out: evaluation.text measures perplexity.",
        )

    def _begin(self, requests: list[Any]) -> None:
        """Raises `EngineError` where the artifact's tokenizer reads a request differently from the base model's."""
        for request in requests:
            text = "".join(part for part in request.args if isinstance(part, str))
            self._encoder.encode(text, where=f"{request.task_name}, item {request.doc_id}")
        self.set_cache_hook(_Counter(self._on_done, len(requests)))


class _Counter:
    """In the place of the harness's cache, which is told of every answer and is not used."""

    def __init__(self, on_done: Callable[[int, int], None], total: int) -> None:
        self._on_done, self._total, self._done = on_done, total, 0

    def add_partial(self, kind: str, request: object, answer: object) -> None:
        self._done += 1
        self._on_done(self._done, self._total)


if __name__ == "__main__":
    serve(evaluate)
