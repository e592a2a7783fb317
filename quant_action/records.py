"""What flows between the stages: frozen, typed, JSON with a `schema` field, and back.

    Spec -> Plan[Job] -> Candidate -> Evaluation -> Verdict -> Report

A record holds results and where they came from, never behaviour of a stage. Sizes are bytes, times seconds, shares fractions; a
number is finite or null. Paths inside records are relative and POSIX, so that a run folder can be moved.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quant_action.errors import IntegrityError
from quant_action.storage import write_text


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that digests are taken of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(value: Any) -> str:
    """sha256, in hex, of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class Value(BaseModel):
    """A frozen value that has no file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Record(Value):
    """A value with a file of its own."""

    SCHEMA: ClassVar[str]

    def to_json(self) -> str:
        return json.dumps({"schema": self.SCHEMA, **self.model_dump(mode="json")}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Self:
        """Raises `IntegrityError` for anything but a record of this schema."""
        try:
            data = json.loads(text)
            schema = data.pop("schema", None) if isinstance(data, dict) else None
            if schema != cls.SCHEMA:
                raise IntegrityError(f"expected a record of schema {cls.SCHEMA}, found {schema!r}", where=where)
            return cls.model_validate_json(json.dumps(data))
        except (ValueError, ValidationError) as error:
            raise IntegrityError(
                f"not a readable {cls.SCHEMA} record: {error}", where=where, remedy="Delete it; a rerun makes it again."
            ) from error

    def save(self, path: Path) -> None:
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls.from_json(path.read_text(encoding="utf-8"), where=str(path))


# What will be done --------------------------------------------------------------------------------------------------


class WeightScheme(Value):
    """Integer weights with one scale per group of inputs: GPTQ, AWQ and round-to-nearest, everything resolved."""

    method: Literal["gptq", "awq", "rtn"]
    bits: int
    group_size: int
    """Inputs that share a scale; -1 is one scale per output channel."""
    symmetric: bool
    clip: bool
    """Search, per group, the range that minimises the layer's output error."""
    scales: Literal["awq"] | None
    """Move activation outliers into the weights first (AWQ, arXiv 2306.00978)."""
    act_order: bool = False
    """GPTQ: visit inputs by falling Hessian diagonal."""
    static_groups: bool = False
    """GPTQ: fix the groups before reordering, so that `g_idx` stays in order and costs nothing at run time."""
    damping: float = 0.01
    """GPTQ: share of the mean Hessian diagonal that is added to it."""


class BitsandbytesScheme(Value):
    method: Literal["bitsandbytes"]
    type: Literal["nf4", "fp4", "int8"]
    double_quant: bool = False
    """4-bit only: quantize the scales too."""

    @property
    def bits(self) -> int:
        return 8 if self.type == "int8" else 4


Scheme = Annotated[WeightScheme | BitsandbytesScheme, Field(discriminator="method")]


class ModelRef(Value):
    source: str
    """As the spec says it: a Hub id, or a path relative to the spec."""
    revision: str | None
    digest: str
    """Of the manifest of the files that are read: two models with the same digest are the same model."""
    architecture: str
    size: int
    """Bytes of the weights."""


class CalibrationRef(Value):
    data: str
    digest: str
    samples: int
    tokens: int
    seed: int


class TextProtocol(Value):
    """Teacher-forced scoring of text: one pass over non-overlapping windows."""

    data: str
    digest: str
    window: int


class TaskProtocol(Value):
    id: str
    kind: Literal["choice", "generate"]
    data: str
    digest: str
    max_tokens: int
    limit: int | None


class Protocol(Value):
    """What is measured, in full: two evaluations with one protocol digest are comparable."""

    id: Literal["quant-action-1"] = "quant-action-1"
    text: TextProtocol | None
    tasks: tuple[TaskProtocol, ...]

    @property
    def digest(self) -> str:
        """Of what decides the numbers: the content of the data files, not their names."""
        return digest_of(self.model_dump(mode="json", exclude={"text": {"data"}, "tasks": {"__all__": {"data"}}}))


class RuntimeProtocol(Value):
    """On what an artifact's runtime is compared with scoring: the beginning of the first windows of the evaluation text."""

    windows: int = 2
    tokens: int = 128


class Job(Value):
    """One candidate to make."""

    id: str
    key: str
    """sha256 of everything that decides the bytes: same key, same artifact."""
    scheme: Scheme
    engine: str
    engine_reason: str
    environment: str
    fingerprint: str
    """Digest of the engine's code and of the package versions that it runs with."""
    required: bool


class Plan(Record):
    SCHEMA: ClassVar[str] = "quant_action.plan/v1"

    key: str
    name: str
    spec: str
    spec_digest: str
    device: str
    """What the work runs on: `cpu`, or the GPU's name; results of two devices are never mixed."""
    model: ModelRef
    calibration: CalibrationRef | None
    protocol: Protocol
    scorer: str
    """Digest of the scoring code and of the package versions that it runs with."""
    baseline_key: str
    runtime: RuntimeProtocol | None = None
    """Absent where the spec does not ask for it."""
    jobs: tuple[Job, ...]


# What was done ------------------------------------------------------------------------------------------------------


class Estimate(Value):
    """What a piece of work was expected to take before it was done (`costs.py`)."""

    seconds: float
    memory: int
    """Most host memory that its process holds, bytes; files that it has mapped count."""
    gpu_memory: int | None
    """Most GPU memory that it holds, bytes; None on a CPU."""
    disk: int
    """Bytes that it leaves."""
    formulas: str = ""
    """Digest of the code that gave it: how well other formulas did says nothing of these."""


class Candidate(Record):
    """A quantized model that lies complete and checked in its folder."""

    SCHEMA: ClassVar[str] = "quant_action.candidate/v1"

    key: str
    scheme: Scheme
    engine: str
    artifact: str
    """Digest of the artifact's manifest."""
    size: int
    """Bytes of all files of the artifact."""
    weights: int
    """Bytes of the weight files alone."""
    quantized_layers: int
    quantized_parameters: int
    seconds: float
    peak_memory: int
    """Most host memory that the engine's process held."""
    peak_gpu_memory: int | None
    estimate: Estimate | None = None
    """As the formulas gave it, uncorrected: later plans are corrected by what was measured beside it."""
    device: str
    versions: dict[str, str]


class Measurement(Value):
    value: float
    n: int
    """Windows or items that it is the value of."""


class Evaluation(Record):
    """What was measured of one model; the values per window and per item lie beside it (`values.py`)."""

    SCHEMA: ClassVar[str] = "quant_action.evaluation/v1"

    key: str
    subject: Literal["baseline", "candidate"]
    artifact: str
    """Digest of the manifest of the model that was loaded."""
    protocol: str
    """Digest of the protocol."""
    size: int
    """Bytes of the model's weight files."""
    metrics: dict[str, Measurement]
    """By metric id; a task's accuracy is `accuracy:TASK`, all items together `accuracy`."""
    seconds: float
    peak_memory: int
    peak_gpu_memory: int | None
    estimate: Estimate | None = None
    """As in `Candidate`."""
    device: str
    versions: dict[str, str]


class LogitDifference(Value):
    """How far the logits of one computation of a model are from another's on the same tokens."""

    largest: float
    """Largest difference of a logit, in standard deviations of the reference's logits."""
    rms: float
    """Root mean square, likewise."""
    kl: float
    """Mean KL(reference || other) of the next token, nats."""
    nll: float
    """Root mean square of the differences of the true tokens' log-likelihoods, nats: of a runtime's from those that scoring recorded."""


class RuntimeCheck(Record):
    """An artifact as the library that serves it computes it, beside what was scored: no more than rounding apart."""

    SCHEMA: ClassVar[str] = "quant_action.runtime/v1"

    key: str
    artifact: str
    """Digest of the artifact's manifest."""
    runtime: str
    """With versions: `transformers 5.17.0 with gptqmodel 7.6.0`."""
    dtype: str
    """Of the activations."""
    kernels: dict[str, int]
    """Class of the module -> quantized layers that it runs; together all of them."""
    tokens: int
    """On which the two were compared."""
    difference: LogitDifference
    """Of the runtime's logits from those of scoring's own loader in the same type."""
    rounding: LogitDifference
    """What rounding at random does to the latter: the yardstick."""
    layers_compared: int
    """Layers whose outputs were compared one by one with those of the stored integers; 0 for bitsandbytes, which both sides use."""
    worst_layer: str | None
    worst_layer_share: float | None
    """Of what its outputs may be off; at most 1."""
    seconds: float
    peak_memory: int
    peak_gpu_memory: int | None
    device: str
    versions: dict[str, str]


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105  -- an outcome, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"
    """There is nothing to compare with, for instance no release yet. Shown as such; neither a pass nor a fail."""
    NOT_EVALUATED = "not evaluated"
    """The candidate crashed or was cancelled. Never a pass."""


class Interval(Value):
    low: float
    high: float
    level: float
    """Two-sided confidence: at 0.90 each bound errs in 5% of the cases."""
    method: str


class GateLimit(Value):
    """One gate as the judge applies it to one candidate."""

    gate: str
    """As in the spec: `perplexity_ratio`, `accuracy`, ..."""
    metric: str
    """Metric id."""
    vs: Literal["baseline", "release"] | None
    bound: Literal["max", "min"]
    limit: float
    """Of what `Metric.compare` gives; an accuracy margin of 0.01 is a `min` of -0.01."""
    where: str | None


class Check(Value):
    """One gate on one candidate."""

    gate: str
    metric: str
    vs: Literal["baseline", "release"] | None
    outcome: Outcome
    value: float | None
    interval: Interval | None
    limit: float
    n: int | None
    reason: str
    where: str | None
    """`file:line:column` of the gate in the spec."""


class CandidateVerdict(Value):
    id: str
    outcome: Outcome
    checks: tuple[Check, ...]
    reason: str
    required: bool


class Decision(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


class Verdict(Record):
    SCHEMA: ClassVar[str] = "quant_action.verdict/v1"

    plan: str
    """The plan's key."""
    decision: Decision
    winner: str | None
    reason: str
    candidates: tuple[CandidateVerdict, ...]


Stage = Literal["quantize", "evaluate", "runtime"]


class Failure(Record):
    """Why a candidate has no evaluation."""

    SCHEMA: ClassVar[str] = "quant_action.failure/v1"

    id: str
    stage: Stage
    kind: str
    exit_code: int
    message: str
    remedy: str | None
