"""Machines that are not here."""

from __future__ import annotations

from typing import Any

from quant_action.hardware import Gpu, Machine

GIB = 1 << 30


def gpu(name: str, capability: tuple[int, int], gib: float, *, free: float | None = None, index: int = 0) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index}{index}{index}{index}-abcd",
        name=name,
        capability=capability,
        memory=int(gib * GIB),
        free=int((gib if free is None else free) * GIB),
    )


def machine(*gpus: Gpu, **changes: Any) -> Machine:
    """64 GiB, 60 of them free, every tool, and a driver for CUDA 13 where there is a GPU."""
    settings: dict[str, Any] = {
        "architecture": "x86_64",
        "cores": 8,
        "memory": 64 * GIB,
        "free_memory": 60 * GIB,
        "gpus": gpus,
        "driver": "580.65.06" if gpus else None,
        "driver_cuda": (13, 0) if gpus else None,
        "tools": frozenset({"nvcc", "ninja", "cc"}),
    }
    return Machine(**settings | changes)


A100 = gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80)
V100 = gpu("Tesla V100-SXM2-16GB", (7, 0), 16)
T4 = gpu("Tesla T4", (7, 5), 15)
