"""`candidates`: what is to be made, as the team says it; `plan.resolve_scheme` fills in what is left out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from quant_action.spec.types import GroupSize, Positive, SpecModel


class CandidateBase(SpecModel):
    engine: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")] | None = None
    """The planner chooses one when it is left out."""
    required: bool = False
    """The run is rejected when this candidate fails, even if another passes."""


class GroupedCandidate(CandidateBase):
    bits: Positive
    group_size: GroupSize = 128
    """Inputs that share a scale; `channel` (or -1) is one scale per output channel."""
    clip: bool | None = None


class GptqCandidate(GroupedCandidate):
    """GPTQ, arXiv 2210.17323."""

    method: Literal["gptq"]
    symmetric: bool = True
    act_order: bool | None = None
    static_groups: bool | None = None
    scales: Literal["awq"] | None = None
    damping: Annotated[float, Field(gt=0, lt=1)] | None = None


class AwqCandidate(GroupedCandidate):
    """AWQ, arXiv 2306.00978."""

    method: Literal["awq"]
    symmetric: bool = False


class RtnCandidate(GroupedCandidate):
    """Round to nearest: needs no calibration data."""

    method: Literal["rtn"]
    symmetric: bool = True


class PresetCandidate(CandidateBase):
    """A named choice; the plan shows what it stands for."""

    preset: Literal["gptq-w4", "awq-w4", "best-w4", "gptq-w8", "nf4", "int8"]


class BitsandbytesCandidate(CandidateBase):
    method: Literal["bitsandbytes"]
    type: Literal["nf4", "fp4", "int8"]
    double_quant: bool = False


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "preset" if "preset" in value else value.get("method")
    return getattr(value, "method", "preset")


CandidateSpec = Annotated[
    Annotated[GptqCandidate, Tag("gptq")]
    | Annotated[AwqCandidate, Tag("awq")]
    | Annotated[RtnCandidate, Tag("rtn")]
    | Annotated[BitsandbytesCandidate, Tag("bitsandbytes")]
    | Annotated[PresetCandidate, Tag("preset")],
    Discriminator(_kind),
]
