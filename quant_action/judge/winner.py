"""Which of those that pass is to be released."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from quant_action.metrics.interface import Subject
from quant_action.metrics.memory import peak_memory

Choose = Literal["smallest", "most-accurate", "least-memory"]


def choose_winner(passing: Mapping[str, Subject], choose: Choose) -> str | None:
    """The id of the best by the declared objective; None of none."""
    return min(passing, key=lambda id: (*RANKINGS[choose](passing[id]), id), default=None)


def _lost(subject: Subject) -> tuple[float, float]:
    """What quantization cost, least first: mean KL divergence from the baseline, then (lower is better here too) accuracy."""
    metrics = subject.evaluation.metrics
    kl, accuracy = metrics.get("kl"), metrics.get("accuracy")
    return (kl.value if kl else math.inf, -accuracy.value if accuracy else math.inf)


RANKINGS: dict[Choose, Callable[[Subject], tuple[float, ...]]] = {
    "smallest": lambda subject: (subject.evaluation.size, *_lost(subject)),
    "most-accurate": lambda subject: (*_lost(subject), subject.evaluation.size),
    "least-memory": lambda subject: (peak_memory(subject.evaluation), subject.evaluation.size, *_lost(subject)),
}
"""How the winner is chosen among those that pass; ties go to the next criterion, and at last to the id that sorts first.

Accuracy on items never leads where text was scored: the best of several noisy accuracies is the luckiest one (and candidates may have been
stopped at different looks), whereas divergence is measured on every token.
"""

PHRASES: dict[Choose, str] = {"smallest": "smallest", "most-accurate": "nearest to the baseline", "least-memory": "least hungry for memory"}
