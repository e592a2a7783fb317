"""The checkpoint formats, by the `quant_method` of a model's config.json, and which of them a scheme is written in."""

from __future__ import annotations

from quant_action.checkpoints.awq import AWQFormat
from quant_action.checkpoints.compressed_tensors import CompressedTensorsFormat
from quant_action.checkpoints.gptq import GPTQFormat
from quant_action.checkpoints.interface import Format, StoredFormat
from quant_action.records import WeightScheme

GPTQ, AWQ = GPTQFormat(), AWQFormat()

FORMATS: dict[str, StoredFormat] = {format.method: format for format in (GPTQ, AWQ, CompressedTensorsFormat())}


def format_of(scheme: WeightScheme) -> Format:
    """AWQ GEMM for 4-bit AWQ, GPTQ for the rest: with its scales folded into the model, an AWQ result is an ordinary grouped checkpoint."""
    return AWQ if scheme.method == "awq" and scheme.bits == 4 else GPTQ
