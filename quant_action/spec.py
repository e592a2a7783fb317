"""`quant.yml` as the team wrote it: what was asked, not yet what will be done (that is the plan).

The models below are the reference of the file and the source of its JSON Schema. Unknown keys, wrong types and impossible values are
refused with file, line and column by `load_spec`; what depends on the model or the data is the planner's business.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from quant_action.errors import SpecError
from quant_action.spec_source import SpecSource, parse_source, read_source

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def _parse_size(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", value.strip(), re.IGNORECASE)):
        return int(float(match[1]) * UNITS[match[2].upper()])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a size such as 6GB, 1.5GiB or a number of bytes")


def _inside_repository(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or not value.isprintable():
        raise ValueError("expected a path below the folder of the spec, with forward slashes")
    return value


NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")
Name = Annotated[str, StringConstraints(pattern=NAME.pattern)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
DataPath = Annotated[str, StringConstraints(min_length=1, max_length=400), AfterValidator(_inside_repository)]
Size = Annotated[int, BeforeValidator(_parse_size, json_schema_input_type=int | str), Field(gt=0)]
Positive = Annotated[int, Field(gt=0)]


def _parse_group_size(value: object) -> object:
    if value == "channel":
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
        raise ValueError("expected a number of inputs such as 128, or channel for one scale per output channel")
    return value


GroupSize = Annotated[int, BeforeValidator(_parse_group_size, json_schema_input_type=int | Literal["channel"])]


class SpecModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(SpecModel):
    source: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    """A Hugging Face Hub id (`organisation/name`), or a path relative to the spec."""
    revision: Commit | None = None
    """The commit; required for a Hub id, so that a run can be repeated."""

    @property
    def is_local(self) -> bool:
        return self.revision is None

    @model_validator(mode="after")
    def _hub_id_has_commit(self) -> Model:
        if self.revision is not None and not HUB_ID.fullmatch(self.source):
            raise ValueError("revision belongs to a Hub id such as organisation/name; a local folder has none")
        return self


class Calibration(SpecModel):
    data: DataPath
    samples: Positive = 128
    tokens: Annotated[int, Field(ge=16)] = 2048
    """Length of one sample."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


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


class Latency(SpecModel):
    """Speed of prefill and decoding. Part of the spec's language; the planner of this version refuses it."""

    prefill: list[Positive] = []
    decode: Positive | None = None
    batch: list[Positive] = [1]


class Evaluation(SpecModel):
    text: Text | None = None
    tasks: dict[Id, Task] = {}
    latency: Latency | None = None
    runtime: bool = False
    """Load every artifact with the library that will serve it, and compare what it computes with what was scored; needs text."""


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


class Release(SpecModel):
    choose: Literal["smallest", "most-accurate", "least-memory"] = "smallest"
    hub: Annotated[str, StringConstraints(pattern=rf"^{HUB_ID.pattern}$")] | None = None
    dvc_remote: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None


class Spec(SpecModel):
    version: Literal[1]
    name: Name
    """The artifact's name in the registry."""
    model: Model
    calibration: Calibration | None = None
    candidates: Annotated[dict[Id, CandidateSpec], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()
    gates: Gates | None = None
    release: Release = Release()

    @model_validator(mode="after")
    def _something_is_measured(self) -> Spec:
        if self.evaluation.text is None and not self.evaluation.tasks:
            raise ValueError("evaluation needs text, tasks or both: without them nothing can be judged")
        if self.evaluation.runtime and self.evaluation.text is None:
            raise ValueError("evaluation.runtime compares on the evaluation's text: give evaluation.text too")
        if "baseline" in self.candidates:
            raise ValueError("no candidate can be called baseline: that is the unquantized model")
        return self


class LoadedSpec:
    """A valid spec, and where in the file each of its values stands."""

    def __init__(self, spec: Spec, source: SpecSource) -> None:
        self.spec = spec
        self.source = source

    @property
    def folder(self) -> Path:
        return self.source.path.parent

    def where(self, *keys: str | int) -> str:
        """`file:line:column` of the value under these keys, or of the closest parent that the file has."""
        return self.source.where(keys)

    def resolve(self, path: str) -> Path:
        """A path of the spec; links that lead out of the spec's folder are followed: they are the team's own."""
        return self.folder / path


def load_spec(path: Path) -> LoadedSpec:
    """Read and validate a spec. Raises `SpecError` with every fault that it has, each with line, column and remedy."""
    return _validated(read_source(path))


def parse_spec(text: str, path: Path) -> LoadedSpec:
    """Validate the text that a spec at `path` would have. Raises as `load_spec`."""
    return _validated(parse_source(text, path))


def _validated(source: SpecSource) -> LoadedSpec:
    try:
        spec = Spec.model_validate(source.value)
    except ValidationError as error:
        raise SpecError("\n".join(source.explain(fault, Spec) for fault in error.errors(include_url=False))) from None
    return LoadedSpec(spec, source)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `quant.yml`, for editors."""
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "quant.yml of quant_action"}
