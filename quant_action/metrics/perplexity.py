"""Perplexity: how surprised a model is by the true next token."""

from __future__ import annotations

import math
from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, exp, mapped, t_interval
from quant_action.metrics.pairing import paired_windows, windows_in, windows_of
from quant_action.records import Measurement
from quant_action.values import Values


class Perplexity:
    """The ratio to a reference is paired by token, which makes it some ten to a hundred times sharper than two perplexities apart."""

    unit = ""
    better: Literal["lower", "higher"] = "lower"
    formula = "exp(mean NLL); against a reference exp(mean(NLL - NLL of the reference)), t-interval over windows"

    def __init__(self, *, slice: str | None = None) -> None:
        self._slice = slice
        self.id = f"perplexity@{slice}" if slice else "perplexity"
        self.name = f"perplexity in {slice}" if slice else "perplexity"

    def measure(self, values: Values) -> dict[str, Measurement]:
        """Of all windows, and of each slice too."""
        found = {}
        for part in (self, *(Perplexity(slice=slice) for slice in values.text_slices() if not self._slice)):
            windows = windows_in(values, slice=part._slice)
            mean = float(windows.nll.mean()) if windows else math.nan
            if windows and math.isfinite(mean):
                found[part.id] = Measurement(value=exp(mean), n=len(windows.nll))
        return found

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None:
            windows = windows_of(candidate, slice=self._slice)
            if windows is None:
                return None
            nll = windows.nll.mean(axis=1)
        else:
            pair = paired_windows(candidate, reference, slice=self._slice)
            if pair is None:
                return None
            nll = (pair[0].nll - pair[1].nll).mean(axis=1)
        return Difference(
            value=exp(float(nll.mean())),
            interval=mapped(t_interval(nll, level=level), exp, method="t over windows"),
            n=len(nll),
            unit="x" if reference else self.unit,
            samples="windows",
        )
