"""What a metric is: how it is computed from an evaluation's values, which way is better, and how a difference is tested.

The judge and the report know nothing of any one metric: they ask the table in `metrics/__init__.py`. Everything here is pure; the values
were measured by the scorer in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from quant_action.metrics.intervals import LEVEL
from quant_action.records import Evaluation, Interval, Measurement, Speed
from quant_action.values import Values


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One measured model."""

    evaluation: Evaluation
    values: Values
    speed: Speed | None = None
    """Where the spec asks for it and its runtime loaded it; never of the baseline, beside which it was timed."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How a candidate compares with a reference (or, without one, with nothing): a ratio, a delta, or the value itself."""

    value: float
    interval: Interval | None
    """None for what is known exactly, such as a size."""
    n: int
    """Windows or items behind it; 1 for a thing that is counted once."""
    unit: str
    """`x` for a ratio, `pp` for a difference of fractions, otherwise the metric's unit."""
    samples: str
    """What `n` counts: `windows`, `documents`, `items`, `pairs` of runs, or empty."""
    unstable: str = ""
    """Why it is not to be relied on, though it has an interval: what was measured with it was disturbed. It settles no gate."""


class Metric(Protocol):
    id: str
    """As in `Evaluation.metrics`."""
    name: str
    """For people."""
    unit: str
    """`nat`, `%` (of fractions), `B`, `bit/B`, `tokens`, `s`, or empty."""
    better: Literal["lower", "higher"]
    formula: str

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Metric id -> measurement; empty when the evaluation has no such values. Raises nothing."""
        ...

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        """The paired difference that gates judge (what it is, the formula says), its interval two-sided at `level`.

        None when there is nothing to compare.

        Raises `IntegrityError` when the two were not measured on the same windows or items.
        """
        ...
