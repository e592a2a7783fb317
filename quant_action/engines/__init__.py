"""The engines that are installed, ours and other packages', and the choice between them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from quant_action.engines.interface import Engine
from quant_action.errors import EngineError, InputError
from quant_action.hardware import Device
from quant_action.records import Scheme

GROUP = "quant_action.engines"
PREFERRED = ("native", "bitsandbytes", "gptqmodel", "llm-compressor", "auto-gptq", "autoawq")
"""In this order; engines of other packages come after them, by name."""


@cache
def engines() -> dict[str, Engine]:
    """Name -> engine, in order of preference. Raises `EngineError` for an entry point that is not an engine."""
    found: dict[str, Engine] = {}
    for point in entry_points(group=GROUP):
        engine = point.load()
        if not isinstance(engine, Engine) or engine.name != point.name or point.name in found:
            raise EngineError(f"entry point {point.name} = {point.value} is not an engine of that name, or is there twice", where=GROUP)
        found[point.name] = engine
    order = sorted(found, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name))
    return {name: found[name] for name in order}


def choose_engine(scheme: Scheme, device: Device, wanted: str | None) -> tuple[Engine, str]:
    """The engine for a scheme, and why it was chosen. Raises `InputError` when none can do it, with each one's reason."""
    if wanted is not None:
        if wanted not in engines():
            raise InputError(f"there is no engine {wanted!r}", remedy=f"Installed are: {', '.join(engines())}.")
        refusal = _refusal(engines()[wanted], scheme, device)
        if refusal:
            raise InputError(f"engine {wanted} cannot do this: {refusal}", remedy="Change the candidate, or leave out engine.")
        return engines()[wanted], "asked for"
    refusals = []
    for name, engine in engines().items():
        refusal = _refusal(engine, scheme, device)
        if refusal is None:
            return engine, engine.why
        if scheme.method in engine.methods:
            refusals.append(f"{name}: {refusal}")
    raise InputError(f"no engine can do this ({'; '.join(refusals) or 'no engine for the method ' + scheme.method})")


def _refusal(engine: Engine, scheme: Scheme, device: Device) -> str | None:
    if scheme.method not in engine.methods:
        return f"it does {', '.join(engine.methods)}, not {scheme.method}"
    return engine.refuses(scheme, device)
