"""KL divergence at the end of long documents, where errors of thousands of quantized keys and values have added up."""

from __future__ import annotations

from quant_action.metrics.divergence import Divergence


class LongDivergence(Divergence):
    """As `Divergence`, of the last tenth of the first so many tokens of each document; documents are the clusters."""

    samples = "documents"
    _long = True

    def __init__(self) -> None:
        super().__init__()
        self.id = "kl_long"
        self.name = "KL divergence at the end of long documents"
        self.formula = (
            "mean of sum P ln(P / Q) over the last tenth of each document's tokens, P of the baseline, t interval over documents; "
            "against a release the ratio of the two, jackknife over documents on the log"
        )
