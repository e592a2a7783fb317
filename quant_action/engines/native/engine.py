"""What the native engine can do; imports nothing heavy."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import EVERY_DEVICE, Engine
from quant_action.engines.shapes import refused_by_awq, refused_by_gptq
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme

BITS = (2, 3, 4, 8)


def needs_calibration(scheme: Scheme) -> bool:
    """Plain round-to-nearest looks at the weights alone; everything else weighs errors by the layer's inputs."""
    return isinstance(scheme, WeightScheme) and (scheme.method == "gptq" or scheme.clip or scheme.scales is not None)


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"it has no {scheme.bits}-bit weights (2, 3, 4 and 8 it has)"
    if scheme.group_size != -1 and scheme.group_size < 8:
        return f"a group of {scheme.group_size} weights is too small (8 is the least; -1 means one group per output channel)"
    if scheme.method != "gptq" and scheme.act_order:
        return f"act_order is an option of GPTQ, not of {scheme.method}"
    if not 0 < scheme.damping <= 1:
        return f"damping is a share of the mean Hessian diagonal and must lie in (0, 1], not {scheme.damping}"
    return None


def refuses_shape(scheme: Scheme, outputs: int, inputs: int) -> str | None:
    """4-bit AWQ is stored as AWQ, everything else as GPTQ."""
    return refused_by_awq(outputs) if scheme.method == "awq" and scheme.bits == 4 else refused_by_gptq(outputs, inputs)


ENGINE = Engine(
    name="native",
    methods={"gptq": EVERY_DEVICE, "awq": EVERY_DEVICE, "rtn": EVERY_DEVICE},
    environment="host",
    worker="quant_action.engines.native.worker",
    writes=("gptq", "awq"),
    deterministic=("cpu", "cuda"),
    requires=("torch", "transformers", "accelerate", "tokenizers", "safetensors", "greenlet", "numpy"),
    sources=(
        "quant_action.engines.native",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    defaults={"gptq": ("act_order", "static_groups", "clip"), "awq": ("clip",)},
    needs_calibration=needs_calibration,
    refuses=refuses,
    refuses_shape=refuses_shape,
    why="any device, any option, no other environment",
    estimate=costs.native,
)
