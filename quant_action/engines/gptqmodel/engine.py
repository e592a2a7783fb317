"""What GPTQModel 7.6 can do, as far as it is used here; imports nothing heavy."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import Engine
from quant_action.records import Scheme, WeightScheme

BITS = (2, 3, 4, 8)
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)


def refuses(scheme: Scheme, device: str) -> str | None:
    """Why it cannot do `scheme`, or None; it runs on every device."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"it has no {scheme.bits}-bit weights (2, 3, 4 and 8 it has)"
    if scheme.group_size not in GROUP_SIZES:
        return f"it has no groups of {scheme.group_size} ({', '.join(map(str, GROUP_SIZES[1:]))} and channel it has)"
    if scheme.clip:
        return "it has no clip search (native has)"
    if scheme.scales is not None:
        return "it cannot combine AWQ scales with GPTQ (native can)"
    if scheme.act_order and scheme.static_groups:
        return "it has no activation order with static groups (native has)"
    return None


ENGINE = Engine(
    name="gptqmodel",
    methods=("gptq",),
    environment="modern",
    worker="quant_action.engines.gptqmodel.worker",
    requires=("torch", "transformers", "gptqmodel"),
    sources=(
        "quant_action.engines.gptqmodel",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    needs_calibration=lambda scheme: True,
    refuses=refuses,
    why="the library GPTQModel",
    estimate=costs.gptqmodel,
    builds_with=("nvcc", "ninja"),
)
