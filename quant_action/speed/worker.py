"""Times a candidate beside the unquantized model, each loaded as its users load it, in one process.

Its request; `room` are bytes of host memory that it may take, `speed` is a `records.SpeedProtocol`:

    {"verb": "time", "baseline": "/path", "model": "/path", "layers": ["model.layers.0.mlp.up_proj", ...], "device": "cpu" | "cuda",
     "room": bytes, "speed": {...}}

It answers with the fields of `records.Speed` that it knows, and with `began` and `ended`, seconds since 1970, of what was timed.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from quant_action.errors import EngineError, OutOfMemory
from quant_action.model_files import read_config
from quant_action.records import SpeedCase, SpeedProtocol
from quant_action.runtimes.kernels import kernels_of, quantized_modules
from quant_action.runtimes.worker import LIBRARIES, kernels_being_built, load_runtime, told_backend
from quant_action.speed.timing import in_turns, prompt_ids, run_of, warm_up
from quant_action.workers.protocol import serve

Progress = Callable[[str, int, int], None]
Who = Literal["baseline", "candidate"]

BLOCKS = 6
"""How often each model is loaded where they do not fit together: enough for the interval of a ratio, and even, as in `in_turns`."""

BLOCK_RUNS = 5
"""Whose median is a block's figure."""

HEADROOM = 1.25
"""Times the weights of both: activations, caches and what libraries keep. Where it was too little, the GPU says so, and they take turns."""


@dataclass(kw_only=True)
class Side:
    """One model in one case, as it is timed."""

    seconds: list[float] = field(default_factory=list)
    warmups: int = 0
    settled: bool = True
    peak_gpu_memory: int | None = None

    def warmed(self, runs: int, settled: bool, peak: int | None) -> None:
        self.warmups += runs
        self.settled &= settled
        self.peak_gpu_memory = None if peak is None else max(peak, self.peak_gpu_memory or 0)


Timed = dict[Who, Side]


def measure(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Answer one request. Raises `EngineError` where the runtime does not load the artifact or leaves layers unquantized."""
    asked = SpeedProtocol.model_validate(request["speed"])
    folders: dict[Who, Path] = {"baseline": Path(request["baseline"]), "candidate": Path(request["model"])}
    method = str((read_config(folders["candidate"]).get("quantization_config") or {}).get("quant_method"))
    if method not in LIBRARIES:
        raise EngineError(f"no runtime is known for checkpoints of {method!r}", where=str(folders["candidate"] / "config.json"))
    bench = Bench(folders=folders, layers=request["layers"], device=request["device"], asked=asked, progress=progress)
    with torch.inference_mode():
        turns, timed = bench.time_all(together=fits_together(folders, request["device"], room=request["room"]))
    library = LIBRARIES[method]
    return {
        "turns": turns,
        "cases": [
            {"case": case.model_dump(), **{who: vars(side) for who, side in timed[case].items()}, "unstable": []} for case in asked.cases
        ],
        "runtime": f"transformers {version('transformers')} with {library} {version(library)}",
        "backend": bench.backend,
        "kernels": bench.kernels,
        "dtypes": [bench.dtypes["baseline"], bench.dtypes["candidate"]],
        "peak_gpu_memory": bench.most_held() if request["device"] == "cuda" else None,
        "versions": {name: version(name) for name in ("torch", "transformers", library)},
        "began": bench.began,
        "ended": time.time(),
    }


def fits_together(folders: dict[Who, Path], device: str, *, room: int) -> bool:
    """Whether both models may be loaded at once. Files of 32 bits are taken at their size, though they are loaded in 16."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else room
    weights = sum(path.stat().st_size for folder in folders.values() for path in folder.glob("*.safetensors"))
    return weights * HEADROOM <= free


@dataclass(kw_only=True)
class Bench:
    folders: dict[Who, Path]
    layers: list[str]
    device: str
    asked: SpeedProtocol
    progress: Progress
    backend: str | None = None
    kernels: dict[str, int] = field(default_factory=dict)
    dtypes: dict[Who, str] = field(default_factory=dict)
    began: float = 0.0
    vocabulary: int = 0
    peak: int = 0
    """Bytes on the GPU until torch's own count was last set back."""

    def time_all(self, *, together: bool) -> tuple[Literal["runs", "blocks"], dict[SpeedCase, Timed]]:
        if together:
            try:
                return "runs", self.by_runs()
            except (torch.OutOfMemoryError, OutOfMemory) as error:  # the second from within a library
                print(f"the two models do not fit together, so each is loaded in turn: {error}", file=sys.stderr)
            free_memory()
        return "blocks", self.by_blocks()

    def by_runs(self) -> dict[SpeedCase, Timed]:
        """Both models in memory; they take turns run by run."""
        before = held(self.device)
        baseline = self.load("baseline")
        between = held(self.device)
        candidate = self.load("candidate")
        own: dict[Who, int] = {"baseline": between - before, "candidate": held(self.device) - between}
        found: dict[SpeedCase, Timed] = {}
        self.began = time.time()
        for case in self.asked.cases:
            timed = found[case] = {"baseline": Side(), "candidate": Side()}
            with self.case(case) as ids:
                runs = {"baseline": run_of(baseline, case, ids), "candidate": run_of(candidate, case, ids)}
                self.warm(case, runs["baseline"], timed["baseline"], others=own["candidate"])
                self.warm(case, runs["candidate"], timed["candidate"], others=own["baseline"])
                told = partial(self.tell, case)
                pairs = in_turns(runs["baseline"], runs["candidate"], pairs=self.asked.pairs, seconds=self.asked.seconds, told=told)
            timed["baseline"].seconds, timed["candidate"].seconds = (list(column) for column in zip(*pairs, strict=True))
        return found

    def by_blocks(self) -> dict[SpeedCase, Timed]:
        """One model in memory at a time; they take turns load by load, and a block is one figure."""
        found: dict[SpeedCase, Timed] = {case: {"baseline": Side(), "candidate": Side()} for case in self.asked.cases}
        order: tuple[Who, Who] = ("baseline", "candidate")
        for block in range(2 * BLOCKS):
            who = order[(block + block // 2) % 2]  # first second, second first, ... as in `in_turns`
            model = self.load(who)
            self.began = self.began or time.time()
            for case in self.asked.cases:
                self.progress(f"time {case.id}, {who}", block + 1, 2 * BLOCKS)
                with self.case(case) as ids:
                    run = run_of(model, case, ids)
                    self.warm(case, run, found[case][who], others=0)
                    found[case][who].seconds.append(statistics.median(run() for _ in range(BLOCK_RUNS)))
                del run
            del model
            free_memory()
        return found

    def load(self, who: Who) -> Any:
        self.progress(f"load the {who}", 1, 1)
        with kernels_being_built(self.progress):
            model = load_runtime(self.folders[who], self.device)
        self.dtypes[who] = str(model.dtype).removeprefix("torch.")
        if who == "candidate":
            self.backend = told_backend(model)
            self.kernels = kernels_of(quantized_modules(model, self.layers))
        self.vocabulary = model.config.get_text_config().vocab_size
        return model

    @contextmanager
    def case(self, case: SpeedCase) -> Iterator[torch.Tensor]:
        """The prompts of a case on the device; Python's collector of garbage waits until it is over."""
        ids = prompt_ids(case, prompt=self.asked.prompt, vocabulary=self.vocabulary, seed=self.asked.seed).to(self.device)
        gc.collect()
        gc.disable()
        try:
            yield ids
        finally:
            gc.enable()

    def warm(self, case: SpeedCase, run: Callable[[], float], side: Side, *, others: int) -> None:
        self.progress(f"warm up {case.id}", 0, 1)
        if self.device == "cuda":
            self.peak = self.most_held()
            torch.cuda.reset_peak_memory_stats()
        runs, settled = warm_up(run, seconds=self.asked.seconds / 2)
        side.warmed(runs, settled, torch.cuda.max_memory_allocated() - others if self.device == "cuda" else None)

    def tell(self, case: SpeedCase, pairs: int) -> None:
        self.progress(f"time {case.id}", pairs, self.asked.pairs[1])

    def most_held(self) -> int:
        return max(self.peak, int(torch.cuda.max_memory_allocated()))


def held(device: str) -> int:
    """Bytes of tensors on the GPU."""
    return int(torch.cuda.memory_allocated()) if device == "cuda" else 0


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    serve(measure)
