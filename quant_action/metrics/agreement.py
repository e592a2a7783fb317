"""Top-1 agreement: how often the model's most likely token is the baseline's."""

from __future__ import annotations

from typing import Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, clipped, mapped, t_interval
from quant_action.metrics.pairing import paired_windows, windows_of
from quant_action.records import Measurement
from quant_action.values import Values


class Agreement:
    """Like the divergence, a comparison with the baseline already: `vs: baseline` and no reference mean the same."""

    id = "top1"
    name = "top-1 agreement"
    unit = "%"
    better: Literal["lower", "higher"] = "higher"
    formula = "share of tokens with the baseline's argmax, t-interval over windows; against a release the paired difference of the shares"

    def measure(self, values: Values) -> dict[str, Measurement]:
        if values.windows is None:
            return {}
        return {self.id: Measurement(value=float(values.windows.top1.mean()), n=len(values.windows.top1))}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        if reference is None or reference.evaluation.subject == "baseline":
            windows = windows_of(candidate)
            if windows is None:
                return None
            shares, lowest, unit = windows.top1.mean(axis=1), 0.0, self.unit
        else:
            pair = paired_windows(candidate, reference)
            if pair is None:
                return None
            shares, lowest, unit = pair[0].top1.mean(axis=1) - pair[1].top1.mean(axis=1), -1.0, "pp"
        interval = mapped(clipped(t_interval(shares, level=level), lowest, 1.0), float, method="t over windows")
        return Difference(value=float(shares.mean()), interval=interval, n=len(shares), unit=unit, samples="windows")
