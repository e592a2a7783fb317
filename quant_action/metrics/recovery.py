"""Recovery: which share of the reference's accuracy is left, the figure that papers on quantization print."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.pairing import paired_items
from quant_action.records import Measurement
from quant_action.values import Values


class Recovery:
    """To be shown, not judged: it has no model of its noise, it leaves chance in, and it flatters where the reference is weak."""

    id = "recovery"
    name = "accuracy recovered"
    unit = "%"
    better: Literal["lower", "higher"] = "higher"
    formula = "accuracy over the reference's accuracy, on the same items; no interval, for display only"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        pairs = paired_items(candidate, reference) if reference else []
        theirs = sum(pair.theirs["correct"] for pair in pairs)
        if not theirs:
            return None
        mine = sum(pair.mine["correct"] for pair in pairs)
        return Difference(value=mine / theirs, interval=None, n=len(pairs), unit=self.unit, samples="items")
