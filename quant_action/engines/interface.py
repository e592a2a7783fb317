"""What an engine is: a light description that the planner reads, and the name of a worker module that does the work.

A description imports nothing heavy, so that `plan` and `check` answer at once. Built-in engines and those of other packages enter by the
same door, the entry-point group `quant_action.engines`, whose values are `Engine` objects (`examples/engine` is a whole one).

The worker is started as `python -m <worker> CONTROL_FOLDER` in the engine's environment (see `workers/protocol.py`). Its request:

    {"verb": "quantize", "scheme": {...}, "model": "/path", "output": "/path", "device": "cpu" | "cuda",
     "calibration": {"data": "/path.jsonl", "samples": 128, "tokens": 2048, "seed": 0} | null}

It writes a folder for `from_pretrained` to `output` (which exists and is empty), reports progress at least once, and answers `Answer`:

    {"quantized": ["model.layers.0.self_attn.q_proj", ...], "peak_gpu_memory": bytes | null, "versions": {"torch": "2.13.0", ...}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from quant_action.costs import library
from quant_action.hardware import Device
from quant_action.records import Estimate, Scheme, Value
from quant_action.work import QuantizeWork

EVERY_DEVICE: tuple[Device, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Engine:
    name: str
    methods: Mapping[str, tuple[Device, ...]]
    """Values of a candidate's `method` that it can do, and where: `{"gptq": EVERY_DEVICE, "awq": ("cuda",)}`."""
    environment: str
    """Name of the environment that the worker runs in; `host` is the one quant_action itself runs in, with the extra `run`."""
    worker: str
    """Module to run there."""
    writes: tuple[str, ...]
    """Checkpoint formats, as `quant_method` in the config.json that it writes has them."""
    deterministic: tuple[Device, ...]
    """Where two runs give the same bytes: with the same versions, on the same machine, with as many threads."""
    requires: tuple[str, ...]
    """Distributions whose versions decide the result."""
    sources: tuple[str, ...]
    """Modules or packages whose code decides the result, the worker's among them."""
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Method -> options that are on unless a candidate says otherwise: what of a scheme's refinements it has, or always does."""
    needs_calibration: Callable[[Scheme], bool]
    refuses: Callable[[Scheme, Device], str | None]
    """`(scheme, device)` -> why it cannot do this, or None. Asked of the methods that it has; where they run stands in `methods`."""
    refuses_shape: Callable[[Scheme, int, int], str | None] = lambda scheme, outputs, inputs: None
    """`(scheme, outputs, inputs)` -> why it cannot quantize or store a linear of this shape, or None. That groups must divide the inputs
    is known of every engine."""
    why: str
    """Half a sentence for the plan: why one would choose it."""
    estimate: Callable[[QuantizeWork], Estimate] = library
    """What a job takes. Ours stand in `costs.py`: were they here, a better constant would change the keys of results."""
    builds_with: tuple[str, ...] = ()
    """Programs (of `hardware.TOOLS`) with which it builds kernels at first use on a GPU; without them it is slower, or fails."""

    @property
    def devices(self) -> tuple[Device, ...]:
        """Where it can do anything at all."""
        return tuple(device for device in EVERY_DEVICE if any(device in places for places in self.methods.values()))

    def refusal(self, scheme: Scheme, device: Device) -> str | None:
        """Why it cannot do this, or None."""
        if scheme.method not in self.methods:
            return f"it does {', '.join(self.methods)}, not {scheme.method}"
        if reason := self.refuses(scheme, device):
            return reason
        if device not in self.methods[scheme.method]:
            return f"it needs an NVIDIA GPU for {scheme.method}" if device == "cpu" else f"it does {scheme.method} on the CPU only"
        return None


class Answer(Value):
    """What a worker says when it has quantized."""

    quantized: tuple[str, ...]
    """Modules."""
    peak_gpu_memory: int | None
    """Bytes; None where no GPU was used."""
    versions: dict[str, str]
    """Of the distributions in `Engine.requires`."""
