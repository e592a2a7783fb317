"""What the probability of the true token has moved by: llama.cpp's delta-p, its mean and its root mean square."""

from __future__ import annotations

import math
from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, jackknife, mapped, t_interval
from quant_action.metrics.pairing import paired_windows
from quant_action.records import Measurement
from quant_action.values import Values


class ProbabilityChange:
    """The mean says in which direction the model has moved, the root mean square how much it wavers.

    For the reader who knows the figures that llama.cpp prints; gates on perplexity and divergence say the same with less noise.
    """

    unit = "pp"

    def __init__(self, *, rms: bool) -> None:
        self._rms = rms
        self.id = "dp_rms" if rms else "dp_mean"
        self.name = f"change of the true token's probability, {'root mean square' if rms else 'mean'}"
        self.better: Literal["lower", "higher"] = "lower" if rms else "higher"
        self.formula = (
            "root mean square of exp(-NLL) - exp(-NLL of the reference) over tokens, jackknife over windows"
            if rms
            else "mean of exp(-NLL) - exp(-NLL of the reference) over tokens, t-interval over windows"
        )

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Nothing: it takes two models."""
        return {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        pair = paired_windows(candidate, reference) if reference else None
        if pair is None:
            return None
        import numpy as np

        change = np.exp(-pair[0].nll) - np.exp(-pair[1].nll)
        if self._rms:
            squares = np.square(change).mean(axis=1)
            without = np.sqrt((squares.sum() - squares) / (len(squares) - 1))
            value = math.sqrt(squares.mean())
            interval = mapped(jackknife(value, without, level=level), lambda end: max(end, 0.0), method="jackknife over windows")
        else:
            means = change.mean(axis=1)
            value = float(means.mean())
            interval = mapped(t_interval(means, level=level), float, method="t over windows")
        return Difference(value=value, interval=interval, n=len(change), unit=self.unit, samples="windows")
