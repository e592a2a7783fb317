"""A spec that was read, with what it points to and the plan, ready to be worked on: what commands and the pipeline begin with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from quant_action.check import torch_findings
from quant_action.check_runtime import cached_check, runtime_key
from quant_action.errors import EnvironmentMissing, QuantActionError
from quant_action.evaluate import (
    cached_evaluation,
    evaluation_key,
    last_look,
)
from quant_action.hardware import device_class, read_machine
from quant_action.harness import ENVIRONMENT as HARNESS
from quant_action.inputs import Inputs, fetch_weights, open_inputs
from quant_action.measure_speed import cached_speed, speed_key
from quant_action.plan import make_plan
from quant_action.quantize import cached_candidate
from quant_action.records import Job, Plan
from quant_action.runtimes import runtime_environment
from quant_action.spec import LoadedSpec, load_spec
from quant_action.store import RunFolder, Store
from quant_action.workers.environment import HOST, Environment, interpreter
from quant_action.workers.torch_build import torch_build


class Listener(Protocol):
    """Whoever shows a person what is going on."""

    def step(self, subject: str, stage: str) -> Callable[[str, int, int], None]: ...

    def done(self, subject: str, stage: str, note: str) -> None: ...

    def failed(self, subject: str, stage: str, error: QuantActionError) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says beside the spec."""

    spec: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cache: Path | None = None
    release: Path | None = None
    """Folder of what was released last."""
    timeout: float | None = None
    """Seconds that one job (a candidate quantized, a model evaluated) may take; the installing of environments is not counted."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A spec that was read, what it points to, and the plan."""

    loaded: LoadedSpec
    inputs: Inputs
    plan: Plan
    store: Store
    timeout: float | None

    @property
    def run(self) -> RunFolder:
        return self.store.run(self.plan.key)

    @property
    def environments(self) -> list[str]:
        """Beside the host, all that its work may need, cached or not."""
        runtimes = {runtime_environment(job.scheme) for job in self.plan.jobs if self.plan.runtime or self.plan.speed}
        harness = {HARNESS} if self.plan.protocol.harness else set()
        return sorted(({job.environment for job in self.plan.jobs} | runtimes | harness) - {HOST})

    def is_cached(self, job: Job) -> bool:
        return cached_candidate(self.store, job.key) is not None

    def is_measured(self, job: Job | None) -> bool:
        """Of a candidate on all items, or (None) of the baseline."""
        candidate = cached_candidate(self.store, job.key) if job else None
        last = len(self.plan.looks)
        key = self.plan.baseline_key if job is None else evaluation_key(self.plan, candidate, last) if candidate else None
        return key is not None and cached_evaluation(self.store, key) is not None

    def is_checked(self, job: Job) -> bool:
        """Whether its runtime was compared with what was scored."""
        candidate = cached_candidate(self.store, job.key)
        evaluation = last_look(self.store, self.plan, candidate) if candidate else None
        if not (self.plan.runtime and candidate and evaluation):
            return False
        return cached_check(self.store, runtime_key(self.plan.runtime, candidate, evaluation)) is not None

    def is_timed(self, job: Job) -> bool:
        """Whether there are times of it that can be relied on."""
        candidate = cached_candidate(self.store, job.key)
        if not (self.plan.speed and candidate):
            return False
        speed = cached_speed(self.store, speed_key(self.plan, self.plan.speed, candidate))
        return speed is not None and speed.is_stable


def prepare(settings: Settings) -> Session:
    """Read, check and plan. When this returns, nothing heavy was loaded, and only the Hub's cache may have got a model's small files."""
    loaded = load_spec(settings.spec)
    inputs = open_inputs(loaded, settings.release)
    plan = make_plan(loaded, inputs, device_class(settings.device, read_machine()))
    return Session(loaded=loaded, inputs=inputs, plan=plan, store=store_of(loaded, settings), timeout=settings.timeout)


def store_of(loaded: LoadedSpec, settings: Settings) -> Store:
    return Store(loaded.folder / ".quant", settings.cache)


def start(settings: Settings) -> Session:
    """A session that may do the work: all weights are here, and its plan is written down."""
    session = prepare(settings)
    interpreter(HOST)
    _refuse_unfit_torch(session.plan.device)
    session = replace(session, inputs=fetch_weights(session.loaded, session.inputs))
    session.plan.save(session.run.plan)
    return session


def _refuse_unfit_torch(device: str) -> None:
    """Raises `EnvironmentMissing`, in the words of `check`, for what the first worker would only find after its imports."""
    for finding in torch_findings(read_machine(), device, {HOST: torch_build(HOST)}):
        if finding.level == "error":
            raise EnvironmentMissing(finding.message, remedy=finding.remedy)


def install_environments(session: Session, jobs: Sequence[Job], listener: Listener) -> None:
    """Make the environments that jobs need, where their results are not cached, and that are not there yet."""
    engines = {job.environment for job in jobs if not session.is_cached(job)}
    runtimes = {runtime_environment(job.scheme) for job in jobs if session.plan.runtime and not session.is_checked(job)}
    runtimes |= {runtime_environment(job.scheme) for job in jobs if session.plan.speed and not session.is_timed(job)}
    measured = session.is_measured(None) and all(session.is_measured(job) for job in jobs)
    harness = {HARNESS} if session.plan.protocol.harness and not measured else set()
    for name in sorted((engines | runtimes | harness) - {HOST}):
        environment = Environment(name)
        if not environment.is_complete:
            install_environment(environment, listener)


def install_environment(environment: Environment, listener: Listener) -> None:
    """Minutes, once for each version of its lock."""
    advance = listener.step(environment.name, "install")
    started = time.monotonic()
    environment.install(lambda step: advance(step, 0, 1))
    listener.done(environment.name, "install", f"{time.monotonic() - started:.1f} s")
