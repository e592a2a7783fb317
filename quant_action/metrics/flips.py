"""Flips: items whose answer turned from right to wrong or from wrong to right."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.pairing import paired_items
from quant_action.metrics.shares import share_interval
from quant_action.records import Measurement
from quant_action.values import Values


class Flips:
    """Two models of equal accuracy may still answer differently (Dutta et al., arXiv 2407.09141): how much, not for better or worse."""

    id = "flips"
    name = "flips"
    unit = "%"
    better: Literal["lower", "higher"] = "lower"
    formula = "share of items that only one of candidate and reference answers right, Wilson interval, over groups where items have them"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        pairs = paired_items(candidate, reference) if reference else []
        if not pairs:
            return None
        flipped = [pair.mine["correct"] != pair.theirs["correct"] for pair in pairs]
        interval = share_interval(flipped, [pair.group for pair in pairs], level=level)
        return Difference(value=sum(flipped) / len(pairs), interval=interval, n=len(pairs), unit=self.unit, samples="items")
