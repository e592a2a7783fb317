"""Bits per byte: perplexity that does not depend on how a tokenizer cuts the text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL, exp, jackknife, mapped
from quant_action.metrics.pairing import paired_windows, windows_of
from quant_action.records import Measurement
from quant_action.values import Values, Windows

if TYPE_CHECKING:
    import numpy as np


class BitsPerByte:
    """How many bits a byte of the text costs when the model compresses it; figures of models with other tokenizers compare."""

    id = "bits_per_byte"
    name = "bits per byte"
    unit = "bit/B"
    better: Literal["lower", "higher"] = "lower"
    formula = "sum NLL / (ln 2 x UTF-8 bytes of the scored text); against a reference the ratio of the two; jackknife over windows"

    def measure(self, values: Values) -> dict[str, Measurement]:
        if values.windows is None or not values.windows.bytes.sum():
            return {}
        value = float(_bits(values.windows).sum() / values.windows.bytes.sum())
        return {self.id: Measurement(value=value, n=len(values.windows.nll))} if math.isfinite(value) else {}

    def compare(self, candidate: Subject, reference: Subject | None, level: float = LEVEL) -> Difference | None:
        import numpy as np

        if reference is None:
            windows = windows_of(candidate)
            against = windows.bytes if windows else None
        else:
            pair = paired_windows(candidate, reference)
            windows, against = (pair[0], _bits(pair[1])) if pair else (None, None)
        if windows is None or against is None:
            return None
        bits = _bits(windows)
        others, others_against = bits.sum() - bits, against.sum() - against
        if not ((others > 0).all() and (others_against > 0).all()):
            return None
        full = math.log(bits.sum() / against.sum())
        interval = mapped(jackknife(full, np.log(others / others_against), level=level), exp, method="jackknife over windows")
        return Difference(value=exp(full), interval=interval, n=len(bits), unit="x" if reference else self.unit, samples="windows")


def _bits(windows: Windows) -> np.ndarray:
    """Of each window: [windows]."""
    bits: np.ndarray = windows.nll.sum(axis=1) / math.log(2)
    return bits
