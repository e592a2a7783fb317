"""Degenerate answers: generations that are empty, that loop, or that do not end."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, paired_interval
from quant_action.metrics.pairing import groups_of, paired_items
from quant_action.metrics.shares import share_interval
from quant_action.records import Measurement
from quant_action.values import Values

GRAVITY = {None: 0, "no end": 1, "loop": 2, "empty": 2}
"""Of `degenerate` in an item. An answer may lack an end because its budget is small, but that is no reason to loop or to say nothing."""


class Degenerate:
    """What perplexity does not see (`scorer/health.py` says what each fault is).

    That an answer has no end counts against a model only where the other's had one, and so it is the pairs that are judged: an item is
    worse where its fault is graver than the reference's, better where it is less grave, and the difference is the share of the worse less
    that of the better. Both ways count alike, so that a model compared with itself in other batches is as often better as worse.
    """

    id = "degenerate"
    name = "degenerate answers"
    unit = "%"
    better: Literal["lower", "higher"] = "lower"
    formula = (
        "share of generated answers that are empty, loop (8 tokens, 4 times) or do not end, Wilson interval; against a reference the share "
        "with a graver fault less that with a lesser one, Bonett-Price interval; both over groups where items have them"
    )

    def measure(self, values: Values) -> dict[str, Measurement]:
        faulty = [item["degenerate"] is not None for item in values.items if "degenerate" in item]
        return {self.id: Measurement(value=sum(faulty) / len(faulty), n=len(faulty))} if faulty else {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None:
            items = [item for item in candidate.values.items if "degenerate" in item]
            if not items:
                return None
            faulty = [item["degenerate"] is not None for item in items]
            interval = share_interval(faulty, groups_of(items), level=level)
            return Difference(value=sum(faulty) / len(faulty), interval=interval, n=len(faulty), unit=self.unit, samples="items")
        pairs = [pair for pair in paired_items(candidate, reference) if "degenerate" in pair.mine and "degenerate" in pair.theirs]
        if not pairs:
            return None
        graver = [GRAVITY[pair.mine["degenerate"]] - GRAVITY[pair.theirs["degenerate"]] for pair in pairs]
        changes = [(change > 0) - (change < 0) for change in graver]
        interval = paired_interval(changes, [pair.group for pair in pairs], level=level)
        return Difference(value=sum(changes) / len(pairs), interval=interval, n=len(pairs), unit="pp", samples="items")
