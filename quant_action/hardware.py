"""What this machine has to work with, asked without torch."""

from __future__ import annotations

import platform
from typing import Literal

from quant_action.errors import RunError

Device = Literal["cpu", "cuda"]


def gpu_name() -> str | None:
    """Name of the first NVIDIA GPU, or None without one (or without its driver)."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if not pynvml.nvmlDeviceGetCount():
            return None
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return name.decode() if isinstance(name, bytes) else str(name)
    finally:
        pynvml.nvmlShutdown()


def device_class(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """What results belong to: the GPU's name, or `cpu` with the processor's architecture.

    Raises `RunError` when a GPU is wanted and there is none.
    """
    name = None if wanted == "cpu" else gpu_name()
    if wanted == "cuda" and name is None:
        raise RunError("no NVIDIA GPU (or no driver) on this machine", remedy="Leave out --device to work on the CPU, or use a GPU runner.")
    return name or f"cpu {platform.machine()}"


def device_of(device_class: str) -> Device:
    return "cpu" if device_class.startswith("cpu ") else "cuda"
