"""A model -> Evaluation: always of the folder reloaded from disk, in a process of its own.

Four kinds of model are measured, by one protocol: the baseline; the floor, which is the baseline a second time in other batches, compared
with what the first time left (A/A: a gate that fails there measures nothing); the last release, where there is one; the candidates.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from quant_action.errors import IntegrityError
from quant_action.estimate import expect_scoring, released_scheme
from quant_action.hardware import device_of
from quant_action.harness.run import run_harness
from quant_action.inputs import Inputs
from quant_action.metrics import measure_all
from quant_action.records import Candidate, Evaluation, Plan, Scheme, SubjectKind, WeightScheme, digest_of
from quant_action.storage import complete_folder
from quant_action.store import BASELINE, FLOOR, RELEASE, Store
from quant_action.values import Values
from quant_action.workers.process import OnProgress, run_worker

WORKER = "quant_action.scorer.worker"


def floor_key(plan: Plan) -> str:
    return digest_of(["floor", plan.baseline_key])


def release_key(plan: Plan) -> str:
    assert plan.release is not None
    return digest_of(["release", plan.release.digest, plan.baseline_key])


def evaluation_key(plan: Plan, candidate: Candidate, look: int) -> str:
    """The same bytes, measured the same way against the same baseline, give the same numbers; looks decide which items share a batch."""
    return digest_of(["candidate", candidate.artifact, plan.baseline_key, plan.looks, look])


def cached_evaluation(store: Store, key: str) -> Evaluation | None:
    try:
        return Evaluation.load(store.evaluation(key) / "evaluation.json")
    except (FileNotFoundError, IntegrityError):
        return None


def last_look(store: Store, plan: Plan, candidate: Candidate) -> Evaluation | None:
    """What is cached of a candidate, as far as it got."""
    looks = range(len(plan.looks), 0, -1)
    return next((found for look in looks if (found := cached_evaluation(store, evaluation_key(plan, candidate, look)))), None)


def evaluate_baseline(plan: Plan, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None) -> Evaluation:
    """Measure the unquantized model, or take it from the cache; keeps the hidden states that all others are compared with."""
    return _evaluate(plan, _baseline(plan, inputs), inputs, store, on_progress, timeout)


def evaluate_floor(plan: Plan, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None) -> Evaluation:
    """Measure the baseline a second time, in other batches, against what the first time left; from the cache where it was done."""
    measured = _Model(
        subject="floor", name=FLOOR, key=floor_key(plan), folder=inputs.model.folder, artifact=inputs.model_digest, size=inputs.model.size
    )
    return _evaluate(plan, measured, inputs, store, on_progress, timeout)


def evaluate_release(plan: Plan, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None) -> Evaluation:
    """Measure the last release against the baseline, on all items; from the cache where its bytes were measured before."""
    assert plan.release is not None
    assert inputs.release is not None
    measured = _Model(
        subject="release",
        name=RELEASE,
        key=release_key(plan),
        folder=inputs.release.folder,
        artifact=plan.release.digest,
        size=plan.release.size,
        scheme=released_scheme(inputs.release),
    )
    return _evaluate(plan, measured, inputs, store, on_progress, timeout)


def evaluate_candidate(
    plan: Plan,
    name: str,
    candidate: Candidate,
    inputs: Inputs,
    store: Store,
    on_progress: OnProgress,
    timeout: float | None = None,
    *,
    look: int = 1,
) -> Evaluation:
    """Measure a candidate against the baseline, which must have been measured, up to the items of a look; earlier ones come before.

    Raises the errors of `workers.process.run_worker`, and `IntegrityError` where the earlier look is not in the cache.
    """
    measured = _Model(
        subject="candidate",
        name=name,
        key=evaluation_key(plan, candidate, look),
        folder=store.candidate(candidate.key) / "model",
        artifact=candidate.artifact,
        size=candidate.weights,
        scheme=candidate.scheme,
        look=look,
        earlier=evaluation_key(plan, candidate, look - 1) if look > 1 else None,
    )
    return _evaluate(plan, measured, inputs, store, on_progress, timeout)


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What is measured."""

    subject: SubjectKind
    name: str
    key: str
    folder: Path
    artifact: str
    size: int
    scheme: Scheme | None = None
    look: int | None = None
    """Of a candidate; all others are asked every item at once."""
    earlier: str | None = None
    """Key of the evaluation at the look before."""

    def shares(self, plan: Plan) -> tuple[float, ...]:
        """Of the items, one for each look until this."""
        return plan.looks[: self.look] if self.look else (1.0,)


def _baseline(plan: Plan, inputs: Inputs) -> _Model:
    return _Model(
        subject="baseline",
        name=BASELINE,
        key=plan.baseline_key,
        folder=inputs.model.folder,
        artifact=inputs.model_digest,
        size=inputs.model.size,
    )


def _evaluate(plan: Plan, model: _Model, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None) -> Evaluation:
    folder = store.evaluation(model.key)
    run = store.run(plan.key)
    with store.locked(folder):
        evaluation = cached_evaluation(store, model.key)
        if evaluation is None:
            shutil.rmtree(folder, ignore_errors=True)
            with complete_folder(folder) as part:
                evaluation = _measure(plan, model, inputs, store, part, on_progress, timeout)
    run.link_evaluation(model.name, folder)
    return evaluation


def _measure(
    plan: Plan, model: _Model, inputs: Inputs, store: Store, folder: Path, on_progress: OnProgress, timeout: float | None
) -> Evaluation:
    log = store.run(plan.key).log(model.name, "evaluate")
    log.unlink(missing_ok=True)
    earlier = _earlier(store, model)
    shares = model.shares(plan)
    result = run_worker(
        job=f"evaluating {model.name}",
        environment="host",
        module=WORKER,
        request={
            "verb": "evaluate",
            "subject": model.subject,
            "model": str(model.folder.resolve()),
            "baseline": None if model.subject == "baseline" else _reference(plan, inputs, store),
            "rounding": _rounding(model.scheme) if model.subject == "candidate" and model.scheme and not earlier else None,
            "device": device_of(plan.device),
            "protocol": plan.protocol.model_dump(mode="json"),
            "data": {
                "text": str(inputs.text.path.resolve()) if inputs.text else None,
                "long_text": str(inputs.long_text.path.resolve()) if inputs.long_text else None,
                "tasks": {name: str(file.path.resolve()) for name, file in inputs.tasks.items()},
            },
            "look": {
                "after": shares[-2] if earlier else 0.0,
                "upto": shares[-1],
                "earlier": str(store.evaluation(earlier.key).resolve()) if earlier else None,
            },
            "output": str(folder.resolve()),
        },
        log=log,
        on_progress=on_progress,
        timeout=timeout,
    )
    parts, values = [result], Values.load(folder)
    if plan.protocol.harness:
        harness, items = run_harness(
            plan,
            inputs,
            model=model.folder,
            name=model.name,
            baseline=None if model.subject == "baseline" else store.evaluation(plan.baseline_key),
            log=log,
            on_progress=on_progress,
            timeout=timeout,
            share=(shares[-2] if earlier else 0.0, shares[-1]),
            other_batches=model.subject == "floor",
        )
        parts.append(harness)
        asked = {task.id for task in plan.protocol.harness}
        known = Values.load(store.evaluation(earlier.key)).items if earlier else ()
        values = replace(values, items=(*values.items, *(item for item in known if item["task"] in asked), *items))
        values.save(folder)
    peaks = [*(part.value["peak_gpu_memory"] for part in parts), earlier.peak_gpu_memory if earlier else None]
    evaluation = Evaluation(
        key=model.key,
        subject=model.subject,
        artifact=model.artifact,
        protocol=plan.protocol.digest,
        size=model.size,
        metrics=measure_all(values),
        scoring=result.value["scoring"],
        look=model.look or 1,
        looks=len(plan.looks) if model.look else 1,
        bit_identical=_equal(store.evaluation(plan.baseline_key), folder) if model.subject == "floor" else None,
        seconds=sum(part.seconds for part in parts) + (earlier.seconds if earlier else 0.0),
        peak_memory=max(*(part.peak_memory for part in parts), earlier.peak_memory if earlier else 0),
        peak_gpu_memory=max((peak for peak in peaks if peak is not None), default=None),
        estimate=expect_scoring(plan, model.subject, model.scheme, inputs, looks=shares),
        device=plan.device,
        versions={package: version for part in parts for package, version in part.value["versions"].items()},
    )
    evaluation.save(folder / "evaluation.json")
    return evaluation


def _earlier(store: Store, model: _Model) -> Evaluation | None:
    """The evaluation at the look before."""
    if model.earlier is None:
        return None
    found = cached_evaluation(store, model.earlier)
    if found is None:
        where = str(store.evaluation(model.earlier))
        raise IntegrityError(f"the earlier look at {model.name} is gone from the cache", where=where, remedy="Run again: it is made again.")
    return found


def _reference(plan: Plan, inputs: Inputs, store: Store) -> dict[str, str]:
    """What the scorer compares a model with."""
    states = store.evaluation(plan.baseline_key) / "states"
    return {"model": str(inputs.model.folder.resolve()), "states": str(states.resolve())}


def _rounding(scheme: Scheme) -> dict[str, int]:
    """What the scorer compares a candidate's layers with."""
    return {"bits": scheme.bits, "group_size": scheme.group_size if isinstance(scheme, WeightScheme) else -1}


def _equal(first: Path, second: Path) -> bool:
    """Whether two evaluations have the same likelihoods and answers, to the last bit."""
    import numpy as np

    mine, theirs = Values.load(first), Values.load(second)
    pairs = [(mine.windows, theirs.windows), (mine.long, theirs.long)]
    return mine.items == theirs.items and all(np.array_equal(one.nll, other.nll) for one, other in pairs if one and other)
