"""The spec's gates as the judge applies them: for each candidate, which metric, against what, and where the line is.

Without `gates` in the spec a budget applies, by bits against the unquantized model and by non-regression against the last release, each
gate only where a run measures what it asks for. Its figures leave room above the perplexity ratios that llama.cpp (issue 6936) published
for Llama-3-8B: 1.0004 at 8 bits, 1.028 at 4 bits. Divergence has a limit against the release alone: what is much of it depends on the
size of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from quant_action.metrics.intervals import bonett_price
from quant_action.records import GateLimit, Override
from quant_action.spec import CeilingGate, FloorGate, Gate, Gates, LoadedSpec, MarginGate, RatioGate, ReleaseRatioGate, SizeGate, SpeedGate
from quant_action.values import Values

DEFAULT_PERPLEXITY_RATIO = {8: 1.01, 4: 1.05, 3: 1.15}
DEFAULT_MARGIN = {8: 0.01}
DEFAULT_DEGENERATE = 0.01

TASKS = "tasks"
"""The gate that is one tripwire for each task and each slice, and the family that these are."""

METRICS = {
    "perplexity_ratio": "perplexity",
    "kl": "kl",
    "kl_ratio": "kl",
    "kl_p99_ratio": "kl_p99",
    "kl_long": "kl_long",
    "top1": "top1",
    "accuracy": "accuracy",
    TASKS: "accuracy",
    "degenerate": "degenerate",
    "size": "size",
    "memory": "memory",
    "prefill": "prefill",
    "decode": "decode",
}
"""Which metric each gate looks at, in the order in which they are reported."""

OF_THE_BASELINE = ("kl", "kl_long", "top1", "prefill", "decode")
"""Gates whose metric is a comparison with the unquantized model already, so that the spec need not say it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run measures, as far as gates ask."""

    text: bool
    tasks: Mapping[str, int]
    """Task -> number of items."""
    slices: Mapping[str, int]
    """Slice of the tasks' items -> number of items."""
    generations: int
    """Items that are answered by generation."""
    documents: int = 0
    """Long ones, whose ends are scored."""

    @property
    def items(self) -> int:
        return sum(self.tasks.values())


def measured_of(values: Values) -> Measured:
    """As the baseline was measured: it has all items."""
    return Measured(
        text=values.windows is not None,
        tasks=Counter(item["task"] for item in values.items),
        slices=Counter(item["slice"] for item in values.items if item.get("slice")),
        generations=sum("degenerate" in item for item in values.items),
        documents=len(values.long.nll) if values.long else 0,
    )


def default_gates(bits: int, measured: Measured) -> Gates:
    """The gate on generations only where there are enough that a candidate which changes nothing would pass it."""
    text, items = measured.text, measured.items > 0
    healthy = measured.generations and -bonett_price(gains=0, losses=0, n=measured.generations).low < DEFAULT_DEGENERATE
    return Gates(
        perplexity_ratio=[RatioGate(vs="baseline", max=DEFAULT_PERPLEXITY_RATIO.get(bits, 1.15))] if text else None,
        kl_ratio=ReleaseRatioGate(max=1.10) if text else None,
        kl_p99_ratio=ReleaseRatioGate(max=1.25, level="warn") if text else None,
        accuracy=[MarginGate(vs="release", margin=0.01), MarginGate(vs="baseline", margin=DEFAULT_MARGIN.get(bits, 0.02))]
        if items
        else None,
        tasks=MarginGate(vs="release", margin=0.03) if items else None,
        degenerate=MarginGate(vs="baseline", margin=DEFAULT_DEGENERATE) if healthy else None,
    )


def gate_limits(loaded: LoadedSpec, bits: int, measured: Measured) -> tuple[GateLimit, ...]:
    """The gates on a candidate of so many bits, in the order in which they are reported."""
    gates = loaded.spec.gates or default_gates(bits, measured)
    return tuple(limit for name in METRICS for limit in _limits(loaded, name, getattr(gates, name), measured))


def _limits(loaded: LoadedSpec, name: str, gates: Gate | list[Gate] | None, measured: Measured) -> Iterator[GateLimit]:
    metrics = [METRICS[name]]
    if name == TASKS:
        metrics = [*(f"accuracy:{task}" for task in measured.tasks), *(f"accuracy@{name}" for name in sorted(measured.slices))]
    for index, gate in enumerate(gates if isinstance(gates, list) else [gates]):
        if gate is None:
            continue
        bound, limit = _bound(name, gate)
        for metric in metrics:
            yield GateLimit(
                gate=name,
                metric=metric,
                vs="baseline" if name in OF_THE_BASELINE else getattr(gate, "vs", None),
                bound=bound,
                limit=limit,
                where=loaded.where("gates", name, index) if loaded.spec.gates else None,
                level=gate.level,
                family=TASKS if name == TASKS else None,
            )


def _bound(name: str, gate: Gate) -> tuple[Literal["max", "min"], float]:
    match gate:
        case MarginGate():
            return ("max", gate.margin) if name == "degenerate" else ("min", -gate.margin)
        case FloorGate() | SpeedGate():
            return "min", gate.min
        case RatioGate() | ReleaseRatioGate() | CeilingGate() | SizeGate():
            return "max", gate.max
        case _:
            raise AssertionError(f"gate {name} has no bound")


def overrides_of(loaded: LoadedSpec) -> tuple[Override, ...]:
    """All that the spec has, in its order."""
    return tuple(
        Override(**override.model_dump(), where=loaded.where("overrides", index)) for index, override in enumerate(loaded.spec.overrides)
    )
