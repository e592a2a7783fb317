"""Memory: the most that the evaluation of a model held at one time."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.records import Evaluation, Measurement
from quant_action.values import Values


def peak_memory(evaluation: Evaluation) -> int:
    """Bytes on the GPU where there was one, of the host process otherwise."""
    return evaluation.peak_memory if evaluation.peak_gpu_memory is None else evaluation.peak_gpu_memory


class Memory:
    id = "memory"
    name = "peak memory"
    unit = "B"
    better: Literal["lower", "higher"] = "lower"
    formula = "most bytes held in evaluation, of the GPU where there is one; against a reference the ratio; one reading, no interval"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it stands in the evaluation itself."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        held = peak_memory(candidate.evaluation)
        if reference is None:
            return Difference(value=held, interval=None, n=1, unit=self.unit, samples="")
        whole = peak_memory(reference.evaluation)
        same_kind = (candidate.evaluation.peak_gpu_memory is None) == (reference.evaluation.peak_gpu_memory is None)
        return Difference(value=held / whole, interval=None, n=1, unit="x", samples="") if whole and same_kind else None
