"""`evaluation`: what is measured, on which data."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, TypeAdapter, model_validator

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


TASK_FILE = (".yaml", ".yml")
HARNESS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:-]*")


def _name_or_file(value: str) -> str:
    if value.endswith(TASK_FILE):
        return str(TypeAdapter(DataPath).validate_python(value))
    if not HARNESS_NAME.fullmatch(value):
        raise ValueError("expected the name of a task of lm-evaluation-harness, or a path ending in .yaml")
    return value


class LmEvalTask(SpecModel):
    """A task of lm-evaluation-harness, run by it in an environment of its own."""

    lm_eval: Annotated[str, StringConstraints(min_length=1, max_length=400), AfterValidator(_name_or_file)]
    """The name of one of its own, or of a group of them; or a task file like its own (YAML) below the folder of the spec."""
    limit: Positive | None = None
    """Ask this many items, drawn by a fixed permutation."""
    metric: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_@+.-]{1,64}(,[A-Za-z0-9_.-]{1,64})?$")] | None = None
    """One that is right or wrong for each item, such as `exact_match`, or with its filter `exact_match,strict-match`; else the first."""

    @property
    def is_file(self) -> bool:
        return self.lm_eval.endswith(TASK_FILE)


def _kind_of_task(value: Any) -> str:
    """A tag; none of them is a key of the file, or a fault would be said to stand there."""
    return "by harness" if isinstance(value, LmEvalTask) or (isinstance(value, dict) and "lm_eval" in value) else "by scorer"


Task = Annotated[Annotated[DataTask, Tag("by scorer")] | Annotated[LmEvalTask, Tag("by harness")], Discriminator(_kind_of_task)]


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
