"""What is measured and compared: one file per metric, one line in the table below. Intervals are in `intervals.py`."""

from __future__ import annotations

from quant_action.errors import SpecError
from quant_action.metrics.accuracy import Accuracy
from quant_action.metrics.agreement import Agreement
from quant_action.metrics.divergence import QUANTILES, Divergence
from quant_action.metrics.flips import Flips
from quant_action.metrics.interface import Metric
from quant_action.metrics.memory import Memory
from quant_action.metrics.perplexity import Perplexity
from quant_action.metrics.probability import ProbabilityChange
from quant_action.metrics.size import Size
from quant_action.metrics.speed import PhaseSpeed
from quant_action.records import Measurement
from quant_action.values import Values

METRICS: tuple[Metric, ...] = (
    Perplexity(),
    Divergence(),
    *(Divergence(quantile) for quantile in QUANTILES),
    Agreement(),
    ProbabilityChange(rms=False),
    ProbabilityChange(rms=True),
    Accuracy(),
    Flips(),
    Size(),
    Memory(),
    PhaseSpeed("prefill"),
    PhaseSpeed("decode"),
)


def metric(id: str) -> Metric:
    """The metric of this id; `accuracy:TASK` is the accuracy on one task. Raises `SpecError` when there is none."""
    if id.startswith("accuracy:"):
        return Accuracy(id.removeprefix("accuracy:"))
    for known in METRICS:
        if known.id == id:
            return known
    raise SpecError(f"there is no metric {id!r}", remedy=f"Metrics are {', '.join(known.id for known in METRICS)} and accuracy:TASK.")


def measure_all(values: Values) -> dict[str, Measurement]:
    """Every metric that these values give, by id."""
    return {id: measurement for known in METRICS for id, measurement in known.measure(values).items()}
