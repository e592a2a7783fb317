"""Why a candidate is not the winner, what only warns, and whose word counted against a gate's."""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.formats.interface import Objection, OverrideNote, Row
from quant_action.formats.wording import format_bytes
from quant_action.records import Check, Outcome, Verdict


def objections(row: Row, winner: Row | None, verdict: Verdict) -> list[Objection]:
    """Each gate that `row` fails, else each that is undecided, else how the winner is better."""
    outcome = row.outcome or Outcome.NOT_EVALUATED
    if row.failure:
        text = f"{row.failure.stage} ended with {row.failure.kind}: {row.failure.message.rstrip('.')}. {row.failure.remedy or ''}".strip()
        return [Objection(id=row.id, outcome=outcome, gate=None, text=text, where=None)]
    decisive = [check for check in row.checks if check.outcome is outcome and _decides(check)]
    if outcome is not Outcome.PASS and decisive:
        return [_objection(row, check) for check in decisive]
    if outcome is Outcome.PASS and winner and winner.size is not None and row.size is not None and row.size > winner.size:
        text = f"passes every gate too, but is larger than {winner.id}: {format_bytes(row.size)} against {format_bytes(winner.size)}"
    else:
        text = next(judged.reason for judged in verdict.candidates if judged.id == row.id)
    return [Objection(id=row.id, outcome=outcome, gate=None, text=text, where=None)]


def warnings(rows: Sequence[Row]) -> list[Objection]:
    """What fails and only warns."""
    return [_objection(row, check) for row in rows for check in row.checks if check.level == "warn" and check.outcome is Outcome.FAIL]


def override_notes(verdict: Verdict) -> list[OverrideNote]:
    """Those that count first."""
    checks = [check for judged in verdict.candidates for check in judged.checks]
    notes = [
        OverrideNote(override=override, checks=tuple(check for check in checks if check.override == override))
        for override in verdict.overrides
    ]
    return sorted(notes, key=lambda note: not note.checks)


def _decides(check: Check) -> bool:
    """Not what only warns, nor what was overridden, nor a tripwire that is still open."""
    return check.level == "error" and check.override is None and not (check.family and check.outcome is Outcome.INCONCLUSIVE)


def _objection(row: Row, check: Check) -> Objection:
    return Objection(id=row.id, outcome=check.outcome, gate=check.gate, text=check.reason, where=check.where)
