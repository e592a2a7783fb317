"""Size: bytes of the weight files, exactly."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.records import Measurement
from quant_action.values import Values


class Size:
    id = "size"
    name = "size"
    unit = "B"
    better: Literal["lower", "higher"] = "lower"
    formula = "bytes of the weight files; against a reference the ratio; exact"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it stands in the evaluation itself."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        size = candidate.evaluation.size
        if reference is None:
            return Difference(value=size, interval=None, n=1, unit=self.unit, samples="")
        whole = reference.evaluation.size
        return Difference(value=size / whole, interval=None, n=1, unit="x", samples="") if whole else None
