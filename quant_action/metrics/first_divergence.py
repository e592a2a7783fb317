"""First divergence: after how many tokens a generated answer leaves the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, mapped, quantile_interval
from quant_action.metrics.pairing import paired_items
from quant_action.records import Measurement
from quant_action.values import Values


class FirstDivergence:
    """To be shown, not judged: greedy decoding parts for harmless reasons too, such as another batch (arXiv 2506.09501)."""

    id = "first_divergence"
    name = "tokens until answers part"
    unit = "tokens"
    better: Literal["lower", "higher"] = "higher"
    formula = (
        "median, over generated answers that differ from the reference's, of how many tokens they have in common at the beginning; "
        "Woodruff interval over answers"
    )

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        import numpy as np

        pairs = paired_items(candidate, reference) if reference else []
        written = [(pair.mine["ids"], pair.theirs["ids"]) for pair in pairs if "ids" in pair.mine and "ids" in pair.theirs]
        common = np.array([_common_prefix(mine, theirs) for mine, theirs in written if mine != theirs])
        if not len(common):
            return None
        interval = quantile_interval(common[:, None], 0.5, level=level) if len(common) > 1 else None
        if interval:
            interval = mapped(interval, float, method="Woodruff over answers")
        return Difference(value=float(np.median(common)), interval=interval, n=len(common), unit=self.unit, samples="items")


def _common_prefix(mine: Sequence[int], theirs: Sequence[int]) -> int:
    return next((index for index, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
