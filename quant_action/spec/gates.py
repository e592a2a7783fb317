"""`gates`: where the lines are that a candidate must not cross."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quant_action.spec.types import Size, SpecModel

Versus = Literal["baseline", "release"]


class RatioGate(SpecModel):
    vs: Versus = "baseline"
    max: Annotated[float, Field(gt=0)]


class ReleaseRatioGate(SpecModel):
    vs: Literal["release"] = "release"
    max: Annotated[float, Field(gt=0)]


class MarginGate(SpecModel):
    vs: Versus = "baseline"
    margin: Annotated[float, Field(gt=0, lt=1)]
    """The largest loss of accuracy that is accepted, as a fraction: 0.01 is one percentage point."""


class CeilingGate(SpecModel):
    max: Annotated[float, Field(gt=0)]


class FloorGate(SpecModel):
    min: Annotated[float, Field(gt=0, le=1)]


class SizeGate(SpecModel):
    max: Size


class SpeedGate(SpecModel):
    vs: Literal["baseline"] = "baseline"
    min: Annotated[float, Field(gt=0)]
    """Speed as a multiple of the unquantized model's: 0.9 is a tenth slower."""


class Gates(SpecModel):
    perplexity_ratio: RatioGate | None = None
    kl: CeilingGate | None = None
    """Mean KL divergence from the unquantized model, nats."""
    kl_ratio: ReleaseRatioGate | None = None
    """Mean KL divergence, as a multiple of the last release's."""
    top1: FloorGate | None = None
    """Share of positions whose most likely token is the unquantized model's."""
    accuracy: MarginGate | None = None
    size: SizeGate | None = None
    """Of the weight files."""
    memory: SizeGate | None = None
    """Peak while evaluating: the GPU's, or without one the process's."""
    prefill: SpeedGate | None = None
    """At the first length and batch of `evaluation.latency`."""
    decode: SpeedGate | None = None
