"""Accuracy on task items, of one task or of all items together."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, paired_interval, wilson
from quant_action.metrics.pairing import paired_items
from quant_action.records import Measurement
from quant_action.values import Values


class Accuracy:
    """The flips between right and wrong, not the accuracies, set the noise of a difference; so items are compared one by one.

    All tasks together are one pool, each item counting the same. Every look asks the same share of each task, so the pool is a sample
    stratified by task, in proportion, and the plain mean is its estimate; that the interval leaves aside how strata differ makes it, if
    anything, wider than it need be (Cochran, Sampling Techniques, 1977, section 5.6).
    """

    unit = "%"
    better: Literal["lower", "higher"] = "higher"
    formula = (
        "share of items answered right, Wilson interval; "
        "against a reference the paired difference, Bonett-Price interval, over groups where items have them"
    )

    def __init__(self, task: str | None = None) -> None:
        self._task = task
        self.id = f"accuracy:{task}" if task else "accuracy"
        self.name = f"accuracy on {task}" if task else "accuracy"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """The pooled metric measures each task too, so that no table of tasks is needed."""
        tasks = (self._task,) if self._task else (None, *values.tasks())
        answers = {f"accuracy:{task}" if task else "accuracy": values.correct(task) for task in tasks}
        return {name: Measurement(value=sum(right.values()) / len(right), n=len(right)) for name, right in answers.items() if right}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None:
            right = list(candidate.values.correct(self._task).values())
            if not right:
                return None
            share, interval = sum(right) / len(right), wilson(successes=sum(right), n=len(right), level=level)
            return Difference(value=share, interval=interval, n=len(right), unit=self.unit, samples="items")
        pairs = paired_items(candidate, reference, self._task)
        if not pairs:
            return None
        changes = [int(mine) - int(theirs) for mine, theirs, _ in pairs]
        interval = paired_interval(changes, [group for _, _, group in pairs], level=level)
        return Difference(value=sum(changes) / len(pairs), interval=interval, n=len(pairs), unit="pp", samples="items")
