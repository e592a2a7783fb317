"""What a run left on disk, read back: enough to judge and report again without a model, data or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quant_action.errors import InputError
from quant_action.metrics.interface import Subject
from quant_action.records import Candidate, Evaluation, Failure, Plan, RuntimeCheck, Speed
from quant_action.store import BASELINE, FLOOR, RELEASE, RunFolder, Store
from quant_action.values import Values


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    folder: RunFolder
    plan: Plan
    baseline: Subject
    floor: Subject
    """The baseline a second time."""
    release: Subject | None
    """None where the plan has none."""
    candidates: dict[str, Candidate]
    """By id, of those that were made and measured."""
    subjects: dict[str, Subject]
    """Likewise: their measurements."""
    runtimes: dict[str, RuntimeCheck]
    """Likewise, where the plan asks for them."""
    failures: dict[str, Failure]
    """By id, of all others."""
    untimed: dict[str, Failure]
    """Of those that were measured, where the plan asks for speed: why they have no times."""


def load_last_run(store: Store, name: str) -> SavedRun:
    """The last run of the spec called `name`. Raises `InputError` when there is none, `IntegrityError` for records that are not whole."""
    folder = store.latest_run(name)
    if folder is None:
        raise InputError(f"there is no run of {name} yet", remedy="quant-action run SPEC")
    plan = Plan.load(folder.plan)
    ids = [job.id for job in plan.jobs]
    failures = {id: Failure.load(folder.failure(id)) for id in ids if folder.failure(id).exists()}
    checked = {id for id in ids if plan.runtime is None or folder.runtime(id).exists()}
    measured = [id for id in ids if id not in failures and id in checked and _is_measured(folder, id)]
    return SavedRun(
        folder=folder,
        plan=plan,
        baseline=load_subject(folder, BASELINE),
        floor=load_subject(folder, FLOOR),
        release=load_subject(folder, RELEASE) if plan.release else None,
        candidates={id: Candidate.load(folder.candidate(id) / "candidate.json") for id in measured},
        subjects={id: load_subject(folder, id, timed=plan.speed is not None) for id in measured},
        runtimes={id: RuntimeCheck.load(folder.runtime(id)) for id in measured if plan.runtime},
        failures=failures | {id: _not_done(id, "evaluate") for id in ids if id not in measured and id not in failures},
        untimed={id: _untimed(folder, id) for id in measured if plan.speed and not folder.speed(id).exists()},
    )


def _is_measured(folder: RunFolder, id: str) -> bool:
    return (folder.evaluation(id) / "evaluation.json").exists()


def load_subject(folder: RunFolder, id: str, *, timed: bool = False) -> Subject:
    """A candidate by its id, or what candidates are compared with. Raises `InputError` when the run has not measured it.

    With its times if `timed` and there are any: while candidates are still measured, those of an earlier run may lie there.
    """
    path = folder.evaluation(id)
    if not _is_measured(folder, id):
        remedy = f"quant-action evaluate SPEC{' --release DIR' if id == RELEASE else ''}"
        raise InputError(f"the last run has no evaluation of the {id}", where=str(folder.path), remedy=remedy)
    speed = Speed.load(folder.speed(id)) if timed and folder.speed(id).exists() else None
    return Subject(evaluation=Evaluation.load(path / "evaluation.json"), values=Values.load(path), speed=speed)


def _untimed(folder: RunFolder, id: str) -> Failure:
    return Failure.load(folder.speed_failure(id)) if folder.speed_failure(id).exists() else _not_done(id, "speed")


def _not_done(id: str, stage: Literal["evaluate", "speed"]) -> Failure:
    message = {"evaluate": "has not been evaluated", "speed": "has not been timed"}[stage]
    return Failure(id=id, stage=stage, kind="NotEvaluated", exit_code=4, message=message, remedy="quant-action run SPEC")
