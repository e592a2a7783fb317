"""`plan --rehearse`: the stages of a run, on a stand-in for the model, so that what would fail after an hour fails in a minute."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from quant_action import pipeline
from quant_action.errors import Cancelled, QuantActionError
from quant_action.plan import make_plan
from quant_action.records import Candidate, Evaluation, ModelRef, RuntimeCheck, Speed, Stage
from quant_action.rehearsal.stand_in import LOGS, make_stand_in
from quant_action.session import Listener, Session, Settings, install_environments, prepare
from quant_action.store import BASELINE, FLOOR, Store
from quant_action.workers.environment import HOST, interpreter

Done = TypeVar("Done", Candidate, Evaluation, RuntimeCheck, Speed)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of the baseline or of a candidate."""

    subject: str
    stage: Stage
    seconds: float
    peak_memory: int | None
    """Bytes of the process; None where the stage failed."""
    peak_gpu_memory: int | None
    error: QuantActionError | None


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    twin: ModelRef
    steps: tuple[Step, ...]

    @property
    def exit_code(self) -> int:
        """0, or that of the first stage that failed."""
        return next((step.error.exit_code for step in self.steps if step.error), 0)


def rehearse(settings: Settings, listener: Listener) -> Rehearsal:
    """Take a two-layer twin of the model with random weights through every stage of every candidate, in a store that is deleted afterwards.
    The last release is not rehearsed: it has its full depth.

    A stage that fails stops neither other stages nor other candidates; its log is kept until the next rehearsal. Raises what making the
    twin raises (`ModelError`; `DataError` for too little calibration data), and `Cancelled`.
    """
    asked = prepare(settings)
    interpreter(HOST)
    folder = asked.store.cache / "rehearsal"
    well = False
    with asked.store.locked(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            started = time.monotonic()
            loaded, inputs = make_stand_in(asked.loaded, asked.inputs, folder, listener.step(asked.plan.name, "twin"))
            listener.done(asked.plan.name, "twin", f"{time.monotonic() - started:.1f} s")
            plan = make_plan(loaded, inputs, asked.plan.device)
            session = Session(loaded=loaded, inputs=inputs, plan=plan, store=Store(folder), timeout=asked.timeout)
            rehearsal = Rehearsal(twin=session.plan.model, steps=tuple(_steps(session, listener)))
            well = rehearsal.exit_code == 0
        finally:
            _clear(folder, keep_logs=not well)
    return rehearsal


def _steps(session: Session, listener: Listener) -> Iterator[Step]:
    """As far as each candidate gets."""
    install_environments(session, session.plan.jobs, listener)
    baseline, step = _attempt(BASELINE, "evaluate", partial(pipeline.measure_baseline, session, listener), listener)
    yield step
    if baseline is not None:
        yield _attempt(FLOOR, "evaluate", partial(pipeline.measure_floor, session, listener), listener)[1]
    for job in session.plan.jobs:
        made, step = _attempt(job.id, "quantize", partial(pipeline.make_candidate, session, job, listener), listener)
        yield step
        if made is None or baseline is None:
            continue
        measured, step = _attempt(job.id, "evaluate", partial(pipeline.measure_candidate, session, job, made, listener), listener)
        yield step
        if measured is not None and session.plan.runtime:
            compare = partial(pipeline.compare_runtime, session, job, made, measured, listener)
            yield _attempt(job.id, "runtime", compare, listener)[1]
        if measured is not None and session.plan.speed:
            yield _attempt(job.id, "speed", partial(pipeline.time_candidate, session, job, made, listener), listener)[1]


def _attempt(subject: str, stage: Stage, work: Callable[[], Done], listener: Listener) -> tuple[Done | None, Step]:
    started = time.monotonic()
    try:
        done = work()
    except Cancelled:
        raise
    except QuantActionError as error:
        listener.failed(subject, stage, error)
        seconds = time.monotonic() - started
        return None, Step(subject=subject, stage=stage, seconds=seconds, peak_memory=None, peak_gpu_memory=None, error=error)
    return done, Step(
        subject=subject,
        stage=stage,
        seconds=done.seconds,
        peak_memory=done.peak_memory,
        peak_gpu_memory=done.peak_gpu_memory,
        error=None,
    )


def _clear(folder: Path, *, keep_logs: bool) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not (keep_logs and path.name == LOGS):
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink()
    if not keep_logs:
        folder.rmdir()
