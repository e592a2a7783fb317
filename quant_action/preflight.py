"""`check` and the estimates of `plan`: looks at everything that a run would need, and starts nothing."""

from __future__ import annotations

from typing import Literal

from quant_action.check import (
    broken_engine_findings,
    disk_findings,
    engine_findings,
    environment_disk_findings,
    environment_findings,
    gpu_findings,
    memory_findings,
    token_finding,
    torch_findings,
    weight_findings,
)
from quant_action.engines import installed
from quant_action.errors import DataError, EnvironmentMissing, QuantActionError, RunError
from quant_action.estimate import (
    Forecast,
    JobForecast,
    expect_quantizing,
    expect_scoring,
    expect_timing,
    learnt_quantizing,
    learnt_scoring,
    learnt_timing,
    measured_here,
    released_scheme,
    text_tokens,
)
from quant_action.evaluate import cached_evaluation, floor_key, last_look, release_key
from quant_action.evidence import evidence_findings, planned_of
from quant_action.findings import Finding, Findings, of_error, ok
from quant_action.formats.wording import format_bytes
from quant_action.hardware import Machine, device_class, free_disk, read_machine
from quant_action.inputs import Inputs, open_inputs, with_release
from quant_action.model_files import ModelFiles
from quant_action.plan import candidate_problems, make_plan
from quant_action.quantize import cached_candidate
from quant_action.records import Candidate, Evaluation, Job, Scheme, Speed
from quant_action.remotes import hub
from quant_action.session import Session, Settings, store_of
from quant_action.spec import LoadedSpec, Model, load_spec
from quant_action.workers.environment import HOST, Environment, cache_folder, interpreter
from quant_action.workers.torch_build import torch_build

NO_GPU = "GPU"
"""Stands for the name of a GPU that was asked for and is not there, so that the rest can be checked all the same."""


def forecast(session: Session) -> Forecast:
    """What each part of a plan will take, corrected by the runs that are in the cache."""
    plan, inputs, store = session.plan, session.inputs, session.store
    candidates, evaluations, speeds = measured_here(store, Candidate), measured_here(store, Evaluation), measured_here(store, Speed)

    def reference(subject: Literal["baseline", "floor", "release"], key: str, scheme: Scheme | None = None) -> JobForecast:
        return JobForecast(
            id=subject,
            quantize=None,
            score=learnt_scoring(expect_scoring(plan, subject, scheme, inputs), subject, plan.device, evaluations),
            quantized=False,
            scored=cached_evaluation(store, key) is not None,
        )

    def candidate(job: Job) -> JobForecast:
        made = cached_candidate(store, job.key)
        score = expect_scoring(plan, "candidate", job.scheme, inputs, looks=plan.looks)
        return JobForecast(
            id=job.id,
            quantize=learnt_quantizing(expect_quantizing(plan, job, inputs), job, plan.device, candidates),
            score=learnt_scoring(score, "candidate", plan.device, evaluations),
            quantized=made is not None,
            scored=made is not None and _is_scored(session, made),
            time=learnt_timing(expect_timing(plan, job, inputs), job, plan.device, speeds) if plan.speed else None,
            timed=session.is_timed(job),
        )

    references = [reference("baseline", plan.baseline_key), reference("floor", floor_key(plan))]
    if inputs.release:
        references.append(reference("release", release_key(plan), released_scheme(inputs.release)))
    return Forecast(jobs=(*references, *map(candidate, plan.jobs)))


def _is_scored(session: Session, candidate: Candidate) -> bool:
    """Up to the last look, or as far as a run that was judged went."""
    evaluation = last_look(session.store, session.plan, candidate)
    return evaluation is not None and (evaluation.look == evaluation.looks or session.run.verdict.exists())


def check(settings: Settings) -> Findings:
    """Everything that would stop, slow or weaken a run; goes on after an error as far as it makes sense."""
    machine = read_machine()
    found: list[Finding] = []
    try:
        device = device_class(settings.device, machine)
    except RunError as error:
        found.append(of_error("GPU", error))
        device = NO_GPU
    found += gpu_findings(machine, device)
    try:
        loaded = load_spec(settings.spec)
    except QuantActionError as error:
        return Findings(findings=(of_error("spec", error), *found, *_host(machine, device)))
    spec = ok("spec", f"{len(loaded.spec.candidates)} candidates", where=str(settings.spec))
    try:
        inputs = open_inputs(loaded)
    except QuantActionError as error:
        broken = of_error("data" if isinstance(error, DataError) else "model", error)
        return Findings(findings=(spec, broken, *found, *_host(machine, device)))
    inputs, released = _released(settings, inputs)
    return Findings(findings=(spec, *_inputs(loaded, inputs), *released, *_planned(settings, loaded, inputs, device, machine, found)))


def _released(settings: Settings, inputs: Inputs) -> tuple[Inputs, list[Finding]]:
    """The inputs with the release, where one was given and can be read, and what is to be said of it."""
    if settings.release is None:
        return inputs, []
    try:
        inputs = with_release(inputs, settings.release)
    except QuantActionError as error:
        return inputs, [of_error("release", error)]
    release = inputs.release
    assert release is not None
    return inputs, [ok("release", f"{release.architecture}, {format_bytes(release.size)}", where=str(settings.release))]


def _inputs(loaded: LoadedSpec, inputs: Inputs) -> list[Finding]:
    model = inputs.model
    return [
        ok("model", f"{model.architecture}, {format_bytes(model.size)}, {len(model.linear_layers)} weights to quantize"),
        ok("data", "every row read; nothing that is measured is calibrated on"),
        *([] if loaded.spec.model.is_local else _hub(loaded.spec.model, model)),
    ]


def _hub(asked: Model, model: ModelFiles) -> list[Finding]:
    cache = hub.cache_folder()
    missing = weight_findings(model, free_disk(cache), source=asked.source, revision=asked.revision, cache=str(cache))
    return [token_finding(hub.token_source()), *missing]


def _planned(settings: Settings, loaded: LoadedSpec, inputs: Inputs, device: str, machine: Machine, gpu: list[Finding]) -> list[Finding]:
    """About the candidates, each that can be made being planned whatever the others lack."""
    problems = candidate_problems(loaded, inputs, device)
    found = [
        finding.model_copy(update={"message": finding.message.removeprefix(f"candidate {name}: ")})
        for name, errors in problems.items()
        for finding in (of_error(f"candidate {name}", error) for error in errors)
    ]
    good = [name for name in loaded.spec.candidates if name not in problems]
    try:
        plan = make_plan(loaded, inputs, device, candidates=good)
    except QuantActionError as error:
        return [*found, of_error("evaluation", error), *gpu, *_host(machine, device)]
    if good:
        found.append(ok("candidates", ", ".join(f"{job.id} ({job.engine})" for job in plan.jobs) + ": every layer fits"))
    store = store_of(loaded, settings)
    session = Session(loaded=loaded, inputs=inputs, plan=plan, store=store, timeout=settings.timeout)
    expected, environments = forecast(session), session.environments
    missing = [name for name in environments if not Environment(name).is_complete]
    return [
        *found,
        *evidence_findings(loaded, plan.jobs, planned_of(plan, inputs), text_tokens=text_tokens(plan, inputs)),
        *gpu,
        *_host(machine, device),
        *torch_findings(machine, device, {name: torch_build(name) for name in environments}),
        *environment_findings(environments, missing),
        *broken_engine_findings(installed().broken.values()),
        *engine_findings(machine, device, plan.jobs),
        *memory_findings(machine, device, expected, mapped=inputs.model.size),
        *disk_findings(expected, free_disk(store.cache), cache=str(store.cache)),
        *environment_disk_findings(missing, device, free_disk(cache_folder()), folder=str(cache_folder())),
    ]


def _host(machine: Machine, device: str) -> list[Finding]:
    try:
        interpreter(HOST)
    except EnvironmentMissing as error:
        return [of_error("torch", error)]
    return torch_findings(machine, device, {HOST: torch_build(HOST)})
