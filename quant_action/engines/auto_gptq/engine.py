"""What AutoGPTQ 0.7.1 can do, as far as it is used here; imports nothing heavy."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import Engine
from quant_action.engines.shapes import refused_by_gptq
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme

BITS = (2, 3, 4, 8)


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"it has no {scheme.bits}-bit weights (2, 3, 4 and 8 it has)"
    if not scheme.symmetric:
        return "it packs a zero point of 0 over its neighbours: asymmetric weights may be stored wrong (native packs them right)"
    if scheme.clip:
        return "it has no clip search (native has)"
    if scheme.scales is not None:
        return "it cannot combine AWQ scales with GPTQ (native can)"
    return None


ENGINE = Engine(
    name="auto-gptq",
    methods={"gptq": ("cuda",)},
    environment="legacy",
    worker="quant_action.engines.auto_gptq.worker",
    writes=("gptq",),
    deterministic=(),
    requires=("torch", "transformers", "auto-gptq"),
    sources=(
        "quant_action.engines.auto_gptq",
        "quant_action.engines.transformers4",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    needs_calibration=lambda scheme: True,
    refuses=refuses,
    refuses_shape=lambda scheme, outputs, inputs: refused_by_gptq(outputs, inputs),
    why="AutoGPTQ 0.7.1, archived: for models that were released with it",
    estimate=costs.auto_gptq,
)
