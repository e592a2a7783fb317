"""Verdict -> Report: what a reviewer reads, in the order in which a reviewer asks. Pure: no model, no file, no clock."""

from __future__ import annotations

from collections.abc import Mapping

from quant_action.formats.interface import Change, Fact, Objection, Report, Row
from quant_action.formats.wording import format_bytes
from quant_action.metrics import METRICS, metric
from quant_action.metrics.interface import Subject
from quant_action.metrics.memory import peak_memory
from quant_action.records import (
    BitsandbytesScheme,
    Candidate,
    CandidateVerdict,
    Evaluation,
    Failure,
    Outcome,
    Plan,
    RuntimeCheck,
    Scheme,
    Verdict,
    digest_of,
)
from quant_action.store import BASELINE
from quant_action.values import Values

__all__ = ["Report", "build_report", "describe"]

ORDER = (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL, Outcome.VOID, Outcome.NOT_EVALUATED, Outcome.NOT_APPLICABLE)


def build_report(
    *,
    plan: Plan,
    verdict: Verdict,
    baseline: Evaluation,
    candidates: Mapping[str, Candidate],
    evaluations: Mapping[str, Evaluation],
    runtimes: Mapping[str, RuntimeCheck],
    failures: Mapping[str, Failure],
    values: Mapping[str, Values],
) -> Report:
    """All mappings go by candidate id; `values` also holds the baseline's under `BASELINE`.

    Raises `IntegrityError` when a candidate and the baseline were not measured on the same windows or items.
    """
    reference = Subject(evaluation=baseline, values=values[BASELINE])
    schemes = {job.id: job.scheme for job in plan.jobs}
    rows = [
        _candidate_row(
            judged,
            schemes[judged.id],
            reference,
            candidates.get(judged.id),
            Subject(evaluation=evaluations[judged.id], values=values[judged.id]) if judged.id in evaluations else None,
            runtimes.get(judged.id),
            failures.get(judged.id),
        )
        for judged in verdict.candidates
    ]
    rows.sort(
        key=lambda row: (
            row.id != verdict.winner,
            ORDER.index(row.outcome or Outcome.NOT_EVALUATED),
            row.size is None,
            row.size or 0,
            row.id,
        )
    )
    return Report(
        name=plan.name,
        spec=plan.spec,
        model=plan.model.source,
        decision=verdict.decision,
        winner=verdict.winner,
        reason=verdict.reason,
        baseline=_baseline_row(plan, baseline),
        rows=tuple(rows),
        runtime=plan.runtime,
        objections=tuple(
            objection for row in rows if row.id != verdict.winner for objection in _objections(row, _winner(rows, verdict), verdict)
        ),
        method=_method(plan, reference, candidates, rows),
        versions=_versions([*candidates.values()], [baseline, *evaluations.values()]),
    )


def describe(scheme: Scheme) -> str:
    """For people: `GPTQ 4-bit, groups of 64, symmetric`."""
    if isinstance(scheme, BitsandbytesScheme):
        return f"bitsandbytes {scheme.type.upper()}" + (", scales quantized too" if scheme.double_quant else "")
    parts = [
        f"{'round to nearest' if scheme.method == 'rtn' else scheme.method.upper()} {scheme.bits}-bit",
        "one scale per channel" if scheme.group_size == -1 else f"groups of {scheme.group_size}",
        "symmetric" if scheme.symmetric else "asymmetric",
    ]
    if scheme.act_order:
        parts.append("activation order" + (" with static groups" if scheme.static_groups else ""))
    if scheme.scales == "awq" and scheme.method != "awq":
        parts.append("AWQ scales")
    if scheme.clip:
        parts.append("clipped")
    return ", ".join(parts)


def _baseline_row(plan: Plan, baseline: Evaluation) -> Row:
    return Row(
        id="baseline",
        outcome=None,
        required=False,
        scheme="unquantized",
        engine=None,
        size=baseline.size,
        size_ratio=None,
        metrics=baseline.metrics,
        changes={},
        window_kl=(),
        quantize_seconds=None,
        quantize_memory=None,
        evaluate_memory=peak_memory(baseline),
        checks=(),
        runtime=None,
        failure=None,
        artifact=plan.model.digest,
    )


def _candidate_row(
    judged: CandidateVerdict,
    scheme: Scheme,
    reference: Subject,
    made: Candidate | None,
    measured: Subject | None,
    runtime: RuntimeCheck | None,
    failure: Failure | None,
) -> Row:
    size = measured.evaluation.size if measured else made.weights if made else None
    windows = measured.values.windows if measured else None
    return Row(
        id=judged.id,
        outcome=judged.outcome,
        required=judged.required,
        scheme=describe(scheme),
        engine=made.engine if made else None,
        size=size,
        size_ratio=size / reference.evaluation.size if size is not None and reference.evaluation.size else None,
        metrics=measured.evaluation.metrics if measured else {},
        changes=_changes(measured, reference) if measured else {},
        window_kl=tuple(windows.kl.mean(axis=1).tolist()) if windows else (),
        quantize_seconds=made.seconds if made else None,
        quantize_memory=(made.peak_memory if made.peak_gpu_memory is None else made.peak_gpu_memory) if made else None,
        evaluate_memory=peak_memory(measured.evaluation) if measured else None,
        checks=judged.checks,
        runtime=runtime,
        failure=failure,
        artifact=made.artifact if made else None,
    )


def _changes(candidate: Subject, reference: Subject) -> dict[str, Change]:
    """Everything that can be compared: what the table of metrics knows, and each task by itself."""
    ids = dict.fromkeys([known.id for known in METRICS] + sorted(candidate.evaluation.metrics))
    differences = {id: metric(id).compare(candidate, reference) for id in ids}
    return {
        id: Change(name=metric(id).name, value=found.value, interval=found.interval, n=found.n, unit=found.unit, samples=found.samples)
        for id, found in differences.items()
        if found
    }


def _winner(rows: list[Row], verdict: Verdict) -> Row | None:
    return next((row for row in rows if row.id == verdict.winner), None)


def _objections(row: Row, winner: Row | None, verdict: Verdict) -> list[Objection]:
    """Why `row` is not the winner: each gate that it fails, else each that is undecided, else how the winner is better."""
    outcome = row.outcome or Outcome.NOT_EVALUATED
    if row.failure:
        text = f"{row.failure.stage} ended with {row.failure.kind}: {row.failure.message.rstrip('.')}. {row.failure.remedy or ''}".strip()
        return [Objection(id=row.id, outcome=outcome, gate=None, text=text, where=None)]
    decisive = [check for check in row.checks if check.outcome is outcome]
    if outcome is not Outcome.PASS and decisive:
        return [Objection(id=row.id, outcome=outcome, gate=check.gate, text=check.reason, where=check.where) for check in decisive]
    if outcome is Outcome.PASS and winner and winner.size is not None and row.size is not None and row.size > winner.size:
        text = f"passes every gate too, but is larger than {winner.id}: {format_bytes(row.size)} against {format_bytes(winner.size)}"
    else:
        text = next(judged.reason for judged in verdict.candidates if judged.id == row.id)
    return [Objection(id=row.id, outcome=outcome, gate=None, text=text, where=None)]


def _versions(made: list[Candidate], measured: list[Evaluation]) -> tuple[str, ...]:
    """Each `name version` once; engines in environments of their own may differ in the versions of one package."""
    found = [record.versions for record in made] + [record.versions for record in measured]
    return tuple(sorted({f"{name} {version}" for versions in found for name, version in versions.items()}))


# Method ---------------------------------------------------------------------------------------------------------------


def _at_revision(plan: Plan) -> str:
    return f"{plan.model.source} at revision {plan.model.revision}" if plan.model.revision else plan.model.source


def _method(plan: Plan, reference: Subject, candidates: Mapping[str, Candidate], rows: list[Row]) -> tuple[Fact, ...]:
    facts = [
        Fact(label="Model", text=f"{_at_revision(plan)}, {plan.model.architecture}, digest {plan.model.digest}"),
        Fact(label="Device", text=plan.device),
        Fact(label="Protocol", text=f"{plan.protocol.id}, digest {digest_of(plan.protocol.model_dump(mode='json'))}, scorer {plan.scorer}"),
    ]
    if text := plan.protocol.text:
        windows = reference.values.windows
        scored = f", {windows.nll.shape[0]:,} windows, {windows.nll.size:,} scored tokens" if windows else ""
        facts.append(Fact(label="Text", text=f"{text.data}, windows of {text.window:,} tokens{scored}, sha256 {text.digest}"))
    facts += [
        Fact(
            label=f"Task {task.id}",
            text=f"{task.kind}, {task.data}, {len(reference.values.correct(task.id)):,} items, sha256 {task.digest}",
        )
        for task in plan.protocol.tasks
    ]
    if used := plan.calibration:
        facts.append(
            Fact(
                label="Calibration",
                text=f"{used.data}, {used.samples:,} samples of {used.tokens:,} tokens, seed {used.seed}, sha256 {used.digest}",
            )
        )
    if asked := plan.runtime:
        runtime = f"on the first {asked.tokens} tokens of {asked.windows} windows of the text, by the library that serves the artifact"
    else:
        runtime = "not asked for (evaluation.runtime)"
    facts.append(Fact(label="Runtime check", text=runtime))
    if methods := sorted({interval_words for row in rows for interval_words in _interval_words(row)}):
        facts.append(Fact(label="Intervals", text="; ".join(methods)))
    facts += [
        Fact(label=f"Candidate {job.id}", text=f"engine {job.engine} ({job.engine_reason}), artifact {candidates[job.id].artifact}")
        for job in plan.jobs
        if job.id in candidates
    ]
    return (*facts, Fact(label="Spec", text=f"{plan.spec}, sha256 {plan.spec_digest}"), Fact(label="Plan", text=plan.key))


def _interval_words(row: Row) -> list[str]:
    intervals = [change.interval for change in row.changes.values()] + [check.interval for check in row.checks]
    return [f"{100 * interval.level:.0f}% {interval.method}" for interval in intervals if interval]
