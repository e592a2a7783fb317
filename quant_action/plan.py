"""Spec -> Plan: presets and defaults expanded, an engine chosen for each candidate, keys computed, impossible wishes refused.

Pure: it reads a spec and what `inputs.py` found, and answers before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import gcd

from quant_action.engines import DEFAULT, choose_engine, engines
from quant_action.engines.interface import Engine
from quant_action.errors import EngineError, InputError, QuantActionError, SpecError
from quant_action.hardware import Device, device_of
from quant_action.harness import ENVIRONMENT as HARNESS
from quant_action.harness import harness_version
from quant_action.inputs import Inputs
from quant_action.model_files import ModelFiles
from quant_action.records import (
    BitsandbytesScheme,
    CalibrationRef,
    HarnessTask,
    Job,
    LongTextProtocol,
    ModelRef,
    Plan,
    Protocol,
    RuntimeProtocol,
    Scheme,
    SpeedProtocol,
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

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of one forward pass of the scorer, by device: what keeps it busy, and little beside the weights of a model that is worth quantizing."""

LAST_PART = 10
"""Of long documents the last tenth is scored."""

SCORER_REQUIRES = ("torch", "transformers", "tokenizers", "safetensors", "bitsandbytes", "numpy")
HARNESS_SOURCES = ("quant_action.harness", "quant_action.data")
SCORER_SOURCES = ("quant_action.scorer", "quant_action.checkpoints", "quant_action.metrics", "quant_action.values", "quant_action.portions")


def make_plan(loaded: LoadedSpec, inputs: Inputs, device_class: str, *, candidates: Sequence[str] | None = None) -> Plan:
    """Of all candidates, or of some.

    Raises `SpecError` at the line that asks for what cannot be done, `EngineError` where a candidate asks for a broken engine.
    """
    spec = loaded.spec
    protocol = _protocol(loaded, inputs, device_of(device_class))
    calibration = _calibration(loaded, inputs)
    scorer = _scorer(protocol)
    baseline_key = digest_of(["baseline", inputs.model_digest, protocol.digest, scorer, device_class])
    jobs = tuple(_job(loaded, name, inputs, calibration, device_class) for name in (spec.candidates if candidates is None else candidates))
    runtime = RuntimeProtocol() if spec.evaluation.runtime else None
    speed = _speed(loaded, inputs, device_of(device_class))
    looks = tuple(spec.evaluation.looks)
    compared = [*(asked and asked.model_dump() for asked in (runtime, speed)), inputs.release_digest, looks]
    return Plan(
        key=digest_of([spec.name, baseline_key, [[job.id, job.key] for job in jobs], *compared]),
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
        speed=speed,
        release=_release(inputs),
        looks=looks,
        jobs=jobs,
    )


def candidate_problems(loaded: LoadedSpec, inputs: Inputs, device_class: str) -> dict[str, list[QuantActionError]]:
    """Everything that cannot be done, by candidate, without an end at the first; candidates without a problem are left out."""
    calibration = _calibration(loaded, inputs)
    found = {name: _problems(loaded, name, inputs, calibration, device_class) for name in loaded.spec.candidates}
    return {name: problems for name, problems in found.items() if problems}


def resolve_scheme(candidate: CandidateSpec) -> Scheme:
    """What was asked, with every default filled in.

    GPTQ's defaults are activation order with static groups, and clip search: on SmolLM2-135M the combination that raises perplexity
    least at the same bits, and it costs nothing at run time (benchmarks/README.md has the table). They are those of our own engine;
    where another is asked for by name, its own defaults hold (`Engine.defaults`).
    """
    match candidate:
        case PresetCandidate():
            return resolve_scheme(PRESETS[candidate.preset].model_copy(update={"engine": candidate.engine}))
        case GptqCandidate():
            act_order = _on(candidate, "act_order")
            return WeightScheme(
                method="gptq",
                bits=candidate.bits,
                group_size=candidate.group_size,
                symmetric=candidate.symmetric,
                clip=_on(candidate, "clip"),
                scales=candidate.scales,
                act_order=act_order,
                static_groups=_on(candidate, "static_groups") if act_order else bool(candidate.static_groups),
                damping=candidate.damping or 0.01,
            )
        case AwqCandidate():
            return WeightScheme(
                method="awq",
                bits=candidate.bits,
                group_size=candidate.group_size,
                symmetric=candidate.symmetric,
                clip=_on(candidate, "clip"),
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


def _on(candidate: GptqCandidate | AwqCandidate, option: str) -> bool:
    said = getattr(candidate, option)
    engine = engines().get(candidate.engine or DEFAULT)
    return bool(engine and option in engine.defaults.get(candidate.method, ())) if said is None else bool(said)


def _calibration(loaded: LoadedSpec, inputs: Inputs) -> CalibrationRef | None:
    asked = loaded.spec.calibration
    return CalibrationRef(digest=inputs.calibration.digest, **asked.model_dump()) if asked and inputs.calibration else None


def _release(inputs: Inputs) -> ModelRef | None:
    release = inputs.release
    if release is None or inputs.release_digest is None:
        return None
    return ModelRef(
        source=release.folder.absolute().name.encode(errors="replace").decode(),
        revision=None,
        digest=inputs.release_digest,
        architecture=release.architecture,
        size=release.size,
    )


def _job(loaded: LoadedSpec, name: str, inputs: Inputs, calibration: CalibrationRef | None, device_class: str) -> Job:
    problems = _problems(loaded, name, inputs, calibration, device_class)
    if problems:
        raise problems[0]
    asked = loaded.spec.candidates[name]
    scheme = resolve_scheme(asked)
    engine, reason = choose_engine(scheme, device_of(device_class), asked.engine)
    code = _fingerprint(engine)
    wanted = [scheme.model_dump(), inputs.model_digest, engine.name, code, device_class]
    sample = calibration.model_dump(exclude={"data"}) if engine.needs_calibration(scheme) and calibration else None
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


def _problems(
    loaded: LoadedSpec, name: str, inputs: Inputs, calibration: CalibrationRef | None, device_class: str
) -> list[QuantActionError]:
    """Why a candidate cannot be made: its groups, its engine, the shapes of the layers, what it lacks."""
    asked = loaded.spec.candidates[name]
    scheme = resolve_scheme(asked)
    found: list[QuantActionError] = [*_misfits(scheme, inputs.model, where=loaded.where("candidates", name, "group_size"), candidate=name)]
    where = loaded.where("candidates", name)
    try:
        engine, _ = choose_engine(scheme, device_of(device_class), asked.engine)
    except InputError as error:
        return [*found, SpecError(f"candidate {name}: {error}", where=where, remedy=error.remedy)]
    except EngineError as error:
        return [*found, error]
    refused: dict[str, list[str]] = {}
    for layer, (outputs, columns) in inputs.model.linear_layers.items():
        if reason := engine.refuses_shape(scheme, outputs, columns):
            refused.setdefault(reason, []).append(layer)
    found += [
        SpecError(f"candidate {name}: {named_layers(layers)}: {reason}", where=where, remedy="Use another method for this model.")
        for reason, layers in refused.items()
    ]
    if engine.needs_calibration(scheme) and calibration is None:
        found.append(
            SpecError(
                f"candidate {name} needs calibration data, and the spec has none",
                where=where,
                remedy="Add calibration: {data: ...} with a few hundred texts like those that the model will see.",
            )
        )
    return found


def _scorer(protocol: Protocol) -> str:
    """Digest of all code that measures."""
    ours = fingerprint(SCORER_REQUIRES, SCORER_SOURCES)
    return digest_of([ours, Environment(HARNESS).key, fingerprint((), HARNESS_SOURCES)]) if protocol.harness else ours


def _fingerprint(engine: Engine) -> str:
    """Of the code: in the host the versions that are installed, in another environment those of its lock."""
    if engine.environment == HOST:
        return fingerprint(engine.requires, engine.sources)
    return digest_of([Environment(engine.environment).key, fingerprint((), engine.sources)])


def _misfits(scheme: Scheme, model: ModelFiles, *, where: str, candidate: str) -> list[SpecError]:
    """One for each number of inputs that the groups do not divide, naming every layer that has it."""
    if not isinstance(scheme, WeightScheme) or scheme.group_size <= 0:
        return []
    bad: dict[int, list[str]] = {}
    for layer, (_, inputs) in model.linear_layers.items():
        if inputs % scheme.group_size:
            bad.setdefault(inputs, []).append(layer)
    common = gcd(*(inputs for _, inputs in model.linear_layers.values()))
    fitting = [str(size) for size in range(16, min(common, 1024) + 1) if common % size == 0 and size % 8 == 0]
    return [
        SpecError(
            f"candidate {candidate}: groups of {scheme.group_size} do not divide the {inputs} inputs of {named_layers(layers)}",
            where=where,
            remedy=f"Sizes that divide every layer: {', '.join(fitting) or 'none'}; or channel.",
        )
        for inputs, layers in bad.items()
    ]


def named_layers(layers: Sequence[str]) -> str:
    """Every layer, the same one of several decoder layers together: `model.layers.{0-30}.mlp.down_proj`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for layer in layers:
        before, number, after = re.split(r"\.(\d+)\.", f"{layer}.", maxsplit=1)
        numbers.setdefault((before, after), []).append(int(number))
    return ", ".join(f"{before}.{_ranges(sorted(found))}.{after}".rstrip(".") for (before, after), found in numbers.items())


def _ranges(numbers: list[int]) -> str:
    """`7` of one number, `{0-2,5}` of several."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    spans = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    return spans[0] if len(numbers) == 1 else f"{{{','.join(spans)}}}"


def _protocol(loaded: LoadedSpec, inputs: Inputs, device: str) -> Protocol:
    asked = loaded.spec.evaluation
    text = long_text = None
    if asked.text and inputs.text:
        _refuse_beyond_context(loaded, inputs.model, asked.text.window, "text", "window")
        text = TextProtocol(data=asked.text.data, digest=inputs.text.digest, window=asked.text.window)
    if asked.long_text and inputs.long_text:
        tokens = asked.long_text.tokens
        _refuse_beyond_context(loaded, inputs.model, tokens, "long_text", "tokens")
        long_text = LongTextProtocol(data=asked.long_text.data, digest=inputs.long_text.digest, tokens=tokens, scored=tokens // LAST_PART)
    tasks = tuple(
        TaskProtocol(
            id=name, kind=task.kind, data=task.data, digest=inputs.tasks[name].digest, max_tokens=task.max_tokens, limit=task.limit
        )
        for name, task in asked.tasks.items()
        if isinstance(task, DataTask)
    )
    harness = tuple(
        HarnessTask(
            id=name,
            task=task.lm_eval,
            digest=inputs.harness[name].digest if task.is_file else None,
            metric=task.metric,
            limit=task.limit,
            version=harness_version(),
        )
        for name, task in asked.tasks.items()
        if isinstance(task, LmEvalTask)
    )
    return Protocol(
        tokenizer=inputs.model.tokenizer_digest,
        dtype="float32" if device == "cpu" else "bfloat16",
        batch_tokens=BATCH_TOKENS[device],
        samples=asked.samples,
        text=text,
        long_text=long_text,
        tasks=tasks,
        harness=harness,
    )


def _refuse_beyond_context(loaded: LoadedSpec, model: ModelFiles, tokens: int, *keys: str) -> None:
    """Now, since the scorer would find out only after everything has been quantized."""
    if model.context is not None and tokens > model.context:
        raise SpecError(
            f"evaluation.{'.'.join(keys)} is {tokens:,}, and the model's context is {model.context:,} tokens",
            where=loaded.where("evaluation", *keys),
            remedy=f"Ask for at most {model.context:,}.",
        )


PROMPT = 32
"""Tokens before what is decoded: enough to be a prompt, too few to matter beside what is written."""

PAIRS: dict[Device, tuple[int, int]] = {"cpu": (6, 12), "cuda": (10, 30)}
"""Fewest and most; even, so that each model goes first as often as the other."""

CASE_SECONDS: dict[Device, float] = {"cpu": 30.0, "cuda": 20.0}


def _speed(loaded: LoadedSpec, inputs: Inputs, device: Device) -> SpeedProtocol | None:
    """Raises `SpecError` for lengths that the model does not read."""
    asked, context = loaded.spec.evaluation.latency, inputs.model.context
    if asked is None:
        return None
    longest = max([*asked.prefill, PROMPT + asked.decode if asked.decode else 0])
    if context is not None and longest > context:
        long_prompt = longest in asked.prefill
        said = f"a prompt of {longest:,} tokens" if long_prompt else f"decoding {asked.decode:,} tokens after a prompt of {PROMPT}"
        raise SpecError(
            f"{said} is more than the model's context of {context:,}",
            where=loaded.where("evaluation", "latency", "prefill" if long_prompt else "decode"),
            remedy="Ask for fewer tokens.",
        )
    return SpeedProtocol(
        prefill=tuple(asked.prefill),
        decode=asked.decode,
        batch=tuple(asked.batch),
        prompt=PROMPT,
        pairs=PAIRS[device],
        seconds=CASE_SECONDS[device],
    )
