"""Accuracy on task items, of one task or of all items together."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import bonett_price, wilson
from quant_action.metrics.pairing import paired_items
from quant_action.records import Measurement
from quant_action.values import Values


class Accuracy:
    """The flips between right and wrong, not the accuracies, set the noise of a difference; so items are compared one by one."""

    unit = "%"
    better: Literal["lower", "higher"] = "higher"
    formula = "share of items answered right, Wilson interval; against a reference the paired difference, Bonett-Price interval"

    def __init__(self, task: str | None = None) -> None:
        self._task = task
        self.id = f"accuracy:{task}" if task else "accuracy"
        self.name = f"accuracy on {task}" if task else "accuracy"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """The pooled metric measures each task too, so that no table of tasks is needed."""
        tasks = (self._task,) if self._task else (None, *values.tasks())
        answers = {f"accuracy:{task}" if task else "accuracy": values.correct(task) for task in tasks}
        return {name: Measurement(value=sum(right.values()) / len(right), n=len(right)) for name, right in answers.items() if right}

    def compare(self, candidate: Subject, reference: Subject | None) -> Difference | None:
        if reference is None:
            right = list(candidate.values.correct(self._task).values())
            if not right:
                return None
            share, interval = sum(right) / len(right), wilson(successes=sum(right), n=len(right))
            return Difference(value=share, interval=interval, n=len(right), unit=self.unit, samples="items")
        pairs = paired_items(candidate, reference, self._task)
        if not pairs:
            return None
        gains = sum(mine and not theirs for mine, theirs in pairs)
        losses = sum(theirs and not mine for mine, theirs in pairs)
        interval = bonett_price(gains=gains, losses=losses, n=len(pairs))
        return Difference(value=(gains - losses) / len(pairs), interval=interval, n=len(pairs), unit="pp", samples="items")
