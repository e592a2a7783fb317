"""Candidate and Evaluation -> RuntimeCheck: the artifact, loaded as its users will load it, computes what was scored."""

from __future__ import annotations

from pathlib import Path

from quant_action.errors import IntegrityError
from quant_action.hardware import device_of
from quant_action.inputs import Inputs
from quant_action.records import Candidate, Evaluation, Plan, RuntimeCheck, RuntimeProtocol, digest_of
from quant_action.runtimes import SOURCES, WORKER, runtime_environment, runtime_library
from quant_action.store import Store
from quant_action.workers.process import OnProgress, run_worker


def runtime_key(asked: RuntimeProtocol, candidate: Candidate, evaluation: Evaluation) -> str:
    """The same bytes, scored the same way, compared by the same code and the same library's version."""
    library = runtime_library(candidate.scheme, SOURCES)
    return digest_of(["runtime", candidate.artifact, evaluation.key, asked.model_dump(), library])


def cached_check(store: Store, key: str) -> RuntimeCheck | None:
    try:
        return RuntimeCheck.load(store.runtime(key))
    except (FileNotFoundError, IntegrityError):
        return None


def check_runtime(
    plan: Plan,
    name: str,
    candidate: Candidate,
    evaluation: Evaluation,
    inputs: Inputs,
    store: Store,
    on_progress: OnProgress,
    timeout: float | None = None,
) -> RuntimeCheck:
    """Compare, or take it from the cache; only a check that passed is kept.

    Raises `EngineError` where the runtime does not load the artifact, leaves layers unquantized, falls back to a slow kernel on a GPU or
    computes something else, and the errors of `workers.process.run_worker`.
    """
    assert plan.runtime is not None
    key = runtime_key(plan.runtime, candidate, evaluation)
    file = store.runtime(key)
    store.run(plan.key).runtime(name).unlink(missing_ok=True)
    with store.locked(file):
        check = cached_check(store, key)
        if check is None:
            check = _compare(plan, plan.runtime, name, key, candidate, evaluation, inputs, store, on_progress, timeout)
            check.save(file)
    store.run(plan.key).link_runtime(name, file)
    return check


def _compare(
    plan: Plan,
    asked: RuntimeProtocol,
    name: str,
    key: str,
    candidate: Candidate,
    evaluation: Evaluation,
    inputs: Inputs,
    store: Store,
    on_progress: OnProgress,
    timeout: float | None,
) -> RuntimeCheck:
    def path(value: Path) -> str:
        return str(value.resolve())

    log = store.run(plan.key).log(name, "runtime")
    log.unlink(missing_ok=True)
    result = run_worker(
        environment=runtime_environment(candidate.scheme),
        module=WORKER,
        job=f"loading {name} with its runtime",
        request={
            "verb": "check",
            "model": path(store.candidate(candidate.key) / "model"),
            "layers": sorted(inputs.model.linear_layers),
            "device": device_of(plan.device),
            "states": path(store.evaluation(plan.baseline_key) / "states"),
            "values": path(store.evaluation(evaluation.key)),
            **asked.model_dump(),
        },
        log=log,
        on_progress=on_progress,
        timeout=timeout,
    )
    return RuntimeCheck(
        key=key,
        artifact=candidate.artifact,
        seconds=result.seconds,
        peak_memory=result.peak_memory,
        device=plan.device,
        **result.value,
    )
