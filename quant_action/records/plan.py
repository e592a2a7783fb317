"""What will be done, everything resolved."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quant_action.records.base import Record, Value, digest_of


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
    """Teacher-forced scoring of text: one pass over windows of so many tokens."""

    data: str
    digest: str
    """sha256 of the corpus, as the file has it."""
    window: int


class LongTextProtocol(Value):
    """Teacher-forced scoring of the end of long documents, one per row."""

    data: str
    digest: str
    tokens: int
    """Of each document, from its beginning."""
    scored: int
    """The last so many of them."""


class TaskProtocol(Value):
    id: str
    kind: Literal["choice", "generate"]
    data: str
    digest: str
    max_tokens: int
    limit: int | None


class HarnessTask(Value):
    """A task of lm-evaluation-harness."""

    id: str
    task: str
    """Its name in the harness's suite, or the path of its file, as the spec says it."""
    digest: str | None
    """Of the task file and its data; of a task of the suite, None: the harness's version says what it is."""
    metric: str | None
    limit: int | None
    version: str
    """Of the harness."""


Samples = Literal["text", "hash-only"]
"""What of prompts and answers is kept beside an evaluation: the text, or no more than what tells two answers apart."""


class Protocol(Value):
    """What is measured, in full: two evaluations with one protocol digest are comparable.

    The rules of `ppl-v1` are spelled out in fields that have one value, so that a record can be read without this code. What they give
    for a model, such as the start token, stands in `Evaluation.scoring`.
    """

    id: Literal["ppl-v1"] = "ppl-v1"
    tokenizer: str
    """Digest of the base model's tokenizer files, chat templates among them: what turns text into tokens."""
    bos: Literal["once before each text, where the tokenizer adds one"] = "once before each text, where the tokenizer adds one"
    stride: Literal["window"] = "window"
    """Windows follow each other without overlap."""
    positions: Literal["all but the first of a window"] = "all but the first of a window"
    dtype: Literal["float32", "bfloat16"]
    """In which models compute."""
    logits: Literal["float32"] = "float32"
    log_softmax: Literal["float64"] = "float64"
    batch_tokens: int
    """Tokens, padding included, of one forward pass (one sequence may be longer): the last bits of a result depend on the batch."""
    samples: Samples = "text"
    """Decides no number, but what lies in an evaluation's folder."""
    text: TextProtocol | None
    long_text: LongTextProtocol | None = None
    tasks: tuple[TaskProtocol, ...]
    harness: tuple[HarnessTask, ...] = ()
    """Items of these stand beside those of `tasks`."""

    @property
    def digest(self) -> str:
        """Of what decides the numbers: the content of the data files, not their names."""
        found = self.model_dump(mode="json", exclude={"text": {"data"}, "long_text": {"data"}, "tasks": {"__all__": {"data"}}})
        found["harness"] = [task | {"task": None} if task["digest"] else task for task in found["harness"]]
        return digest_of(found)


class RuntimeProtocol(Value):
    """On what an artifact's runtime is compared with scoring: the beginning of the first windows of the evaluation text."""

    windows: int = 2
    tokens: int = 128


Phase = Literal["prefill", "decode"]


class SpeedCase(Value):
    """One thing that is timed."""

    phase: Phase
    """`prefill`: from a prompt to its first new token. `decode`: from there to the last of `tokens` further ones."""
    tokens: int
    """Of the prompt that is read, or of the answer that is written, in each sequence."""
    batch: int
    """Sequences at once."""

    @property
    def id(self) -> str:
        return f"{self.phase}-{self.tokens}-b{self.batch}"


class SpeedProtocol(Value):
    """What is timed and for how long, everything resolved."""

    prefill: tuple[int, ...]
    decode: int | None
    batch: tuple[int, ...]
    prompt: int
    """Tokens that stand before what is decoded."""
    pairs: tuple[int, int]
    """Fewest and most runs of each model in a case; between the two `seconds` decide."""
    seconds: float
    """That one case may take to be timed, beyond the fewest runs; each model may take half of that to warm up, beyond three runs."""
    seed: int = 0
    """Of the random token ids of the prompts."""

    @property
    def cases(self) -> tuple[SpeedCase, ...]:
        """Of each phase the first is the one that a gate looks at."""
        read = [SpeedCase(phase="prefill", tokens=tokens, batch=batch) for tokens in self.prefill for batch in self.batch]
        written = [SpeedCase(phase="decode", tokens=self.decode, batch=batch) for batch in self.batch] if self.decode else []
        return (*read, *written)


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
    speed: SpeedProtocol | None = None
    """Likewise."""
    release: ModelRef | None = None
    """What was released last, to compare with; its source is the folder's name. Absent before the first release."""
    looks: tuple[float, ...] = (1.0,)
    """Shares of each task's items after which gates on items may be decided: fixed here, before anything is measured."""
    jobs: tuple[Job, ...]
