"""Spec -> Plan: presets and defaults expanded, an engine chosen for each candidate, keys computed, impossible wishes refused.

Pure: it reads a spec and what `inputs.py` found, and answers before anything is loaded.
"""

from __future__ import annotations

from math import gcd

from quant_action.engines import choose_engine
from quant_action.engines.interface import Engine
from quant_action.errors import InputError, SpecError
from quant_action.hardware import device_of
from quant_action.inputs import Inputs
from quant_action.model_files import ModelFiles
from quant_action.records import (
    BitsandbytesScheme,
    CalibrationRef,
    Job,
    ModelRef,
    Plan,
    Protocol,
    RuntimeProtocol,
    Scheme,
    TaskProtocol,
    TextProtocol,
    WeightScheme,
    digest_of,
)
from quant_action.spec import (
    AwqCandidate,
    BitsandbytesCandidate,
    CandidateSpec,
    DataTask,
    GptqCandidate,
    LmEvalTask,
    LoadedSpec,
    PresetCandidate,
    RtnCandidate,
)
from quant_action.workers.environment import HOST, Environment
from quant_action.workers.fingerprint import fingerprint

PRESETS: dict[str, CandidateSpec] = {
    "gptq-w4": GptqCandidate(method="gptq", bits=4),
    "awq-w4": AwqCandidate(method="awq", bits=4),
    "best-w4": GptqCandidate(method="gptq", bits=4, symmetric=False, act_order=True, static_groups=True, clip=True, scales="awq"),
    "gptq-w8": GptqCandidate(method="gptq", bits=8),
    "nf4": BitsandbytesCandidate(method="bitsandbytes", type="nf4"),
    "int8": BitsandbytesCandidate(method="bitsandbytes", type="int8"),
}

SCORER_REQUIRES = ("torch", "transformers", "tokenizers", "safetensors", "bitsandbytes", "numpy")
SCORER_SOURCES = ("quant_action.scorer", "quant_action.checkpoints", "quant_action.metrics", "quant_action.values")


def make_plan(loaded: LoadedSpec, inputs: Inputs, device_class: str) -> Plan:
    """Raises `SpecError` at the line that asks for what cannot be done."""
    spec = loaded.spec
    _refuse_what_is_not_measured(loaded)
    protocol = _protocol(loaded, inputs)
    calibration = None
    if spec.calibration and inputs.calibration:
        calibration = CalibrationRef(digest=inputs.calibration.digest, **spec.calibration.model_dump())
    scorer = fingerprint(SCORER_REQUIRES, SCORER_SOURCES)
    baseline_key = digest_of(["baseline", inputs.model_digest, protocol.digest, scorer, device_class])
    jobs = tuple(_job(loaded, name, inputs, calibration, device_class) for name in spec.candidates)
    runtime = RuntimeProtocol() if spec.evaluation.runtime else None
    decides = [spec.name, baseline_key, [[job.id, job.key] for job in jobs], *([runtime.model_dump()] if runtime else [])]
    return Plan(
        key=digest_of(decides),
        name=spec.name,
        spec=loaded.source.path.name,
        spec_digest=loaded.source.digest,
        device=device_class,
        model=ModelRef(
            source=spec.model.source,
            revision=spec.model.revision,
            digest=inputs.model_digest,
            architecture=inputs.model.architecture,
            size=inputs.model.size,
        ),
        calibration=calibration,
        protocol=protocol,
        scorer=scorer,
        baseline_key=baseline_key,
        runtime=runtime,
        jobs=jobs,
    )


def resolve_scheme(candidate: CandidateSpec) -> Scheme:
    """What was asked, with every default filled in.

    GPTQ's defaults are activation order with static groups, and clip search: on SmolLM2-135M the combination that raises perplexity
    least at the same bits, and it costs nothing at run time (benchmarks/README.md has the table). They are those of our own engine;
    where another is asked for by name, what only ours has is off unless the candidate says otherwise.
    """
    ours = candidate.engine in (None, "native")
    match candidate:
        case PresetCandidate():
            return resolve_scheme(PRESETS[candidate.preset])
        case GptqCandidate():
            act_order = ours if candidate.act_order is None else candidate.act_order
            return WeightScheme(
                method="gptq",
                bits=candidate.bits,
                group_size=candidate.group_size,
                symmetric=candidate.symmetric,
                clip=ours if candidate.clip is None else candidate.clip,
                scales=candidate.scales,
                act_order=act_order,
                static_groups=act_order and ours if candidate.static_groups is None else candidate.static_groups,
                damping=candidate.damping or 0.01,
            )
        case AwqCandidate():
            return WeightScheme(
                method="awq",
                bits=candidate.bits,
                group_size=candidate.group_size,
                symmetric=candidate.symmetric,
                clip=ours if candidate.clip is None else candidate.clip,
                scales="awq",
            )
        case RtnCandidate():
            return WeightScheme(
                method="rtn",
                bits=candidate.bits,
                group_size=candidate.group_size,
                symmetric=candidate.symmetric,
                clip=bool(candidate.clip),
                scales=None,
            )
        case BitsandbytesCandidate():
            return BitsandbytesScheme(method="bitsandbytes", type=candidate.type, double_quant=candidate.double_quant)


def _job(loaded: LoadedSpec, name: str, inputs: Inputs, calibration: CalibrationRef | None, device_class: str) -> Job:
    asked = loaded.spec.candidates[name]
    scheme = resolve_scheme(asked)
    if isinstance(scheme, WeightScheme):
        _check_group_size(scheme, inputs.model, where=loaded.where("candidates", name, "group_size"), candidate=name)
    try:
        engine, reason = choose_engine(scheme, device_of(device_class), asked.engine)
    except InputError as error:
        raise SpecError(f"candidate {name}: {error}", where=loaded.where("candidates", name), remedy=error.remedy) from error
    calibrated = engine.needs_calibration(scheme)
    if calibrated and calibration is None:
        raise SpecError(
            f"candidate {name} needs calibration data, and the spec has none",
            where=loaded.where("candidates", name),
            remedy="Add calibration: {data: ...} with a few hundred texts like those that the model will see.",
        )
    code = _fingerprint(engine)
    wanted = [scheme.model_dump(), inputs.model_digest, engine.name, code, device_class]
    sample = calibration.model_dump(exclude={"data"}) if calibrated and calibration else None
    return Job(
        id=name,
        key=digest_of([*wanted, sample]),
        scheme=scheme,
        engine=engine.name,
        engine_reason=reason,
        environment=engine.environment,
        fingerprint=code,
        required=asked.required,
    )


def _fingerprint(engine: Engine) -> str:
    """Of the code: in the host the versions that are installed, in another environment those of its lock."""
    if engine.environment == HOST:
        return fingerprint(engine.requires, engine.sources)
    return digest_of([Environment(engine.environment).key, fingerprint((), engine.sources)])


def _check_group_size(scheme: WeightScheme, model: ModelFiles, *, where: str, candidate: str) -> None:
    size = scheme.group_size
    bad = [(layer, inputs) for layer, (_, inputs) in model.linear_layers.items() if size > 0 and inputs % size]
    if bad:
        layer, inputs = bad[0]
        more = f" (and {len(bad) - 1} more layers)" if len(bad) > 1 else ""
        common = gcd(*(inputs for _, inputs in model.linear_layers.values()))
        fitting = [str(size) for size in range(16, min(common, 1024) + 1) if common % size == 0 and size % 8 == 0]
        raise SpecError(
            f"candidate {candidate}: groups of {size} do not divide the {inputs} inputs of {layer}{more}",
            where=where,
            remedy=f"Sizes that divide every layer: {', '.join(fitting) or 'none'}; or channel.",
        )


def _protocol(loaded: LoadedSpec, inputs: Inputs) -> Protocol:
    asked = loaded.spec.evaluation
    text = None
    if asked.text and inputs.text:
        text = TextProtocol(data=asked.text.data, digest=inputs.text.digest, window=asked.text.window)
    tasks = tuple(
        TaskProtocol(
            id=name, kind=task.kind, data=task.data, digest=inputs.tasks[name].digest, max_tokens=task.max_tokens, limit=task.limit
        )
        for name, task in asked.tasks.items()
        if isinstance(task, DataTask)
    )
    return Protocol(text=text, tasks=tasks)


def _refuse_what_is_not_measured(loaded: LoadedSpec) -> None:
    asked = loaded.spec.evaluation
    harness = [name for name, task in asked.tasks.items() if isinstance(task, LmEvalTask)]
    if harness:
        raise SpecError(
            f"this version of quant_action does not run tasks of lm-evaluation-harness ({', '.join(harness)})",
            where=loaded.where("evaluation", "tasks", harness[0]),
            remedy="Take them out, or give their items as a data file of kind choice or generate.",
        )
    if asked.latency:
        raise SpecError(
            "this version of quant_action does not measure speed", where=loaded.where("evaluation", "latency"), remedy="Take latency out."
        )
