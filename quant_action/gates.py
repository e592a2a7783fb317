"""The spec's gates as the judge applies them: for each candidate, which metric, against what, and where the line is.

Without `gates` in the spec a budget against the unquantized model applies, by bits. Its figures leave room above the perplexity ratios
that llama.cpp (issue 6936) published for Llama-3-8B: 1.0004 at 8 bits, 1.028 at 4 bits.
"""

from __future__ import annotations

from typing import Literal

from quant_action.records import GateLimit
from quant_action.spec import CeilingGate, FloorGate, Gates, LoadedSpec, MarginGate, RatioGate, ReleaseRatioGate, SizeGate, SpeedGate

DEFAULT_PERPLEXITY_RATIO = {8: 1.01, 4: 1.05, 3: 1.15}
DEFAULT_MARGIN = {8: 0.01}


def default_gates(bits: int) -> Gates:
    return Gates(
        perplexity_ratio=RatioGate(vs="baseline", max=DEFAULT_PERPLEXITY_RATIO.get(bits, 1.15)),
        accuracy=MarginGate(vs="baseline", margin=DEFAULT_MARGIN.get(bits, 0.02)),
    )


METRICS = {
    "perplexity_ratio": "perplexity",
    "kl": "kl",
    "kl_ratio": "kl",
    "top1": "top1",
    "accuracy": "accuracy",
    "size": "size",
    "memory": "memory",
    "prefill": "prefill",
    "decode": "decode",
}
"""Which metric each gate looks at."""


def gate_limits(loaded: LoadedSpec, bits: int) -> tuple[GateLimit, ...]:
    """The gates on a candidate of so many bits, in the order in which they are reported."""
    asked = loaded.spec.gates
    limits = []
    for name, metric in METRICS.items():
        gate = getattr(asked or default_gates(bits), name)
        if gate is not None:
            bound, limit = _bound(gate)
            where = loaded.where("gates", name) if asked else None
            limits.append(GateLimit(gate=name, metric=metric, vs=getattr(gate, "vs", None), bound=bound, limit=limit, where=where))
    return tuple(limits)


def _bound(
    gate: RatioGate | ReleaseRatioGate | MarginGate | CeilingGate | FloorGate | SizeGate | SpeedGate,
) -> tuple[Literal["max", "min"], float]:
    match gate:
        case MarginGate():
            return "min", -gate.margin
        case FloorGate() | SpeedGate():
            return "min", gate.min
        case RatioGate() | ReleaseRatioGate() | CeilingGate() | SizeGate():
            return "max", gate.max
