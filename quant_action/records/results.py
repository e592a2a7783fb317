"""What was done and what was measured."""

from __future__ import annotations

from typing import ClassVar, Literal

from quant_action.records.base import Record, Value
from quant_action.records.plan import Scheme


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


SubjectKind = Literal["baseline", "floor", "release", "candidate"]
"""The unquantized model; the same a second time, in other batches; the last release; what may become the next."""


class Measurement(Value):
    value: float
    n: int
    """Windows or items that it is the value of."""


class Scoring(Value):
    """What the protocol's rules came to on this model and data, as only the scorer can know."""

    start_token: int | None
    """Id of the token that stands before each text; None where the tokenizer adds none."""
    attention: str
    """Implementation in transformers: `sdpa` or `eager`."""
    windows: int
    tokens: int
    """Scored in all windows together."""
    bytes: int
    """UTF-8 bytes of the text of those tokens."""
    documents: int
    """Long ones."""


class Evaluation(Record):
    """What was measured of one model; the values per window and per item lie beside it (`values.py`)."""

    SCHEMA: ClassVar[str] = "quant_action.evaluation/v1"

    key: str
    subject: SubjectKind
    artifact: str
    """Digest of the manifest of the model that was loaded."""
    protocol: str
    """Digest of the protocol."""
    size: int
    """Bytes of the model's weight files."""
    metrics: dict[str, Measurement]
    """By metric id; a task's accuracy is `accuracy:TASK`, all items together `accuracy`, those of a slice `accuracy@SLICE`."""
    look: int = 1
    """After which look at the items it ends, from 1; all items were asked when it is the last of `looks`."""
    looks: int = 1
    bit_identical: bool | None = None
    """Of a floor: whether every value per window and item is the baseline's to the last bit."""
    scoring: Scoring | None = None
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
    backend: str | None = None
    """What `from_pretrained` must be told, because the library's own choice of a kernel refuses this model here; None where it need not."""
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


Stage = Literal["quantize", "evaluate", "runtime", "speed"]


class Failure(Record):
    """Why a candidate has no evaluation; of stage `speed`, why it has only no times."""

    SCHEMA: ClassVar[str] = "quant_action.failure/v1"

    id: str
    stage: Stage
    kind: str
    exit_code: int
    message: str
    remedy: str | None
