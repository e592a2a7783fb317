"""What was decided, gate by gate."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from quant_action.records.base import Record, Value

Versus = Literal["baseline", "release"]
Level = Literal["error", "warn"]


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105  -- an outcome, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"
    """There is nothing to compare with, for instance no release yet. Shown as such; neither a pass nor a fail."""
    NOT_EVALUATED = "not evaluated"
    """The candidate crashed or was cancelled. Never a pass."""
    VOID = "void"
    """The gate fails on the baseline measured against itself, so what it says of anything else means nothing."""


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
    vs: Versus | None
    bound: Literal["max", "min"]
    limit: float
    """Of what `Metric.compare` gives; an accuracy margin of 0.01 is a `min` of -0.01."""
    where: str | None
    level: Level = "error"
    """`warn`: shown, and never decides."""
    family: str | None = None
    """Tripwires of one family share one error rate (Holm): a fail needs the corrected level, and what they leave open never blocks."""


class Override(Value):
    """Somebody's word against a gate's: it holds for one artifact, and every later report shows it."""

    candidate: str
    gate: str
    artifact: str
    """Digest of the artifact's manifest, or at least its first 12 hex digits."""
    by: str
    reason: str
    where: str | None
    """`file:line:column` in the spec."""


class Check(Value):
    """One gate on one candidate."""

    gate: str
    metric: str
    vs: Versus | None
    outcome: Outcome
    """As measured, whoever overrides it."""
    value: float | None
    interval: Interval | None
    limit: float
    n: int | None
    reason: str
    where: str | None
    """`file:line:column` of the gate in the spec."""
    level: Level = "error"
    family: str | None = None
    look: int | None = None
    """After which of the planned looks at the items it was decided, from 1; None for gates that look once."""
    needed: int | None = None
    """Windows or items that would settle it, where it is open and some number would."""
    override: Override | None = None
    """The one that lets it pass."""


class CandidateVerdict(Value):
    id: str
    outcome: Outcome
    """With overrides applied."""
    checks: tuple[Check, ...]
    reason: str
    required: bool


class Decision(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    BROKEN = "broken"
    """A gate fails on the baseline measured against itself: the measurement is wrong, and nothing is decided."""


class Verdict(Record):
    SCHEMA: ClassVar[str] = "quant_action.verdict/v1"

    plan: str
    """The plan's key."""
    decision: Decision
    winner: str | None
    reason: str
    candidates: tuple[CandidateVerdict, ...]
    floor: tuple[Check, ...] = ()
    """The gates against the baseline, on the baseline measured a second time in another batch order and size (A/A)."""
    looks: tuple[float, ...] = (1.0,)
    """Shares of the items after which gates on items may be decided, as planned before anything was measured."""
    overrides: tuple[Override, ...] = ()
    """All that the spec has, of earlier artifacts too."""
