"""Evaluations and limits in, verdict out: a pure function, so that saved records judged again give the same verdict to the last bit.

A gate asks whether a difference is certainly on the right side of its limit. The whole interval on the right side is a pass, the whole
of it on the wrong side a fail, anything else inconclusive: a two-sided 90% interval makes either mistake in at most 5% of the cases
(non-inferiority by confidence interval; Piaggio et al., CONSORT extension, JAMA 308, 2012, pages 2594-2604). A pass needs every gate, so
many gates never raise the rate of false passes. What the judge knows of a metric is what its table entry says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from quant_action.metrics import metric
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEAST_WINDOWS
from quant_action.metrics.memory import peak_memory
from quant_action.metrics.units import spell, spell_bare
from quant_action.records import CandidateVerdict, Check, Decision, Failure, GateLimit, Outcome, Verdict

Choose = Literal["smallest", "most-accurate", "least-memory"]

WORST_FIRST = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS)

SETTLES_AT_MOST = 100_000
"""Samples beyond which "this many would settle it" stops being advice."""


def judge(
    *,
    plan_key: str,
    gates: Mapping[str, Sequence[GateLimit]],
    baseline: Subject,
    release: Subject | None,
    candidates: Mapping[str, Subject | Failure],
    required: Collection[str],
    choose: Choose,
) -> Verdict:
    """Judge every candidate by its `gates` (by candidate id) and decide on the run.

    Approved: some candidate passes and every `required` one does. Rejected: a required one fails or was not evaluated, or nothing can
    pass any more. Otherwise inconclusive. Raises `IntegrityError` when evaluations do not fit each other.
    """

    def verdict_on(id: str) -> CandidateVerdict:
        subject, must = candidates.get(id), id in required
        if isinstance(subject, Subject):
            checks = tuple(_check(gate, subject, baseline=baseline, release=release) for gate in gates.get(id, ()))
            outcome, reason = _candidate_outcome(checks)
            return CandidateVerdict(id=id, outcome=outcome, checks=checks, reason=reason, required=must)
        reason = f"{subject.stage} failed: {subject.message}" if subject else "there is no evaluation of it"
        return CandidateVerdict(id=id, outcome=Outcome.NOT_EVALUATED, checks=(), reason=reason, required=must)

    verdicts = {id: verdict_on(id) for id in (*candidates, *sorted(required))}
    decision = _decision(verdicts.values())
    ranked = sorted(
        (*RANKINGS[choose](subject), id)
        for id, subject in candidates.items()
        if isinstance(subject, Subject) and verdicts[id].outcome is Outcome.PASS
    )
    winner = str(ranked[0][-1]) if decision is Decision.APPROVED else None
    reason = _run_reason(decision, verdicts.values(), winner=winner, choose=choose)
    return Verdict(plan=plan_key, decision=decision, winner=winner, reason=reason, candidates=tuple(verdicts.values()))


# One gate -----------------------------------------------------------------------------------------------------------


def _check(gate: GateLimit, candidate: Subject, *, baseline: Subject, release: Subject | None) -> Check:
    reference = {None: None, "baseline": baseline, "release": release}[gate.vs]
    measured = metric(gate.metric)
    if gate.vs == "release" and release is None:
        return _not_applicable(gate, f"{measured.name}: there is no release to compare with yet")
    difference = measured.compare(candidate, reference)
    if difference is None:
        return _not_applicable(gate, f"{measured.name}: the evaluation measured nothing that gives it")
    outcome = gate_outcome(gate, difference)
    return Check(
        gate=gate.gate,
        metric=gate.metric,
        vs=gate.vs,
        outcome=outcome,
        value=difference.value,
        interval=difference.interval,
        limit=gate.limit,
        n=difference.n,
        reason=_gate_reason(gate, measured.name, difference, outcome),
        where=gate.where,
    )


def _not_applicable(gate: GateLimit, reason: str) -> Check:
    return Check(
        gate=gate.gate,
        metric=gate.metric,
        vs=gate.vs,
        outcome=Outcome.NOT_APPLICABLE,
        value=None,
        interval=None,
        limit=gate.limit,
        n=None,
        reason=reason,
        where=gate.where,
    )


def gate_outcome(gate: GateLimit, difference: Difference) -> Outcome:
    """Pass: the whole interval is within the limit. Fail: the whole of it is beyond. What is known exactly is an interval of no width."""
    interval = difference.interval
    if difference.unstable or _too_few(difference):
        return Outcome.INCONCLUSIVE
    low, high = (interval.low, interval.high) if interval else (difference.value, difference.value)
    all_within, all_beyond = (high <= gate.limit, low > gate.limit) if gate.bound == "max" else (low >= gate.limit, high < gate.limit)
    if all_within:
        return Outcome.PASS
    return Outcome.FAIL if all_beyond else Outcome.INCONCLUSIVE


def _gate_reason(gate: GateLimit, name: str, difference: Difference, outcome: Outcome) -> str:
    unit, ends = difference.unit, (difference.interval.low, difference.interval.high) if difference.interval else ()
    numbers = (difference.value, *ends)
    digits = next((digits for digits in range(3, 9) if all(_tells_apart(gate.limit, number, unit, digits) for number in numbers)), 9)
    value, limit = (spell(number, unit, digits=digits) for number in (difference.value, gate.limit))
    bounds = f" [{', '.join(spell_bare(end, unit, digits=digits) for end in ends)}]" if ends else ""
    against = f" against the {gate.vs}" if gate.vs else ""
    found = f"{name} {value}{bounds}{against}"
    over, within = ("above", "at most") if gate.bound == "max" else ("below", "at least")
    if outcome is Outcome.PASS:
        return f"{found} is {within} {limit}"
    if outcome is Outcome.FAIL:
        return f"{found} is {over} {limit}"
    return f"{found} may or may not be {over} {limit}; {_what_settles_it(gate.limit, difference)}"


def _too_few(difference: Difference) -> bool:
    return difference.samples == "windows" and difference.interval is not None and difference.n < LEAST_WINDOWS


def _tells_apart(limit: float, number: float, unit: str, digits: int) -> bool:
    """Whether two numbers that differ are still seen to differ when written with so many digits."""
    return limit == number or spell(limit, unit, digits=digits) != spell(number, unit, digits=digits)


def _what_settles_it(limit: float, difference: Difference) -> str:
    """How many samples would bring the near end of the interval to the limit, its width falling with the square root of their number."""
    interval, value, n = difference.interval, difference.value, difference.n
    if difference.unstable:
        return f"it is not to be relied on: {difference.unstable}"
    if _too_few(difference):
        return f"{n} windows are too few to tell, {LEAST_WINDOWS} are the least"
    if interval is None or value == limit:
        return f"it lies on the limit, and no number of {difference.samples} would settle it"
    reach = interval.high - value if value < limit else value - interval.low
    times_too_wide = reach / abs(limit - value)
    if times_too_wide > math.sqrt(SETTLES_AT_MOST / n):
        return f"it is too near the limit for any practical number of {difference.samples} to settle it"
    return f"about {max(math.ceil(n * times_too_wide**2), n + 1):,} {difference.samples} would settle it, {n:,} were measured"


# One candidate ------------------------------------------------------------------------------------------------------


def _candidate_outcome(checks: Sequence[Check]) -> tuple[Outcome, str]:
    """The worst outcome of its gates. Gates that do not apply neither pass nor fail, and nothing else is no evidence for a pass."""
    for outcome in WORST_FIRST:
        found = [check for check in checks if check.outcome is outcome]
        if found and outcome is Outcome.PASS:
            return outcome, f"all {len(found)} gates that apply pass" if len(found) > 1 else "the one gate that applies passes"
        if found:
            return outcome, "; ".join(check.reason for check in found)
    return Outcome.INCONCLUSIVE, "none of its gates applies, so nothing speaks for it" if checks else "no gate was set for it"


# The run ------------------------------------------------------------------------------------------------------------


def _decision(verdicts: Collection[CandidateVerdict]) -> Decision:
    outcomes = {verdict.outcome for verdict in verdicts}
    of_required = {verdict.outcome for verdict in verdicts if verdict.required}
    if of_required & {Outcome.FAIL, Outcome.NOT_EVALUATED}:
        return Decision.REJECTED
    if Outcome.PASS in outcomes and Outcome.INCONCLUSIVE not in of_required:
        return Decision.APPROVED
    return Decision.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Decision.REJECTED


def _run_reason(decision: Decision, verdicts: Collection[CandidateVerdict], *, winner: str | None, choose: Choose) -> str:
    def named(*outcomes: Outcome, required: bool = False) -> str:
        return ", ".join(verdict.id for verdict in verdicts if verdict.outcome in outcomes and verdict.required >= required)

    if decision is Decision.APPROVED:
        passing = sum(verdict.outcome is Outcome.PASS for verdict in verdicts)
        return f"{winner} is the {PHRASES[choose]} of {passing} candidates that pass" if passing > 1 else f"{winner} alone passes"
    if decision is Decision.INCONCLUSIVE:
        required = named(Outcome.INCONCLUSIVE, required=True)
        return f"required, and not settled: {required}" if required else f"none passes, not settled: {named(Outcome.INCONCLUSIVE)}"
    required = named(Outcome.FAIL, Outcome.NOT_EVALUATED, required=True)
    return f"required, and failed or not evaluated: {required}" if required else "no candidate passes its gates"


# The winner ---------------------------------------------------------------------------------------------------------


def _lost(subject: Subject) -> tuple[float, float]:
    """What quantization cost, least first: mean KL divergence from the baseline, then (lower is better here too) accuracy."""
    metrics = subject.evaluation.metrics
    kl, accuracy = metrics.get("kl"), metrics.get("accuracy")
    return (kl.value if kl else math.inf, -accuracy.value if accuracy else math.inf)


RANKINGS: dict[Choose, Callable[[Subject], tuple[float, ...]]] = {
    "smallest": lambda subject: (subject.evaluation.size, *_lost(subject)),
    "most-accurate": lambda subject: (*_lost(subject), subject.evaluation.size),
    "least-memory": lambda subject: (peak_memory(subject.evaluation), subject.evaluation.size, *_lost(subject)),
}
"""How the winner is chosen among those that pass; ties go to the next criterion, and at last to the id that sorts first.

Accuracy on items never leads: the best of several noisy accuracies is the luckiest one, whereas divergence is measured on every token.
"""

PHRASES: dict[Choose, str] = {"smallest": "smallest", "most-accurate": "nearest to the baseline", "least-memory": "least hungry for memory"}
