"""What a format is, and what it renders: the `Report`, a verdict in the order in which a reviewer asks.

May it be released? Which candidate, and what does it cost? Why not the others? What got worse, and may I see it? How was that measured? A
report holds numbers as measured and strings as given; `wording.py` rounds the numbers and each format escapes the strings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from quant_action.records import (
    Check,
    Decision,
    Failure,
    Interval,
    Measurement,
    Outcome,
    Override,
    RuntimeCheck,
    RuntimeProtocol,
    Speed,
    SpeedProtocol,
    Value,
    Versus,
)

Link = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9._~:/@%+-]+$")]
"""An address that needs no escaping in any format."""


class Change(Value):
    """One metric of a model beside a reference's: a ratio or a delta, as the metric's `compare` defines it."""

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
    """One model of the report; the rows without an outcome are the references: baseline, floor and release."""

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
    """By metric id, against the baseline; on one task by `accuracy:TASK`, on one slice by `accuracy@SLICE`."""
    release_changes: dict[str, Change]
    """Likewise against the last release; empty where there is none."""
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

    def compared(self, vs: Versus) -> dict[str, Change]:
        return self.changes if vs == "baseline" else self.release_changes


class Objection(Value):
    """One reason why a candidate is not the winner, or one warning about any of them."""

    id: str
    outcome: Outcome
    gate: str | None
    text: str
    where: str | None
    """`file:line:column` of the gate in the spec."""


class OverrideNote(Value):
    """Somebody's word against a gate's, and whether it counts in this run."""

    override: Override
    checks: tuple[Check, ...]
    """Those that it lets pass; none for the override of an artifact that is not in this run, or of a gate that needs no override."""


class Regression(Value):
    """One task item that a candidate answers wrong and the baseline right, or, of a generation, differently."""

    task: str
    item: str
    slice: str
    """Empty without one."""
    lost: bool
    """Right -> wrong; otherwise the two texts differ and are both right or both wrong."""
    note: str
    """What the values say of it: `first difference at token 7`, `loops`."""
    hashed: bool
    """The texts below are digests: the spec keeps samples out of results."""
    prompt: str | None
    expected: str | None
    before: str | None
    """The baseline's answer."""
    after: str | None
    """The candidate's."""


class Regressions(Value):
    """What one candidate answers worse or otherwise than the baseline."""

    id: str
    n: int
    """Items that both answered."""
    lost: int
    """Right -> wrong, of those."""
    gained: int
    """Wrong -> right."""
    rewritten: int
    """Generations that changed and are as right or as wrong as before."""
    worst: tuple[Regression, ...]
    """The worst first, tasks taking turns; a report carries no more than so many."""


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
    nearest: str | None
    """The winner, or without one the candidate that came nearest; None when nothing was measured."""
    reason: str
    baseline: Row
    release: Row | None
    floor: Row | None
    """The baseline measured a second time; its checks are those of the gates against the baseline."""
    rows: tuple[Row, ...]
    """The winner first, then by outcome, then by size."""
    runtime: RuntimeProtocol | None
    """On what each artifact's runtime was compared; None where the spec does not ask for it."""
    speed: SpeedProtocol | None
    """What was timed; likewise."""
    objections: tuple[Objection, ...]
    warnings: tuple[Objection, ...]
    """Of gates that only warn, the winner's among them."""
    overrides: tuple[OverrideNote, ...]
    """All that the spec has, of earlier artifacts too."""
    regressions: tuple[Regressions, ...]
    """In the order of `rows`."""
    trend: tuple[tuple[str, float], ...]
    """(label, mean KL divergence in nats) of the releases, oldest first, and of `nearest` last; one point is no trend."""
    method: tuple[Fact, ...]
    versions: tuple[str, ...]
    """`name version` of the packages that quantized and evaluated."""
    links: Link | None = None
    """Address of the spec's file at the commit that was judged; `#L17` is appended. None where it is not known."""

    @property
    def void(self) -> tuple[Check, ...]:
        """Gates that fail on the baseline against itself."""
        return tuple(check for check in self.floor.checks if check.outcome in (Outcome.FAIL, Outcome.VOID)) if self.floor else ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Metric ids of what is measured on one task or one slice, as the baseline was measured on them."""
        return tuple(metric for metric in self.baseline.metrics if metric.startswith(("accuracy:", "accuracy@", "perplexity@", "kl@")))


@dataclass(frozen=True, kw_only=True)
class Format:
    name: str
    file: str
    """Where the run folder keeps it."""
    render: Callable[[Report], str]
