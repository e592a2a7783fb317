"""Perplexity: how surprised a model is by the true next token."""

from __future__ import annotations

import math
from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, exp, mapped, t_interval
from quant_action.metrics.pairing import paired_windows, windows_of
from quant_action.records import Measurement
from quant_action.values import Values


class Perplexity:
    """The ratio to a reference is paired by token, which makes it some ten to a hundred times sharper than two perplexities apart."""

    id = "perplexity"
    name = "perplexity"
    unit = ""
    better: Literal["lower", "higher"] = "lower"
    formula = "exp(mean NLL); against a reference exp(mean(NLL - NLL of the reference)), t-interval over windows"

    def measure(self, values: Values) -> dict[str, Measurement]:
        if values.windows is None:
            return {}
        mean = float(values.windows.nll.mean())
        return {self.id: Measurement(value=exp(mean), n=len(values.windows.nll))} if math.isfinite(mean) else {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None:
            windows = windows_of(candidate)
            if windows is None:
                return None
            nll = windows.nll.mean(axis=1)
        else:
            pair = paired_windows(candidate, reference)
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
