"""The engines that are installed, ours and other packages', and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from quant_action.engines.interface import Engine
from quant_action.errors import EngineError, InputError
from quant_action.hardware import Device
from quant_action.records import Scheme

GROUP = "quant_action.engines"
OURS = "quant-action"
DEFAULT = "native"
"""Whose options a candidate without an engine gets."""
PREFERRED = ("native", "bitsandbytes", "gptqmodel", "llm-compressor", "auto-gptq", "autoawq")
"""In this order; engines of other packages come after them, by name."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    engines: dict[str, Engine]
    """By name, in order of preference."""
    broken: dict[str, EngineError]
    """Names under which no engine can be had, or a second one was found; each error names the distribution at fault."""


def engines() -> dict[str, Engine]:
    """Name -> engine, in order of preference."""
    return installed().engines


@cache
def installed() -> Installed:
    """Everything that stands in the entry-point group. A broken entry stops nobody who does not ask for it."""
    return load(entry_points(group=GROUP))


def load(points: Sequence[EntryPoint]) -> Installed:
    """Under a name that two distributions claim there is no engine, unless one of them is quant_action itself."""
    engines: dict[str, Engine] = {}
    broken: dict[str, EngineError] = {}
    for name in sorted({point.name for point in points}):
        claims = [point for point in points if point.name == name]
        valid = claims
        if len(claims) > 1:
            whose = " and ".join(_distribution(point) for point in claims)
            broken[name] = EngineError(f"engine {name} is there twice, from {whose}", where=GROUP, remedy="Uninstall one of them.")
            valid = [point for point in claims if point.dist is not None and point.dist.name == OURS]
        for point in valid:
            try:
                engines[name] = _engine(point)
            except EngineError as error:
                broken[name] = error
    order = sorted(engines, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name))
    return Installed(engines={name: engines[name] for name in order}, broken=broken)


def _engine(point: EntryPoint) -> Engine:
    """Raises `EngineError` for whatever is not an engine of that name: another package's code may do anything on import."""
    whose = _distribution(point)
    remedy = f"Mend or uninstall {whose}; other engines are not affected."
    try:
        engine = point.load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ").splitlines()[0]
        raise EngineError(f"engine {point.name} of {whose} cannot be loaded ({reason})", where=point.value, remedy=remedy) from error
    if not isinstance(engine, Engine):
        raise EngineError(f"engine {point.name} of {whose} is a {type(engine).__name__}, not an Engine", where=point.value, remedy=remedy)
    if engine.name != point.name:
        raise EngineError(f"engine {point.name} of {whose} calls itself {engine.name!r}", where=point.value, remedy=remedy)
    return engine


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def choose_engine(scheme: Scheme, device: Device, wanted: str | None) -> tuple[Engine, str]:
    """The engine for a scheme, and why it was chosen.

    Raises `InputError` when none can do it, with each one's reason, and `EngineError` when the one that is asked for is broken.
    """
    if wanted is not None:
        if wanted not in engines():
            if wanted in installed().broken:
                raise installed().broken[wanted]
            raise InputError(f"there is no engine {wanted!r}", remedy=f"Installed are: {', '.join(engines())}.")
        if refusal := engines()[wanted].refusal(scheme, device):
            raise InputError(f"engine {wanted} cannot do this: {refusal}", remedy="Change the candidate, or leave out engine.")
        return engines()[wanted], "asked for"
    refusals = []
    for name, engine in engines().items():
        refusal = engine.refusal(scheme, device)
        if refusal is None:
            return engine, engine.why
        if scheme.method in engine.methods:
            refusals.append(f"{name}: {refusal}")
    refusals += [str(error) for error in installed().broken.values()]
    raise InputError(f"no engine can do this ({'; '.join(refusals) or 'no engine for the method ' + scheme.method})")
