"""chrF: how much of the reference's wording a generated answer keeps, in any language and without words."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, clipped, mapped, t_interval
from quant_action.metrics.pairing import paired_items
from quant_action.records import Measurement
from quant_action.values import Values

ORDER = 6
"""Longest character n-gram."""

BETA = 2
"""Recall counts so many times as much as precision."""


class ChrF:
    """Between the answers of two models, not to the right one: that a wording is kept, whatever it is worth."""

    id = "chrf"
    name = "chrF of the answers"
    unit = "%"
    better: Literal["lower", "higher"] = "higher"
    formula = (
        "mean over generated answers of chrF2 (characters up to 6-grams, no white space) to the reference's answer, t-interval over answers"
    )

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        import numpy as np

        pairs = paired_items(candidate, reference) if reference else []
        texts = [(pair.mine["output"], pair.theirs["output"]) for pair in pairs if "output" in pair.mine and "output" in pair.theirs]
        if not texts:
            return None
        scores = np.array([chrf(mine, theirs) for mine, theirs in texts])
        interval = mapped(clipped(t_interval(scores, level=level), 0.0, 1.0), float, method="t over answers") if len(scores) > 1 else None
        return Difference(value=float(scores.mean()), interval=interval, n=len(scores), unit=self.unit, samples="items")


def chrf(hypothesis: str, reference: str) -> float:
    """Character n-gram F-score of one text to another, from 0 to 1: Popovic, WMT 2015, pages 392-395.

    Precision and recall are averaged over the orders that both texts are long enough for, as sacreBLEU 2.6 does. Two texts without a
    character are equal: 1.
    """
    mine, theirs = "".join(hypothesis.split()), "".join(reference.split())
    if mine == theirs:
        return 1.0
    precisions, recalls = [], []
    for order in range(1, min(ORDER, len(mine), len(theirs)) + 1):
        left, right = _ngrams(mine, order), _ngrams(theirs, order)
        matches = (left & right).total()
        precisions.append(matches / left.total())
        recalls.append(matches / right.total())
    precision, recall = (sum(shares) / max(len(shares), 1) for shares in (precisions, recalls))
    weighted = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / weighted if weighted else 0.0


def _ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
