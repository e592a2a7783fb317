"""`evaluation`: what is measured, on which data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from quant_action.spec.types import DataPath, Id, Positive, SpecModel


class Text(SpecModel):
    data: DataPath
    window: Annotated[int, Field(ge=8)] = 2048


class DataTask(SpecModel):
    data: DataPath
    kind: Literal["choice", "generate"]
    max_tokens: Positive = 32
    """`generate`: how many tokens an answer may have."""
    limit: Positive | None = None
    """Score this many items, drawn by a fixed permutation."""


class LmEvalTask(SpecModel):
    """A task of lm-evaluation-harness. Part of the spec's language; the planner of this version refuses it."""

    lm_eval: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    limit: Positive | None = None


def _kind_of_task(value: Any) -> str:
    return "lm_eval" if isinstance(value, LmEvalTask) or (isinstance(value, dict) and "lm_eval" in value) else "data"


Task = Annotated[Annotated[DataTask, Tag("data")] | Annotated[LmEvalTask, Tag("lm_eval")], Discriminator(_kind_of_task)]


def _each_once(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("each number once")
    return values


Lengths = Annotated[list[Positive], AfterValidator(_each_once)]


class Latency(SpecModel):
    """How fast each artifact is beside the unquantized model, by the library that serves it, on the machine that runs this.

    Gates look at the first prompt length and the first batch; the report shows every one.
    """

    prefill: Lengths = Field(default=[])
    """Lengths of prompts, tokens: the time to the first new token."""
    decode: Positive | None = None
    """Further new tokens after the first."""
    batch: Annotated[Lengths, Field(min_length=1)] = Field(default=[1])
    """Sequences at once."""

    @model_validator(mode="after")
    def _something_is_timed(self) -> Latency:
        if not self.prefill and self.decode is None:
            raise ValueError("latency needs prefill, decode or both, such as {prefill: [512], decode: 128, batch: [1, 32]}")
        return self


class Evaluation(SpecModel):
    text: Text | None = None
    tasks: dict[Id, Task] = Field(default={})
    latency: Latency | None = None
    runtime: bool = False
    """Load every artifact with the library that will serve it, and compare what it computes with what was scored; needs text."""
