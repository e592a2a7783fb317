"""The whole product on one screen: spec -> plan -> quantize -> evaluate (-> check_runtime, measure_speed) -> judge -> report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from quant_action.check_runtime import check_runtime
from quant_action.errors import Cancelled, InputError, QuantActionError, ReleaseNotMeasured, RunError
from quant_action.evaluate import (
    cached_evaluation,
    evaluate_baseline,
    evaluate_candidate,
    evaluate_floor,
    evaluate_release,
    evaluation_key,
    floor_key,
    release_key,
)
from quant_action.formats import FORMATS
from quant_action.gates import gate_limits, measured_of, overrides_of
from quant_action.judge import judge, undecided
from quant_action.measure_speed import measure_speed
from quant_action.metrics.interface import Subject
from quant_action.quantize import cached_candidate, quantize
from quant_action.records import Candidate, Decision, Evaluation, Failure, GateLimit, Job, Phase, Plan, RuntimeCheck, Speed, Stage, Verdict
from quant_action.report import Report, build_report
from quant_action.saved_run import SavedRun, load_last_run, load_subject
from quant_action.session import Listener, Session, Settings, install_environments, start, store_of
from quant_action.spec import LoadedSpec, load_spec
from quant_action.storage import write_text
from quant_action.store import BASELINE, FLOOR, RELEASE, RunFolder

DECISION_CODES = {Decision.APPROVED: 0, Decision.REJECTED: 1, Decision.INCONCLUSIVE: 3, Decision.BROKEN: 4}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A judged and reported run."""

    folder: Path
    verdict: Verdict
    report: Report
    failures: tuple[Failure, ...]

    @property
    def exit_code(self) -> int:
        """The decision's; but where nothing was approved and something broke, what broke decides: that is not the gates' news."""
        if self.failures and self.verdict.decision is not Decision.APPROVED:
            return self.failures[0].exit_code
        return DECISION_CODES[self.verdict.decision]


def run(settings: Settings, listener: Listener) -> Finished:
    """Everything. What is cached is not done again; a candidate that breaks does not stop the others.

    What candidates are compared with is measured first: where that breaks, nothing can be decided, and no hour of quantizing is lost.
    """
    session = start(settings)
    install_environments(session, session.plan.jobs, listener)
    measure_references(session, listener)
    made: dict[str, Candidate] = {}
    measured: dict[str, Evaluation] = {}
    for job in session.plan.jobs:
        try:
            made[job.id] = make_candidate(session, job, listener)
        except RunError as error:
            _record_failure(session.run, job, "quantize", error, listener)
    for job in session.plan.jobs:
        try:
            if job.id in made:
                measured[job.id] = measure_candidate(session, job, made[job.id], listener)
        except RunError as error:
            _record_failure(session.run, job, "evaluate", error, listener)
    for job in session.plan.jobs:
        try:
            if session.plan.runtime and job.id in measured:
                compare_runtime(session, job, made[job.id], measured[job.id], listener)
        except RunError as error:
            del measured[job.id]
            _record_failure(session.run, job, "runtime", error, listener)
    time_candidates(session, {id: made[id] for id in measured}, listener)
    session.run.mark_latest(session.plan.name)
    judge_saved(settings)
    return report_saved(settings)


def quantize_only(settings: Settings, chosen: str | None, listener: Listener) -> Session:
    """Make the candidates (or the chosen one) and nothing more."""
    session = start(settings)
    jobs = _chosen(session.plan, chosen)
    install_environments(session, jobs, listener)
    for job in jobs:
        make_candidate(session, job, listener)
    return session


def evaluate_only(settings: Settings, chosen: str | None, listener: Listener) -> Session:
    """Measure what candidates are compared with, and the candidates (or the chosen one), which must have been made."""
    session = start(settings)
    jobs = _chosen(session.plan, chosen)
    made = {job.id: _made(session, job, settings) for job in jobs}
    install_environments(session, jobs, listener)
    measure_references(session, listener)
    for job in jobs:
        evaluation = measure_candidate(session, job, made[job.id], listener)
        if session.plan.runtime:
            compare_runtime(session, job, made[job.id], evaluation, listener)
    time_candidates(session, made, listener)
    session.run.mark_latest(session.plan.name)
    return session


def judge_saved(settings: Settings) -> Verdict:
    """Judge the last run's records under the spec as it is now; needs no model, no data and no GPU.

    Gates and overrides are the spec's. The looks are the plan's: they were fixed before anything was measured.
    """
    loaded = load_spec(settings.spec)
    saved = load_last_run(store_of(loaded, settings), loaded.spec.name)
    candidates: dict[str, Subject | Failure] = {**saved.subjects, **_failures(loaded, saved)}
    verdict = _judge(loaded, saved.plan, saved.baseline, saved.floor, saved.release, candidates)
    verdict.save(saved.folder.verdict)
    return verdict


def _judge(
    loaded: LoadedSpec, plan: Plan, baseline: Subject, floor: Subject, release: Subject | None, candidates: Mapping[str, Subject | Failure]
) -> Verdict:
    return judge(
        plan_key=plan.key,
        gates=_gates(loaded, plan, baseline),
        baseline=baseline,
        release=release,
        floor=floor,
        candidates=candidates,
        required=[id for id, candidate in loaded.spec.candidates.items() if candidate.required],
        choose=loaded.spec.release.choose,
        looks=plan.looks,
        overrides=overrides_of(loaded),
    )


def report_saved(settings: Settings) -> Finished:
    """Write the last run's report in every format, from its saved records."""
    loaded = load_spec(settings.spec)
    saved = load_last_run(store_of(loaded, settings), loaded.spec.name)
    if not saved.folder.verdict.exists():
        raise InputError("the last run has no verdict yet", remedy=f"quant-action judge {settings.spec}")
    verdict = Verdict.load(saved.folder.verdict)
    failures = _failures(loaded, saved)
    report = build_report(
        plan=saved.plan,
        verdict=verdict,
        baseline=saved.baseline,
        release=saved.release,
        floor=saved.floor,
        candidates=saved.candidates,
        subjects=saved.subjects,
        runtimes=saved.runtimes,
        untimed=saved.untimed,
        failures=failures,
    )
    for form in FORMATS:
        write_text(saved.folder.path / form.file, form.render(report))
    return Finished(folder=saved.folder.path, verdict=verdict, report=report, failures=tuple(failures.values()))


def _gates(loaded: LoadedSpec, plan: Plan, baseline: Subject) -> dict[str, tuple[GateLimit, ...]]:
    measured = measured_of(baseline.values)
    return {job.id: gate_limits(loaded, job.scheme.bits, measured) for job in plan.jobs}


def _failures(loaded: LoadedSpec, saved: SavedRun) -> dict[str, Failure]:
    """Why candidates are not judged. Without times one is still judged, unless a gate that decides asks for them."""
    gates = _gates(loaded, saved.plan, saved.baseline)
    on_speed = {id for id, limits in gates.items() if any(limit.metric in get_args(Phase) and limit.level == "error" for limit in limits)}
    return saved.failures | {id: failure for id, failure in saved.untimed.items() if id in on_speed}


# One stage for one job ----------------------------------------------------------------------------------------------


def _chosen(plan: Plan, chosen: str | None) -> list[Job]:
    jobs = [job for job in plan.jobs if chosen in (None, job.id)]
    if not jobs:
        raise InputError(f"there is no candidate {chosen!r}", remedy=f"Candidates are: {', '.join(job.id for job in plan.jobs)}.")
    return jobs


def _made(session: Session, job: Job, settings: Settings) -> Candidate:
    candidate = cached_candidate(session.store, job.key)
    if candidate is None:
        raise InputError(f"candidate {job.id} has not been made", remedy=f"quant-action quantize {settings.spec} --candidate {job.id}")
    session.run.link_candidate(job.id, session.store.candidate(job.key))
    return candidate


def measure_references(session: Session, listener: Listener) -> None:
    """What candidates are compared with. Raises the errors of `run_worker`, and `ReleaseNotMeasured`."""
    measure_baseline(session, listener)
    measure_floor(session, listener)
    if session.plan.release:
        measure_release(session, listener)


def measure_baseline(session: Session, listener: Listener) -> Evaluation:
    known = cached_evaluation(session.store, session.plan.baseline_key) is not None
    evaluation = evaluate_baseline(session.plan, session.inputs, session.store, listener.step(BASELINE, "evaluate"), session.timeout)
    listener.done(BASELINE, "evaluate", _spent(evaluation, known=known))
    return evaluation


def measure_floor(session: Session, listener: Listener) -> Evaluation:
    """The baseline a second time."""
    known = cached_evaluation(session.store, floor_key(session.plan)) is not None
    evaluation = evaluate_floor(session.plan, session.inputs, session.store, listener.step(FLOOR, "evaluate"), session.timeout)
    bits = "the same bits" if evaluation.bit_identical else "other last bits"
    listener.done(FLOOR, "evaluate", f"{_spent(evaluation, known=known)}, {bits}")
    return evaluation


def measure_release(session: Session, listener: Listener) -> Evaluation:
    """Gates against a release that was given must not fall silent: where it cannot be measured, the run ends."""
    known = cached_evaluation(session.store, release_key(session.plan)) is not None
    try:
        evaluation = evaluate_release(session.plan, session.inputs, session.store, listener.step(RELEASE, "evaluate"), session.timeout)
    except Cancelled:
        raise
    except QuantActionError as error:
        raise ReleaseNotMeasured(
            f"the release cannot be measured, so nothing can be compared with it: {error}",
            remedy=error.remedy or "Give the folder of a release that can be loaded; without --release, gates against it do not apply.",
        ) from error
    listener.done(RELEASE, "evaluate", _spent(evaluation, known=known))
    return evaluation


def _spent(evaluation: Evaluation, *, known: bool) -> str:
    return "cached" if known else f"{evaluation.seconds:.1f} s"


def make_candidate(session: Session, job: Job, listener: Listener) -> Candidate:
    known = session.is_cached(job)
    candidate = quantize(session.plan, job, session.inputs, session.store, listener.step(job.id, "quantize"), session.timeout)
    listener.done(job.id, "quantize", "cached" if known else f"{candidate.seconds:.1f} s")
    return candidate


def measure_candidate(session: Session, job: Job, candidate: Candidate, listener: Listener) -> Evaluation:
    """Look by look, as far as it takes to settle its gates on items; what candidates are compared with must have been measured."""
    look = 1
    evaluation, settled = _look_at(session, job, candidate, look, listener)
    while not settled:
        look += 1
        evaluation, settled = _look_at(session, job, candidate, look, listener)
    session.run.failure(job.id).unlink(missing_ok=True)
    return evaluation


def _look_at(session: Session, job: Job, candidate: Candidate, look: int, listener: Listener) -> tuple[Evaluation, bool]:
    """What was measured up to this look, and whether it is the last that is needed."""
    plan, looks = session.plan, len(session.plan.looks)
    known = cached_evaluation(session.store, evaluation_key(plan, candidate, look)) is not None
    advance = listener.step(job.id, "evaluate")
    evaluation = evaluate_candidate(plan, job.id, candidate, session.inputs, session.store, advance, session.timeout, look=look)
    note = _spent(evaluation, known=known)
    if looks == 1:
        listener.done(job.id, "evaluate", note)
        return evaluation, True
    settled = look < looks and _is_settled(session, job)
    listener.done(job.id, "evaluate", f"look {look} of {looks}: {_items(evaluation):,} items, {note}{', settled' if settled else ''}")
    return evaluation, settled or look == looks


def _items(evaluation: Evaluation) -> int:
    return evaluation.metrics["accuracy"].n if "accuracy" in evaluation.metrics else 0


def _is_settled(session: Session, job: Job) -> bool:
    """Whether another look at the items could change nothing, as the judge sees it."""
    plan, measured = session.plan, partial(load_subject, session.run)
    release = measured(RELEASE) if plan.release else None
    verdict = _judge(session.loaded, plan, measured(BASELINE), measured(FLOOR), release, {job.id: measured(job.id)})
    return not undecided(next(judged.checks for judged in verdict.candidates if judged.id == job.id))


def compare_runtime(session: Session, job: Job, candidate: Candidate, evaluation: Evaluation, listener: Listener) -> RuntimeCheck:
    known = session.is_checked(job)
    advance = listener.step(job.id, "runtime")
    check = check_runtime(session.plan, job.id, candidate, evaluation, session.inputs, session.store, advance, session.timeout)
    kernels = ", ".join(f"{name} × {count}" for name, count in check.kernels.items())
    listener.done(job.id, "runtime", f"{'cached' if known else f'{check.seconds:.1f} s'}, {kernels}")
    return check


def time_candidates(session: Session, made: Mapping[str, Candidate], listener: Listener) -> None:
    """Where the spec asks for it. What cannot be timed keeps its evaluation, and the report says why it has no times."""
    for job in session.plan.jobs:
        if session.plan.speed is None or job.id not in made:
            continue
        failure = session.run.speed_failure(job.id)
        failure.unlink(missing_ok=True)
        try:
            time_candidate(session, job, made[job.id], listener)
        except RunError as error:
            listener.failed(job.id, "speed", error)
            _failure(job, "speed", error).save(failure)


def time_candidate(session: Session, job: Job, candidate: Candidate, listener: Listener) -> Speed:
    known = session.is_timed(job)
    speed = measure_speed(session.plan, job, candidate, session.inputs, session.store, listener.step(job.id, "speed"), session.timeout)
    listener.done(job.id, "speed", "cached" if known else f"{speed.seconds:.1f} s{'' if speed.is_stable else ', unstable'}")
    return speed


def _record_failure(folder: RunFolder, job: Job, stage: Stage, error: RunError, listener: Listener) -> None:
    listener.failed(job.id, stage, error)
    _failure(job, stage, error).save(folder.failure(job.id))


def _failure(job: Job, stage: Stage, error: QuantActionError) -> Failure:
    return Failure(id=job.id, stage=stage, kind=type(error).__name__, exit_code=error.exit_code, message=str(error), remedy=error.remedy)
