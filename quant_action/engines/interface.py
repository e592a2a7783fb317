"""What an engine is: a light description that the planner reads, and the name of a worker module that does the work.

A description imports nothing heavy, so that `plan` and `check` answer at once. Built-in engines and those of other packages enter by the
same door, the entry-point group `quant_action.engines`, whose values are `Engine` objects.

The worker is started as `python -m <worker> CONTROL_FOLDER` in the engine's environment (see `workers/protocol.py`). Its request:

    {"verb": "quantize", "scheme": {...}, "model": "/path", "output": "/path", "device": "cpu" | "cuda",
     "calibration": {"data": "/path.jsonl", "samples": 128, "tokens": 2048, "seed": 0} | null}

It writes a folder for `from_pretrained` to `output` (which exists and is empty) and answers

    {"quantized": ["model.layers.0.self_attn.q_proj", ...], "peak_gpu_memory": bytes | null, "versions": {"torch": "2.13.0", ...}}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quant_action.costs import library
from quant_action.records import Estimate, Scheme
from quant_action.work import QuantizeWork


@dataclass(frozen=True, kw_only=True)
class Engine:
    name: str
    methods: tuple[str, ...]
    """Values of a candidate's `method` that it can do."""
    environment: str
    """Name of the environment that the worker runs in; `host` is the one quant_action itself runs in, with the extra `run`."""
    worker: str
    """Module to run there."""
    requires: tuple[str, ...]
    """Distributions whose versions decide the result."""
    sources: tuple[str, ...]
    """Modules or packages of ours whose code decides the result."""
    needs_calibration: Callable[[Scheme], bool]
    refuses: Callable[[Scheme, str], str | None]
    """`(scheme, device)` -> why it cannot do this, or None. `device` is `cpu` or `cuda`."""
    refuses_shape: Callable[[Scheme, int, int], str | None] = lambda scheme, outputs, inputs: None
    """`(scheme, outputs, inputs)` -> why it cannot quantize or store a linear of this shape, or None."""
    why: str
    """Half a sentence for the plan: why one would choose it."""
    estimate: Callable[[QuantizeWork], Estimate] = library
    """What a job takes. Ours stand in `costs.py`: were they here, a better constant would change the keys of results."""
    builds_with: tuple[str, ...] = ()
    """Programs (of `hardware.TOOLS`) with which it builds kernels at first use on a GPU; without them it is slower, or fails."""
