"""What a format is, and what it renders: the `Report`, a verdict in the order in which a reviewer asks.

May it be released? Which candidate, and what does it cost? Why not the others? How was that measured? A report holds numbers as they were
measured and strings as they were given; `wording.py` rounds the numbers and each format escapes the strings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quant_action.records import (
    Check,
    Decision,
    Failure,
    Interval,
    Measurement,
    Outcome,
    RuntimeCheck,
    RuntimeProtocol,
    Speed,
    SpeedProtocol,
    Value,
)


class Change(Value):
    """One metric of a candidate beside the baseline's: a ratio or a delta, as the metric's `compare` defines it."""

    name: str
    """Of the metric, for people."""
    value: float
    interval: Interval | None
    n: int
    unit: str
    """`x` for a ratio, `pp` for a difference of fractions, otherwise the metric's."""
    samples: str
    """What `n` counts: `windows`, `items`, `pairs` of runs, or empty."""
    unstable: bool = False
    """Not to be relied on: what was measured with it was disturbed."""


class Row(Value):
    """One model of the report; the unquantized baseline is the row without an outcome."""

    id: str
    outcome: Outcome | None
    required: bool
    scheme: str
    """For people, such as `GPTQ 4-bit, groups of 64, symmetric`."""
    engine: str | None
    size: int | None
    """Bytes of the weight files."""
    size_ratio: float | None
    """Size over the baseline's."""
    metrics: dict[str, Measurement]
    """By metric id, as evaluated."""
    changes: dict[str, Change]
    """By metric id, against the baseline; on one task by `accuracy:TASK`."""
    window_kl: tuple[float, ...]
    """Mean KL divergence of each window of the text, nats; empty for the baseline."""
    quantize_seconds: float | None
    quantize_memory: int | None
    """Most memory held while quantizing, bytes: of the GPU where there was one, else of the host."""
    evaluate_memory: int | None
    """Likewise while evaluating."""
    checks: tuple[Check, ...]
    runtime: RuntimeCheck | None
    """Of those whose runtime computes what was scored."""
    speed: Speed | None
    """Of those that were timed."""
    untimed: Failure | None
    """Why it was not, where the spec asks for it."""
    failure: Failure | None
    artifact: str | None
    """Digest of the manifest."""


class Objection(Value):
    """One reason why a candidate is not the winner."""

    id: str
    outcome: Outcome
    gate: str | None
    text: str
    where: str | None
    """`file:line:column` of the gate in the spec."""


class Fact(Value):
    """One line of the method: what was measured, on what, with what."""

    label: str
    text: str


class Report(Value):
    name: str
    spec: str
    model: str
    decision: Decision
    winner: str | None
    reason: str
    baseline: Row
    rows: tuple[Row, ...]
    """The winner first, then by outcome, then by size."""
    runtime: RuntimeProtocol | None
    """On what each artifact's runtime was compared; None where the spec does not ask for it."""
    speed: SpeedProtocol | None
    """What was timed; likewise."""
    objections: tuple[Objection, ...]
    method: tuple[Fact, ...]
    versions: tuple[str, ...]
    """`name version` of the packages that quantized and evaluated."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Ids of the tasks, as the baseline was measured on them."""
        return tuple(metric.removeprefix("accuracy:") for metric in self.baseline.metrics if metric.startswith("accuracy:"))


@dataclass(frozen=True, kw_only=True)
class Format:
    name: str
    file: str
    """Where the run folder keeps it."""
    render: Callable[[Report], str]
