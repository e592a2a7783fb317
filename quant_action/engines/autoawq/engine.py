"""What AutoAWQ 0.2.9 can do, as far as it is used here; imports nothing heavy."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import Engine
from quant_action.engines.shapes import refused_by_autoawq
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if device != "cuda":
        return "without an NVIDIA GPU it writes a broken model and says nothing (native does AWQ on a CPU)"
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits != 4:
        return f"it has 4-bit weights only, not {scheme.bits}"
    if scheme.symmetric:
        return "its GEMM format needs zero points: symmetric: false"
    return "it has no groups of a whole channel" if scheme.group_size == -1 else None


def refuses_shape(scheme: Scheme, outputs: int, inputs: int) -> str | None:
    """See `engines/shapes.py`."""
    return refused_by_autoawq(scheme, outputs) if isinstance(scheme, WeightScheme) else None


ENGINE = Engine(
    name="autoawq",
    methods={"awq": ("cuda",)},
    environment="legacy",
    worker="quant_action.engines.autoawq.worker",
    writes=("awq",),
    deterministic=(),
    requires=("torch", "transformers", "autoawq"),
    sources=(
        "quant_action.engines.autoawq",
        "quant_action.engines.transformers4",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    defaults={"awq": ("clip",)},
    needs_calibration=lambda scheme: True,
    refuses=refuses,
    refuses_shape=refuses_shape,
    why="AutoAWQ 0.2.9, archived: for models that were released with it",
    estimate=costs.autoawq,
)
