"""From checks to a verdict: the measurement itself, each candidate, and the run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from quant_action.errors import IntegrityError
from quant_action.judge.checks import Bench, check_gates, decides
from quant_action.judge.overrides import overridden
from quant_action.judge.winner import PHRASES, Choose, choose_winner
from quant_action.metrics.interface import Subject
from quant_action.records import CandidateVerdict, Check, Decision, Failure, GateLimit, Outcome, Override, Verdict


def judge(
    *,
    plan_key: str,
    gates: Mapping[str, Sequence[GateLimit]],
    baseline: Subject,
    release: Subject | None,
    floor: Subject | None,
    candidates: Mapping[str, Subject | Failure],
    required: Collection[str],
    choose: Choose,
    looks: tuple[float, ...] = (1.0,),
    overrides: Sequence[Override] = (),
) -> Verdict:
    """Judge every candidate by its `gates` (by candidate id) and decide on the run.

    `looks` are the shares of the items after which the plan allows a decision; a candidate may have been stopped at any of them (its
    evaluation says which). `floor` is the baseline measured a second time: a gate that fails on it is void for everybody.

    Broken: a gate that decides is void. Rejected: a required candidate fails or was not evaluated, or nothing can pass any more.
    Inconclusive: a required one is, or none passes and one still may. Else approved. Raises `IntegrityError` when evaluations do not fit
    each other.
    """
    bench = Bench(references={"baseline": baseline, "release": release}, looks=looks)
    floors = _floor_checks(gates.values(), floor, bench)
    void = {gate: check for gate, check in floors.items() if check.outcome is Outcome.FAIL}

    def verdict_on(id: str) -> CandidateVerdict:
        subject, must = candidates.get(id), id in required
        if isinstance(subject, Subject):
            _refuse_other_looks(id, subject, looks)
            found = check_gates(gates.get(id, ()), subject, bench)
            checks = [_voided(check, void[gate]) if gate in void else check for gate, check in found.items()]
            decided = overridden(checks, overrides, candidate=id, artifact=subject.evaluation.artifact)
            outcome, reason = _candidate_outcome(decided, looks=len(looks))
            return CandidateVerdict(id=id, outcome=outcome, checks=decided, reason=reason, required=must)
        reason = f"{subject.stage} failed: {subject.message}" if subject else "there is no evaluation of it"
        return CandidateVerdict(id=id, outcome=Outcome.NOT_EVALUATED, checks=(), reason=reason, required=must)

    verdicts = {id: verdict_on(id) for id in (*candidates, *sorted(required))}
    broken = [check for check in void.values() if decides(check)]
    decision = Decision.BROKEN if broken else _decision(verdicts.values())
    passing = {id: one for id, one in candidates.items() if isinstance(one, Subject) and verdicts[id].outcome is Outcome.PASS}
    winner = choose_winner(passing, choose) if decision is Decision.APPROVED else None
    return Verdict(
        plan=plan_key,
        decision=decision,
        winner=winner,
        reason=_run_reason(decision, verdicts.values(), broken, winner=winner, choose=choose),
        candidates=tuple(verdicts.values()),
        floor=tuple(floors.values()),
        looks=looks,
        overrides=tuple(overrides),
    )


def _refuse_other_looks(id: str, subject: Subject, looks: tuple[float, ...]) -> None:
    evaluation = subject.evaluation
    if evaluation.look < evaluation.looks != len(looks):
        raise IntegrityError(
            f"{id} was stopped at look {evaluation.look} of {evaluation.looks}, and the plan has {len(looks)}",
            where=f"evaluation {evaluation.key[:12]}",
            remedy="Run again: the looks are those of the plan.",
        )


# The measurement ----------------------------------------------------------------------------------------------------


def _floor_checks(gates: Collection[Sequence[GateLimit]], floor: Subject | None, bench: Bench) -> dict[GateLimit, Check]:
    """The gates against the baseline, of all candidates, each once, on the baseline measured again."""
    if floor is None:
        return {}
    found: dict[GateLimit, Check] = {}
    for of_candidate in gates:
        found |= check_gates([gate for gate in of_candidate if gate.vs == "baseline"], floor, bench)
    return found


def _voided(check: Check, on_floor: Check) -> Check:
    reason = f"fails on the baseline measured again, so it says nothing: {on_floor.reason}"
    return check.model_copy(update={"outcome": Outcome.VOID, "reason": reason, "needed": None})


# One candidate ------------------------------------------------------------------------------------------------------


def _candidate_outcome(checks: Sequence[Check], *, looks: int) -> tuple[Outcome, str]:
    """The worst of what decides. Gates that do not apply neither pass nor fail, and nothing else is no evidence for a pass.

    An open tripwire stands in nobody's way, unless tripwires are all that there is to speak for the candidate.
    """
    applying = [check for check in checks if check.level == "error" and check.outcome is not Outcome.NOT_APPLICABLE]
    primary = [check for check in applying if check.family is None]
    deciding = [check for check in applying if decides(check)]
    opposing = {
        Outcome.VOID: [check for check in deciding if check.outcome is Outcome.VOID],
        Outcome.FAIL: [check for check in deciding if check.outcome is Outcome.FAIL],
        Outcome.INCONCLUSIVE: [check for check in deciding if check.outcome is Outcome.INCONCLUSIVE and (check in primary or not primary)],
    }
    for outcome, found in opposing.items():
        if found:
            return outcome, "; ".join(check.reason for check in found)
    passing = sum(check.outcome is Outcome.PASS for check in applying)
    answered = dict.fromkeys(check.override for check in applying if check.override)
    if not passing and not answered:
        return Outcome.INCONCLUSIVE, "none of its gates applies, so nothing speaks for it" if checks else "no gate was set for it"
    still_open = sum(check.outcome is Outcome.INCONCLUSIVE and check.override is None for check in applying)
    said = f"all {passing} gates that apply pass" if passing > 1 else "the one gate that applies passes"
    if passing < len(applying):
        said = f"{passing} of {len(applying)} gates that apply pass"
    said += f", {still_open} tripwire{'s are' if still_open > 1 else ' is'} open" if still_open else ""
    said += "".join(f", {override.gate} is let pass by {override.by} ({override.reason})" for override in answered if override)
    look = max((check.look for check in applying if check.look), default=looks)
    return Outcome.PASS, said + (f", after look {look} of {looks}" if look < looks else "")


# The run ------------------------------------------------------------------------------------------------------------


def _decision(verdicts: Collection[CandidateVerdict]) -> Decision:
    outcomes = {verdict.outcome for verdict in verdicts}
    of_required = {verdict.outcome for verdict in verdicts if verdict.required}
    if of_required & {Outcome.FAIL, Outcome.NOT_EVALUATED}:
        return Decision.REJECTED
    if Outcome.PASS in outcomes and Outcome.INCONCLUSIVE not in of_required:
        return Decision.APPROVED
    return Decision.INCONCLUSIVE if Outcome.INCONCLUSIVE in outcomes else Decision.REJECTED


def _run_reason(
    decision: Decision, verdicts: Collection[CandidateVerdict], broken: Sequence[Check], *, winner: str | None, choose: Choose
) -> str:
    def named(*outcomes: Outcome, required: bool = False) -> str:
        return ", ".join(verdict.id for verdict in verdicts if verdict.outcome in outcomes and verdict.required >= required)

    if decision is Decision.BROKEN:
        return f"the baseline does not pass against itself, so nothing is decided: {'; '.join(check.reason for check in broken)}"
    if decision is Decision.APPROVED:
        passing = sum(verdict.outcome is Outcome.PASS for verdict in verdicts)
        return f"{winner} is the {PHRASES[choose]} of {passing} candidates that pass" if passing > 1 else f"{winner} alone passes"
    if decision is Decision.INCONCLUSIVE:
        required = named(Outcome.INCONCLUSIVE, required=True)
        return f"required, and not settled: {required}" if required else f"none passes, not settled: {named(Outcome.INCONCLUSIVE)}"
    required = named(Outcome.FAIL, Outcome.NOT_EVALUATED, required=True)
    return f"required, and failed or not evaluated: {required}" if required else "no candidate passes its gates"
