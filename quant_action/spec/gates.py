"""`gates`: where the lines are that a candidate must not cross."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from quant_action.spec.types import Size, SpecModel

Versus = Literal["baseline", "release"]


class Gate(SpecModel):
    level: Literal["error", "warn"] = "error"
    """`warn`: shown in every report, and never decides."""


class RatioGate(Gate):
    vs: Versus = "baseline"
    max: Annotated[float, Field(gt=0)]


class ReleaseRatioGate(Gate):
    vs: Literal["release"] = "release"
    max: Annotated[float, Field(gt=0)]


class MarginGate(Gate):
    vs: Versus = "baseline"
    margin: Annotated[float, Field(gt=0, lt=1)]
    """The largest change for the worse that is accepted, as a fraction: 0.01 is one percentage point."""


class CeilingGate(Gate):
    max: Annotated[float, Field(gt=0)]


class FloorGate(Gate):
    min: Annotated[float, Field(gt=0, le=1)]


class SpeedGate(Gate):
    min: Annotated[float, Field(gt=0)]
    """As a multiple of the unquantized model's speed: 0.9 accepts a tenth less, 1.5 asks for half as much again."""


class SizeGate(Gate):
    max: Size


Against = TypeVar("Against", RatioGate, MarginGate)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | BaseModel) else value


def _once_each(gates: list[Against]) -> list[Against]:
    twice = [vs for vs, count in Counter(gate.vs for gate in gates).items() if count > 1]
    if twice:
        raise ValueError(f"two limits against the {twice[0]}; give one against the baseline and one against the release")
    return gates


RatioGates = Annotated[
    list[RatioGate],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=RatioGate | list[RatioGate]),
    AfterValidator(_once_each),
]
MarginGates = Annotated[
    list[MarginGate],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=MarginGate | list[MarginGate]),
    AfterValidator(_once_each),
]


class Gates(SpecModel):
    perplexity_ratio: RatioGates | None = None
    """One limit, or a list of two: against the baseline and against the last release."""
    kl: CeilingGate | None = None
    """Mean KL divergence from the unquantized model, nats."""
    kl_ratio: ReleaseRatioGate | None = None
    """Mean KL divergence, as a multiple of the last release's."""
    kl_p99_ratio: ReleaseRatioGate | None = None
    """Its 99th percentile, likewise."""
    kl_long: CeilingGate | None = None
    """Mean KL divergence at the end of long documents, nats; needs `evaluation.long_text`."""
    top1: FloorGate | None = None
    """Share of positions whose most likely token is the unquantized model's."""
    accuracy: MarginGates | None = None
    """On the items of all tasks together; one limit, or a list of two."""
    tasks: MarginGate | None = None
    """On each task and each slice by itself. All together fail a good candidate as rarely as one gate; one left open never blocks."""
    degenerate: MarginGate | None = None
    """Share of generations that loop, are empty or do not end."""
    size: SizeGate | None = None
    """Of the weight files."""
    memory: SizeGate | None = None
    """Peak while evaluating: the GPU's, or without one the process's."""
    prefill: SpeedGate | None = None
    """Of reading a prompt, at the first length and batch of `evaluation.latency`."""
    decode: SpeedGate | None = None
    """Of writing, at the first batch of `evaluation.latency`."""
