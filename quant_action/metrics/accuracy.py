"""Accuracy on task items, of one task, of one slice, or of all items together."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, paired_interval
from quant_action.metrics.pairing import groups_of, paired_items
from quant_action.metrics.shares import share_interval
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
        "share of items answered right, Wilson interval; against a reference the paired difference, Bonett-Price interval; "
        "both over groups where items have them"
    )

    def __init__(self, *, task: str | None = None, slice: str | None = None) -> None:
        self._task, self._slice = task, slice
        self.id = "accuracy" + (f":{task}" if task else "") + (f"@{slice}" if slice else "")
        self.name = "accuracy" + (f" on {task}" if task else "") + (f" in {slice}" if slice else "")

    def measure(self, values: Values) -> dict[str, Measurement]:
        """The pooled metric measures each task and each slice too, so that no table of them is needed."""
        parts = [self]
        if self.id == "accuracy":
            parts += [Accuracy(task=task) for task in values.tasks()] + [Accuracy(slice=slice) for slice in values.item_slices()]
        answers = {part.id: [item["correct"] for item in values.items_of(task=part._task, slice=part._slice)] for part in parts}
        return {id: Measurement(value=sum(right) / len(right), n=len(right)) for id, right in answers.items() if right}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None:
            items = list(candidate.values.items_of(task=self._task, slice=self._slice))
            if not items:
                return None
            right = [item["correct"] for item in items]
            interval = share_interval(right, groups_of(items), level=level)
            return Difference(value=sum(right) / len(right), interval=interval, n=len(right), unit=self.unit, samples="items")
        pairs = paired_items(candidate, reference, task=self._task, slice=self._slice)
        if not pairs:
            return None
        changes = [pair.mine["correct"] - pair.theirs["correct"] for pair in pairs]
        interval = paired_interval(changes, [pair.group for pair in pairs], level=level)
        return Difference(value=sum(changes) / len(pairs), interval=interval, n=len(pairs), unit="pp", samples="items")
