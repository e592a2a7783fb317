"""Speed: how many times as fast as the unquantized model, by the library that serves the artifact.

The two were timed in turns, so pairs of runs stand beside each other. The ratio is that of the medians that the report shows; its interval
is a percentile bootstrap over pairs. A run that something interrupts is many times slower than the others: Student's interval of the
logarithms of the pairs' ratios holds too, but with one such run in ten it is five times wider than this one, at 10 pairs
(tests/unit/test_speed_statistics.py has both, the coverage with and without such runs and with a machine that slows down).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.records import Interval, Measurement, Phase, TimedCase
from quant_action.values import Values

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2000
LEAST_PAIRS = 5
"""With four the interval holds the truth in 83% of the cases instead of 90%, with five in 89%."""


class PhaseSpeed:
    unit = "x"
    better: Literal["lower", "higher"] = "higher"

    def __init__(self, phase: Phase) -> None:
        self.id: str = phase
        self.phase = phase
        self.name = f"{phase} speed"
        what = "from a prompt to the first new token" if phase == "prefill" else "from the first new token to the last"
        self.formula = f"median of the baseline's seconds over median of the candidate's, {what}; first case asked for; pairs of runs"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it is measured in a stage of its own."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        """None without times, and against anything but the baseline, beside which the candidate was timed."""
        timed = candidate.speed.first(self.phase) if candidate.speed else None
        if candidate.speed is None or timed is None or reference is None or reference.evaluation.subject != "baseline":
            return None
        ratio, interval = times_as_fast(timed, level)
        doubts = (*candidate.speed.unstable, *timed.unstable)
        return Difference(
            value=ratio, interval=interval, n=len(timed.baseline.seconds), unit=self.unit, samples="pairs", unstable="; ".join(doubts)
        )


def times_as_fast(timed: TimedCase, level: float = LEVEL) -> tuple[float, Interval]:
    """Baseline's median over candidate's, and its two-sided interval. Raises `ValueError` for fewer than `LEAST_PAIRS` pairs."""
    import numpy as np

    baseline, candidate = np.asarray(timed.baseline.seconds), np.asarray(timed.candidate.seconds)
    if len(baseline) < LEAST_PAIRS or len(baseline) != len(candidate):
        raise ValueError(f"{len(baseline)} and {len(candidate)} runs are no {LEAST_PAIRS} pairs or more")
    drawn = _draws(len(baseline))
    ratios = np.median(baseline[drawn], axis=1) / np.median(candidate[drawn], axis=1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    value = float(np.median(baseline) / np.median(candidate))
    return value, Interval(low=min(float(low), value), high=max(float(high), value), level=level, method="bootstrap over pairs")


@cache
def _draws(n: int) -> np.ndarray:
    """Which pairs each resample has [RESAMPLES, n]: the same on every machine, by the one generator that Python promises to keep."""
    import numpy as np

    generator = random.Random(0)  # noqa: S311  -- no secret
    drawn: Sequence[int] = [int(generator.random() * n) for _ in range(RESAMPLES * n)]
    return np.asarray(drawn).reshape(RESAMPLES, n)
