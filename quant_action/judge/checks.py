"""One candidate by its gates: what each finds, whether that is certain, and in which words.

The whole interval on the right side of the limit is a pass, the whole of it on the wrong side a fail, anything else inconclusive: a
two-sided 90% interval makes either mistake in at most 5% of the cases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quant_action.judge.reasons import reason_of
from quant_action.judge.settling import needed_samples, too_few
from quant_action.judge.tripwires import holm
from quant_action.metrics import metric
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.looks import ERROR, looks_level
from quant_action.records import Check, GateLimit, Outcome, Versus

ITEMS = "items"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that a candidate is judged against."""

    references: Mapping[Versus, Subject | None]
    looks: tuple[float, ...]

    def compare(self, gate: GateLimit, candidate: Subject, error: float = ERROR) -> Difference | None:
        """What the gate looks at, its interval such that each bound errs with probability `error`, over all looks where it looks at items.

        None where there is no release to compare with, or nothing was measured.
        """
        reference = self.references[gate.vs] if gate.vs else None
        if gate.vs and reference is None:
            return None
        difference = metric(gate.metric).compare(candidate, reference)
        if difference is None:
            return None
        level = looks_level(self.looks if difference.samples == ITEMS else (1.0,), error)
        return difference if level == LEVEL else metric(gate.metric).compare(candidate, reference, level)

    def look(self, candidate: Subject, difference: Difference) -> int | None:
        """After which look the gate was decided, where it has several; a subject that was asked everything at once is at the last."""
        evaluation = candidate.evaluation
        if len(self.looks) == 1 or difference.samples != ITEMS:
            return None
        return evaluation.look if evaluation.looks > 1 else len(self.looks)


def check_gates(gates: Collection[GateLimit], candidate: Subject, bench: Bench) -> dict[GateLimit, Check]:
    """What each gate finds on a candidate, in their order. Raises `IntegrityError` when evaluations do not fit each other."""
    differences = {gate: bench.compare(gate, candidate) for gate in gates}
    outcomes = {gate: gate_outcome(gate, found) for gate, found in differences.items() if found}
    shared = _failing_alone(outcomes, candidate, bench)
    return {
        gate: _check(gate, found, Outcome.INCONCLUSIVE if gate in shared else outcomes[gate], candidate, bench, shared=shared.get(gate))
        if found
        else _not_applicable(gate, bench)
        for gate, found in differences.items()
    }


def _failing_alone(outcomes: Mapping[GateLimit, Outcome], candidate: Subject, bench: Bench) -> dict[GateLimit, int]:
    """Tripwires that fail by themselves and not once their family shares one error rate -> how many share it."""

    def fails_at(gate: GateLimit, error: float) -> bool:
        difference = bench.compare(gate, candidate, error) if outcomes[gate] is Outcome.FAIL else None
        return difference is not None and gate_outcome(gate, difference) is Outcome.FAIL

    found: dict[GateLimit, int] = {}
    for name in dict.fromkeys(gate.family for gate in outcomes if gate.family):
        family = [gate for gate in outcomes if gate.family == name]
        certain = holm(family, fails_at, error=ERROR)
        found |= {gate: len(family) for gate in family if outcomes[gate] is Outcome.FAIL and gate not in certain}
    return found


def gate_outcome(gate: GateLimit, difference: Difference) -> Outcome:
    """Pass: the whole interval is within the limit. Fail: the whole of it is beyond. What is known exactly is an interval of no width.

    What was disturbed while it was measured is neither, wherever its interval lies.
    """
    interval = difference.interval
    if difference.unstable or too_few(difference):
        return Outcome.INCONCLUSIVE
    low, high = (interval.low, interval.high) if interval else (difference.value, difference.value)
    all_within, all_beyond = (high <= gate.limit, low > gate.limit) if gate.bound == "max" else (low >= gate.limit, high < gate.limit)
    if all_within:
        return Outcome.PASS
    return Outcome.FAIL if all_beyond else Outcome.INCONCLUSIVE


def _check(gate: GateLimit, found: Difference, outcome: Outcome, candidate: Subject, bench: Bench, *, shared: int | None) -> Check:
    look = bench.look(candidate, found)
    needed = needed_samples(gate.limit, found) if outcome is Outcome.INCONCLUSIVE and not shared else None
    stopped = f", after look {look} of {len(bench.looks)}" if look and look < len(bench.looks) else ""
    return Check(
        gate=gate.gate,
        metric=gate.metric,
        vs=gate.vs,
        outcome=outcome,
        value=found.value,
        interval=found.interval,
        limit=gate.limit,
        n=found.n,
        reason=reason_of(gate, metric(gate.metric).name, found, outcome, needed=needed, shared=shared) + stopped,
        where=gate.where,
        level=gate.level,
        family=gate.family,
        look=look,
        needed=needed,
    )


def _not_applicable(gate: GateLimit, bench: Bench) -> Check:
    no_release = gate.vs == "release" and bench.references["release"] is None
    why = "there is no release to compare with yet" if no_release else "the evaluation measured nothing that gives it"
    return Check(
        gate=gate.gate,
        metric=gate.metric,
        vs=gate.vs,
        outcome=Outcome.NOT_APPLICABLE,
        value=None,
        interval=None,
        limit=gate.limit,
        n=None,
        reason=f"{metric(gate.metric).name}: {why}",
        where=gate.where,
        level=gate.level,
        family=gate.family,
    )


def decides(check: Check) -> bool:
    """Whether a check can stand in a candidate's way; a warning cannot, nor what somebody answers for."""
    return check.level == "error" and check.override is None


def undecided(checks: Sequence[Check]) -> bool:
    """Whether the next look at the items can change anything: some gate on items is open, and nothing has failed or is void.

    Open tripwires count: they never block, but a candidate that stopped before they could trip would not have been looked after.
    """
    deciding = [check for check in checks if decides(check)]
    if any(check.outcome in (Outcome.FAIL, Outcome.VOID) for check in deciding):
        return False
    return any(check.outcome is Outcome.INCONCLUSIVE and check.look is not None for check in deciding)
