"""Which linears checkpoint formats can hold, said before torch is loaded; `checkpoints/gptq.py` and `awq.py` say it of what they write."""

from __future__ import annotations

from quant_action.records import WeightScheme

CLIP_OUTPUTS = 64
"""AutoAWQ's clip search, which GPTQModel has too, takes as many outputs at a time and asserts that none are left over."""


def refused_by_gptq(outputs: int, inputs: int) -> str | None:
    """Version 1: words of 32 bits along the inputs of the weights and the outputs of the zero points."""
    for name, features in (("outputs", outputs), ("inputs", inputs)):
        if features % 32:
            return f"{features} {name} do not fill whole 32-bit words (a multiple of 32 does)"
    return None


def refused_by_awq(outputs: int) -> str | None:
    """GEMM: eight outputs to a word."""
    return f"{outputs} outputs do not fill whole 32-bit words (a multiple of 8 does)" if outputs % 8 else None


def refused_by_autoawq(scheme: WeightScheme, outputs: int) -> str | None:
    """AWQ GEMM as AutoAWQ makes it, and GPTQModel after it."""
    if scheme.clip and outputs % CLIP_OUTPUTS:
        return f"{outputs} outputs are no multiple of {CLIP_OUTPUTS}, which its clip search needs"
    return refused_by_awq(outputs)
