"""What GPTQModel 7.6 can do, as far as it is used here; imports nothing heavy.

Its activation order with static groups is group-aware reordering (arXiv 2505.14638): groups by their largest Hessian diagonal, inputs
within each group by theirs, the grid of a group found when it is reached. `g_idx` stays in order, as with groups fixed beforehand.
"""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import EVERY_DEVICE, Engine
from quant_action.engines.shapes import refused_by_autoawq, refused_by_gptq
from quant_action.hardware import Device
from quant_action.records import Scheme, WeightScheme

BITS = (2, 3, 4, 8)
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)


def refuses(scheme: Scheme, device: Device) -> str | None:
    """Why it cannot do `scheme`, or None."""
    if not isinstance(scheme, WeightScheme):
        return f"it has no method {scheme.method}"
    if scheme.bits not in BITS:
        return f"it has no {scheme.bits}-bit weights (2, 3, 4 and 8 it has)"
    if scheme.group_size not in GROUP_SIZES:
        return f"it has no groups of {scheme.group_size} ({', '.join(map(str, GROUP_SIZES[1:]))} and channel it has)"
    if scheme.method == "awq":
        return _refuses_awq(scheme)
    if scheme.clip:
        return "it has no clip search (native has)"
    if scheme.scales is not None:
        return "it cannot combine AWQ scales with GPTQ (native can)"
    return None


def _refuses_awq(scheme: WeightScheme) -> str | None:
    if scheme.bits != 4 or scheme.symmetric:
        return "its AWQ has 4 bits with zero points only (symmetric: false)"
    if scheme.group_size == -1:
        return "its AWQ has no groups of a whole channel"
    return None if scheme.clip else "its AWQ always searches clip ranges"


def refuses_shape(scheme: Scheme, outputs: int, inputs: int) -> str | None:
    """Other shapes it packs as well, without what does not fill a word."""
    if isinstance(scheme, WeightScheme) and scheme.method == "awq":
        return refused_by_autoawq(scheme, outputs)
    return refused_by_gptq(outputs, inputs)


ENGINE = Engine(
    name="gptqmodel",
    methods={"gptq": EVERY_DEVICE, "awq": ("cuda",)},
    environment="modern",
    worker="quant_action.engines.gptqmodel.worker",
    writes=("gptq", "awq"),
    deterministic=("cpu",),
    requires=("torch", "transformers", "gptqmodel"),
    sources=(
        "quant_action.engines.gptqmodel",
        "quant_action.engines.calibration",
        "quant_action.checkpoints",
        "quant_action.model_files",
        "quant_action.data",
    ),
    defaults={"gptq": ("act_order", "static_groups"), "awq": ("clip",)},
    needs_calibration=lambda scheme: True,
    refuses=refuses,
    refuses_shape=refuses_shape,
    why="the library GPTQModel",
    estimate=costs.gptqmodel,
    builds_with=("nvcc", "ninja"),
)
