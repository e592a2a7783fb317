"""Verdict -> Report: what a reviewer reads, in the order in which a reviewer asks. Pure: no model, no file, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from quant_action.formats.interface import Report, Row
from quant_action.metrics.interface import Subject
from quant_action.metrics.looks import looks_level
from quant_action.records import Candidate, Failure, Outcome, Plan, RuntimeCheck, Verdict
from quant_action.report.method import method_facts, used_versions
from quant_action.report.objections import objections, override_notes, warnings
from quant_action.report.regressions import regressions_of
from quant_action.report.rows import baseline_row, candidate_row, describe, floor_row, release_row

__all__ = ["Report", "build_report", "describe"]

ORDER = (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL, Outcome.VOID, Outcome.NOT_EVALUATED, Outcome.NOT_APPLICABLE)


def build_report(
    *,
    plan: Plan,
    verdict: Verdict,
    baseline: Subject,
    release: Subject | None,
    floor: Subject | None,
    candidates: Mapping[str, Candidate],
    subjects: Mapping[str, Subject],
    runtimes: Mapping[str, RuntimeCheck],
    untimed: Mapping[str, Failure],
    failures: Mapping[str, Failure],
    history: Sequence[tuple[str, float]] = (),
    links: str | None = None,
) -> Report:
    """All mappings go by candidate id. `history` is (version, mean KL divergence in nats) of the releases so far, oldest first; without it
    the trend begins at `release`. `links` is the address of the spec's file at the commit that was judged.

    Raises `IntegrityError` when two models were not measured on the same windows or items.
    """
    items_level = looks_level(verdict.looks)
    schemes = {job.id: job.scheme for job in plan.jobs}
    rows = [
        candidate_row(
            judged,
            schemes[judged.id],
            baseline=baseline,
            release=release,
            made=candidates.get(judged.id),
            measured=subjects.get(judged.id),
            runtime=runtimes.get(judged.id),
            untimed=untimed.get(judged.id),
            failure=failures.get(judged.id),
            items_level=items_level,
        )
        for judged in verdict.candidates
    ]
    rows.sort(key=lambda row: (row.id != verdict.winner, _rank(row), row.size is None, row.size or 0, row.id))
    winner = next((row for row in rows if row.id == verdict.winner), None)
    nearest = winner or min((row for row in rows if row.metrics), key=lambda row: (_rank(row), _kl(row)), default=None)
    reference = release_row(release, baseline, items_level, plan.release) if release else None
    measured = [baseline, *filter(None, (floor, release)), *subjects.values()]
    return Report(
        name=plan.name,
        spec=plan.spec,
        model=plan.model.source,
        decision=verdict.decision,
        winner=verdict.winner,
        nearest=nearest.id if nearest else None,
        reason=verdict.reason,
        baseline=baseline_row(baseline, plan.model),
        release=reference,
        floor=floor_row(floor, baseline, items_level, verdict.floor) if floor else None,
        rows=tuple(rows),
        runtime=plan.runtime,
        speed=plan.speed,
        objections=tuple(objection for row in rows if row is not winner for objection in objections(row, winner, verdict)),
        warnings=tuple(warnings(rows)),
        overrides=tuple(override_notes(verdict)),
        regressions=tuple(regressions_of(row.id, subjects[row.id], baseline) for row in rows if row.id in subjects),
        trend=_trend(history, reference, nearest),
        method=method_facts(plan, verdict, baseline, candidates, rows),
        versions=used_versions(candidates.values(), [subject.evaluation for subject in measured]),
        links=links,
    )


def _rank(row: Row) -> int:
    return ORDER.index(row.outcome or Outcome.NOT_EVALUATED)


def _kl(row: Row) -> float:
    return row.metrics["kl"].value if "kl" in row.metrics else math.inf


def _trend(history: Sequence[tuple[str, float]], release: Row | None, nearest: Row | None) -> tuple[tuple[str, float], ...]:
    """What releases cost in divergence, up to what this run would release."""
    before = tuple(history) or (((release.id, _kl(release)),) if release and "kl" in release.metrics else ())
    return (*before, (nearest.id, _kl(nearest))) if nearest and "kl" in nearest.metrics else before
