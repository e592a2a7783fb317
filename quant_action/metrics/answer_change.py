"""Answer change: items that are answered differently, right or wrong alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.pairing import paired_items
from quant_action.metrics.shares import share_interval
from quant_action.records import Measurement
from quant_action.values import Values

ANSWERS = ("answer", "output", "answered_sha256", "answered")
"""Where an item says what was answered, the most exact first."""


class AnswerChange:
    """Flips, and the items that went from one wrong answer to another: a model that guesses anew keeps its accuracy, not its answers."""

    id = "answer_change"
    name = "answers changed"
    unit = "%"
    better: Literal["lower", "higher"] = "lower"
    formula = "share of items that candidate and reference answer differently, Wilson interval, over groups where items have them"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        pairs = [pair for pair in paired_items(candidate, reference) if _said(pair.mine, pair.theirs)] if reference else []
        if not pairs:
            return None
        changed = [pair.mine[_said(pair.mine, pair.theirs)] != pair.theirs[_said(pair.mine, pair.theirs)] for pair in pairs]
        interval = share_interval(changed, [pair.group for pair in pairs], level=level)
        return Difference(value=sum(changed) / len(pairs), interval=interval, n=len(pairs), unit=self.unit, samples="items")


def _said(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The key under which both items say what was answered; empty where there is none."""
    return next((key for key in ANSWERS if key in mine and key in theirs), "")
