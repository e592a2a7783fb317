"""Candidate -> Speed: the artifact timed beside the unquantized model by the library that serves it, on a machine that is watched."""

from __future__ import annotations

from datetime import UTC, datetime

from quant_action.errors import IntegrityError
from quant_action.estimate import expect_timing
from quant_action.hardware import cores, device_of, processor, read_machine
from quant_action.inputs import Inputs
from quant_action.records import Candidate, Job, Plan, Speed, SpeedProtocol, TimedCase, digest_of
from quant_action.runtimes import runtime_environment, runtime_library
from quant_action.speed import SOURCES, WORKER
from quant_action.speed.monitor import Monitor, governor
from quant_action.speed.stability import cpu_state, doubtful, gpu_state, machine_doubts
from quant_action.store import Store
from quant_action.workers.process import OnProgress, run_worker


def speed_key(plan: Plan, asked: SpeedProtocol, candidate: Candidate) -> str:
    """The same bytes beside the same baseline, timed the same way by the same versions on a machine of the same kind.

    Two machines of a kind may still differ, by their cooling or their host: the record says when it was measured, and the report says so.
    """
    machine = [plan.device] if device_of(plan.device) == "cuda" else [plan.device, processor(), cores()]
    library = runtime_library(candidate.scheme, SOURCES)
    return digest_of(["speed", candidate.artifact, plan.model.digest, asked.model_dump(), library, machine])


def cached_speed(store: Store, key: str) -> Speed | None:
    try:
        return Speed.load(store.speed(key))
    except (FileNotFoundError, IntegrityError):
        return None


def measure_speed(
    plan: Plan, job: Job, candidate: Candidate, inputs: Inputs, store: Store, on_progress: OnProgress, timeout: float | None = None
) -> Speed:
    """Time it, or take it from the cache; what was disturbed is not taken from there, but timed again.

    Raises `EngineError` where the runtime does not load the artifact or leaves layers unquantized, and the errors of
    `workers.process.run_worker`.
    """
    assert plan.speed is not None
    key = speed_key(plan, plan.speed, candidate)
    file = store.speed(key)
    store.run(plan.key).speed(job.id).unlink(missing_ok=True)
    with store.locked(file):
        speed = cached_speed(store, key)
        if speed is None or not speed.is_stable:
            speed = _time(plan, plan.speed, job, key, candidate, inputs, store, on_progress, timeout)
            speed.save(file)
    store.run(plan.key).link_speed(job.id, file)
    return speed


def _time(
    plan: Plan,
    asked: SpeedProtocol,
    job: Job,
    key: str,
    candidate: Candidate,
    inputs: Inputs,
    store: Store,
    on_progress: OnProgress,
    timeout: float | None,
) -> Speed:
    device, machine = device_of(plan.device), read_machine()
    log = store.run(plan.key).log(job.id, "speed")
    log.unlink(missing_ok=True)
    with Monitor(machine.gpu if device == "cuda" else None) as monitor:
        measured = datetime.now(UTC)
        result = run_worker(
            environment=runtime_environment(candidate.scheme),
            module=WORKER,
            job=f"timing {job.id}",
            request={
                "verb": "time",
                "baseline": str(inputs.model.folder.resolve()),
                "model": str((store.candidate(candidate.key) / "model").resolve()),
                "layers": sorted(inputs.model.linear_layers),
                "device": device,
                "room": machine.room,
                "speed": asked.model_dump(),
            },
            log=log,
            on_progress=on_progress,
            timeout=timeout,
        )
    answer = dict(result.value)
    during = monitor.between(answer.pop("began"), answer.pop("ended"))
    cpu = cpu_state(monitor.before, during, model=processor(), cores=cores(), governor=governor())
    gpu = gpu_state(monitor.before, during, driver=machine.driver or "", limits=monitor.limits)
    return Speed(
        key=key,
        artifact=candidate.artifact,
        cases=tuple(doubtful(TimedCase.model_validate(case)) for case in answer.pop("cases")),
        unstable=machine_doubts(cpu, gpu),
        gpu=gpu,
        cpu=cpu,
        measured=measured.isoformat(timespec="seconds"),
        seconds=result.seconds,
        peak_memory=result.peak_memory,
        estimate=expect_timing(plan, job, inputs),
        device=plan.device,
        **answer,
    )
