"""The engines as rows of text: what `quant-action engines` prints and the README has."""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.engines.interface import Engine
from quant_action.hardware import Device

HEADINGS = ("engine", "methods", "runs on", "environment", "writes", "same bytes twice")
NAMES: dict[Device, str] = {"cpu": "CPU", "cuda": "CUDA"}


def row(engine: Engine) -> tuple[str, ...]:
    """One cell for each of `HEADINGS`; a method that does not run wherever the engine does says where it runs."""
    methods = [
        method if set(places) == set(engine.devices) else f"{method} ({_devices(places)} only)" for method, places in engine.methods.items()
    ]
    return (
        engine.name,
        ", ".join(methods),
        _devices(engine.devices),
        engine.environment,
        ", ".join(engine.writes),
        _devices(engine.deterministic) or "not promised",
    )


def _devices(devices: Sequence[Device]) -> str:
    return ", ".join(NAMES[device] for device in devices)
