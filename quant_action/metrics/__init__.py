"""What is measured and compared: one file per metric, one line in the table below. Intervals are in `intervals.py`."""

from __future__ import annotations

from collections.abc import Callable

from quant_action.errors import SpecError
from quant_action.metrics.accuracy import Accuracy
from quant_action.metrics.agreement import Agreement
from quant_action.metrics.answer_change import AnswerChange
from quant_action.metrics.bits_per_byte import BitsPerByte
from quant_action.metrics.chrf import ChrF
from quant_action.metrics.degenerate import Degenerate
from quant_action.metrics.divergence import QUANTILES, Divergence
from quant_action.metrics.first_divergence import FirstDivergence
from quant_action.metrics.flips import Flips
from quant_action.metrics.interface import Metric
from quant_action.metrics.long_divergence import LongDivergence
from quant_action.metrics.memory import Memory
from quant_action.metrics.perplexity import Perplexity
from quant_action.metrics.probability import ProbabilityChange
from quant_action.metrics.recovery import Recovery
from quant_action.metrics.size import Size
from quant_action.metrics.speed import PhaseSpeed
from quant_action.records import Measurement
from quant_action.values import Values

METRICS: tuple[Metric, ...] = (
    Perplexity(),
    BitsPerByte(),
    Divergence(),
    *(Divergence(quantile) for quantile in QUANTILES),
    LongDivergence(),
    Agreement(),
    ProbabilityChange(rms=False),
    ProbabilityChange(rms=True),
    Accuracy(),
    Recovery(),
    Flips(),
    AnswerChange(),
    Degenerate(),
    FirstDivergence(),
    ChrF(),
    Size(),
    Memory(),
    PhaseSpeed("prefill"),
    PhaseSpeed("decode"),
)

PARTS: dict[str, Callable[[str], Metric]] = {
    "accuracy:": lambda task: Accuracy(task=task),
    "accuracy@": lambda slice: Accuracy(slice=slice),
    "perplexity@": lambda slice: Perplexity(slice=slice),
    "kl@": lambda slice: Divergence(slice=slice),
}
"""Metrics of one task or slice, whose name ends their id."""


def metric(id: str) -> Metric:
    """The metric of this id: one of `METRICS`, or of one task or slice (`PARTS`). Raises `SpecError` when there is none."""
    for known in METRICS:
        if known.id == id:
            return known
    for prefix, of in PARTS.items():
        if id.startswith(prefix) and id != prefix:
            return of(id.removeprefix(prefix))
    parts = ", ".join(f"{prefix}{'TASK' if prefix.endswith(':') else 'SLICE'}" for prefix in PARTS)
    raise SpecError(f"there is no metric {id!r}", remedy=f"Metrics are {', '.join(known.id for known in METRICS)}, and {parts}.")


def measure_all(values: Values) -> dict[str, Measurement]:
    """Every metric that these values give, by id."""
    return {id: measurement for known in METRICS for id, measurement in known.measure(values).items()}
