"""What llm-compressor 0.14 can do, as far as it is used here; imports nothing heavy."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import EVERY_DEVICE, Engine
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme

BITS = (4, 8)


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"its format packs 4 and 8 bits, not {scheme.bits}"
    if scheme.clip:
        return "it has no clip search (native has)"
    if scheme.method == "gptq" and scheme.scales is not None:
        return "it cannot combine AWQ scales with GPTQ here (native can)"
    if scheme.act_order and not scheme.static_groups:
        return "activation order is used with static groups only"
    return None


ENGINE = Engine(
    name="llm-compressor",
    methods={"gptq": EVERY_DEVICE, "awq": ("cuda",)},
    environment="modern",
    worker="quant_action.engines.llm_compressor.worker",
    writes=("compressed-tensors",),
    deterministic=("cpu",),
    requires=("torch", "transformers", "llmcompressor", "compressed-tensors"),
    sources=(
        "quant_action.engines.llm_compressor",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    defaults={"gptq": ("act_order", "static_groups")},
    needs_calibration=lambda scheme: True,
    refuses=refuses,
    why="the library llm-compressor",
    estimate=costs.llm_compressor,
    builds_with=("cc",),
)
