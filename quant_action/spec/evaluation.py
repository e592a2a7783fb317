"""`evaluation`: what is measured, on which data."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from quant_action.spec.types import DataPath, Id, Positive, SpecModel


class Text(SpecModel):
    data: DataPath
    window: Annotated[int, Field(ge=8)] = 2048


class LongText(SpecModel):
    """Divergence at the end of long documents, where a quantized attention has had most to get wrong."""

    data: DataPath
    tokens: Annotated[int, Field(ge=64)] = 8192
    """Each row has at least so many; the last tenth of the first so many is scored."""


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


class Latency(SpecModel):
    """Speed of prefill and decoding. Part of the spec's language; the planner of this version refuses it."""

    prefill: list[Positive] = Field(default=[])
    decode: Positive | None = None
    batch: list[Positive] = Field(default=[1])


NEAREST_LOOKS = 0.01
"""Between two looks lies at least this share of the items."""


def _rising(looks: list[float]) -> list[float]:
    if looks[-1] != 1 or any(late - early < NEAREST_LOOKS - 1e-9 for early, late in pairwise((0.0, *looks))):
        raise ValueError(f"expected shares that rise to 1 by {NEAREST_LOOKS} or more, such as [0.25, 0.5, 1]")
    return looks


Looks = Annotated[list[float], Field(min_length=1, max_length=20), AfterValidator(_rising)]


class Evaluation(SpecModel):
    text: Text | None = None
    long_text: LongText | None = None
    tasks: dict[Id, Task] = Field(default={})
    looks: Looks = Field(default=[1.0])
    """Shares of each task's items after which gates on items may be decided; each look makes every one a little stricter."""
    samples: Literal["text", "hash-only"] = "text"
    """`hash-only`: neither prompts nor answers are kept, only what tells two answers apart."""
    latency: Latency | None = None
    runtime: bool = False
    """Load every artifact with the library that will serve it, and compare what it computes with what was scored; needs text."""
