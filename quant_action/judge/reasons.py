"""What a gate found, in one sentence whose numbers tell the value from the limit."""

from __future__ import annotations

from quant_action.judge.settling import too_few
from quant_action.metrics.interface import Difference
from quant_action.metrics.intervals import LEAST_WINDOWS
from quant_action.metrics.units import spell, spell_bare
from quant_action.records import GateLimit, Outcome


def reason_of(gate: GateLimit, name: str, difference: Difference, outcome: Outcome, *, needed: int | None, shared: int | None) -> str:
    """`shared`: with how many tripwires, itself among them, this one shares an error rate at which it does not fail."""
    unit, ends = difference.unit, (difference.interval.low, difference.interval.high) if difference.interval else ()
    numbers = (difference.value, *ends)
    digits = next((digits for digits in range(3, 9) if all(_tells_apart(gate.limit, number, unit, digits) for number in numbers)), 9)
    value, limit = (spell(number, unit, digits=digits) for number in (difference.value, gate.limit))
    bounds = f" [{', '.join(spell_bare(end, unit, digits=digits) for end in ends)}]" if ends else ""
    against = f" against the {gate.vs}" if gate.vs else ""
    found = f"{name} {value}{bounds}{against}"
    over, within = ("above", "at most") if gate.bound == "max" else ("below", "at least")
    if shared:
        return f"{found} is {over} {limit} by itself, but not with certainty where one of {shared} tripwires may be so by chance"
    if outcome is Outcome.PASS:
        return f"{found} is {within} {limit}"
    if outcome is Outcome.FAIL:
        return f"{found} is {over} {limit}"
    return f"{found} may or may not be {over} {limit}; {_what_settles_it(gate.limit, difference, needed)}"


def _tells_apart(limit: float, number: float, unit: str, digits: int) -> bool:
    """Whether two numbers that differ are still seen to differ when written with so many digits."""
    return limit == number or spell(limit, unit, digits=digits) != spell(number, unit, digits=digits)


def _what_settles_it(limit: float, difference: Difference, needed: int | None) -> str:
    n, samples = difference.n, difference.samples
    if difference.unstable:
        return f"it is not to be relied on: {difference.unstable}"
    if too_few(difference):
        return f"{n} {samples} are too few to tell, {LEAST_WINDOWS} are the least"
    if difference.interval is None or difference.value == limit:
        return f"it lies on the limit, and no number of {samples} would settle it"
    if needed is None:
        return f"it is too near the limit for any practical number of {samples} to settle it"
    return f"about {needed:,} {samples} would settle it, {n:,} were measured"
