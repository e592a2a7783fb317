"""What it would take to settle an open gate."""

from __future__ import annotations

import math

from quant_action.metrics.interface import Difference
from quant_action.metrics.intervals import LEAST_WINDOWS

SETTLES_AT_MOST = 100_000
"""Samples beyond which "this many would settle it" stops being advice."""


def too_few(difference: Difference) -> bool:
    """Whether there are fewer windows, or long documents, than any gate is judged by."""
    return difference.samples in ("windows", "documents") and difference.interval is not None and difference.n < LEAST_WINDOWS


def needed_samples(limit: float, difference: Difference) -> int | None:
    """How many samples would bring the near end of the interval to the limit, its width falling with the square root of their number.

    None where no practical number would, nor for what was disturbed: more of the same would be no better.
    """
    if difference.unstable:
        return None
    interval, value, n = difference.interval, difference.value, difference.n
    if interval is None or value == limit:
        return LEAST_WINDOWS if too_few(difference) else None
    reach = interval.high - value if value < limit else value - interval.low
    times_too_wide = reach / abs(limit - value)
    if times_too_wide > math.sqrt(SETTLES_AT_MOST / n):
        return None
    return max(math.ceil(n * times_too_wide**2), n + 1, LEAST_WINDOWS if too_few(difference) else 0)
