"""What the engine can do: read by the planner, so nothing heavy is imported here."""

from __future__ import annotations

from quant_action.engines.interface import Engine
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme

BITS = (2, 3, 4, 8)


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"it has no {scheme.bits}-bit weights (2, 3, 4 and 8 it has)"
    if scheme.clip:
        return "it fits the weights and not the layer's outputs, which clip asks for (native has it)"
    return None


ENGINE = Engine(
    name="least-squares",
    methods={"rtn": ("cpu",)},
    environment="host",
    worker="least_squares_engine.worker",
    writes=("gptq",),
    deterministic=("cpu",),
    requires=("torch",),
    sources=("least_squares_engine", "quant_action.checkpoints", "quant_action.model_files"),
    needs_calibration=lambda scheme: False,
    refuses=refuses,
    why="scales fitted to the weights, without calibration data",
)
