"""What a plan will take: the formulas of `costs.py` on what the plan says, corrected by what earlier runs on this machine measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TypeVar

from quant_action.costs import score
from quant_action.engines import engines
from quant_action.errors import IntegrityError
from quant_action.hardware import cores, device_of
from quant_action.inputs import DataFile, Inputs
from quant_action.model_files import ModelFiles
from quant_action.records import (
    BitsandbytesScheme,
    Candidate,
    Estimate,
    Evaluation,
    Job,
    Plan,
    Scheme,
    Speed,
    SubjectKind,
    WeightScheme,
)
from quant_action.speed.cost import timing
from quant_action.store import Store
from quant_action.work import DataSize, QuantizeWork, ScoreWork, Shape, score_work
from quant_action.workers.fingerprint import fingerprint

Measured = TypeVar("Measured", Candidate, Evaluation, Speed)

BOUND = 4.0
"""No correction is larger than this factor: a machine that was busy, or swapped, once shall not decide all later plans."""


def expect_quantizing(plan: Plan, job: Job, inputs: Inputs) -> Estimate:
    """Of making one candidate, uncorrected."""
    engine = engines()[job.engine]
    calibrated = plan.calibration is not None and engine.needs_calibration(job.scheme)
    work = QuantizeWork(
        shape=Shape.of(inputs.model),
        scheme=job.scheme,
        samples=plan.calibration.samples if plan.calibration and calibrated else 0,
        tokens=plan.calibration.samples * plan.calibration.tokens if plan.calibration and calibrated else 0,
        gpu=_gpu(plan),
        cores=cores(),
    )
    return _signed(engine.estimate(work))


def expect_scoring(plan: Plan, subject: SubjectKind, scheme: Scheme | None, inputs: Inputs, *, looks: Sequence[float] = (1.0,)) -> Estimate:
    """Of measuring one model, uncorrected; each of `looks`, shares of the items, is a process of its own."""
    shares = list(pairwise((0.0, *looks)))
    each = [score(_score_work(plan, subject, scheme, inputs, after=after, upto=upto)) for after, upto in shares]
    return _signed(one_after_the_other(each))


def one_after_the_other(estimates: Sequence[Estimate]) -> Estimate:
    """Seconds and disk add up, memory is the most of any."""
    on_gpu = [estimate.gpu_memory for estimate in estimates if estimate.gpu_memory is not None]
    return Estimate(
        seconds=sum(estimate.seconds for estimate in estimates),
        memory=max((estimate.memory for estimate in estimates), default=0),
        gpu_memory=max(on_gpu) if on_gpu else None,
        disk=sum(estimate.disk for estimate in estimates),
    )


def released_scheme(release: ModelFiles) -> Scheme | None:
    """About what its weights cost to hold: of bitsandbytes' they stay packed, all others are unpacked."""
    match release.config.get("quantization_config"):
        case {"load_in_8bit": True}:
            return BitsandbytesScheme(method="bitsandbytes", type="int8")
        case {"load_in_4bit": True}:
            return BitsandbytesScheme(method="bitsandbytes", type="nf4")
        case None:
            return None
        case _:
            return WeightScheme(method="rtn", bits=4, group_size=128, symmetric=True, clip=False, scales=None)


def expect_timing(plan: Plan, job: Job, inputs: Inputs) -> Estimate:
    """Of timing one candidate beside the baseline, uncorrected. The plan must ask for it."""
    assert plan.speed is not None
    found = timing(Shape.of(inputs.model), job.scheme, plan.speed, gpu=_gpu(plan), cores=cores())
    formulas = fingerprint((), ("quant_action.costs", "quant_action.work", "quant_action.speed.cost"))
    return found.model_copy(update={"formulas": formulas})


def text_tokens(plan: Plan, inputs: Inputs) -> int:
    """Of the evaluation text, about: counting them would need the tokenizer."""
    return _score_work(plan, "baseline", None, inputs, after=0.0, upto=1.0).text_tokens


def _score_work(plan: Plan, subject: SubjectKind, scheme: Scheme | None, inputs: Inputs, *, after: float, upto: float) -> ScoreWork:
    return score_work(
        Shape.of(inputs.model),
        scheme,
        plan.protocol,
        compared=subject != "baseline" and after == 0 and bool(plan.protocol.text or plan.protocol.long_text),
        checked=subject == "candidate" and after == 0,
        after=after,
        upto=upto,
        text=_data_size(inputs.text) if inputs.text else None,
        long_documents=inputs.long_text.rows if inputs.long_text else 0,
        tasks={name: _data_size(file) for name, file in inputs.tasks.items()},
        gpu=_gpu(plan),
        cores=cores(),
    )


def _signed(estimate: Estimate) -> Estimate:
    return estimate.model_copy(update={"formulas": fingerprint((), ("quant_action.costs", "quant_action.work"))})


def _gpu(plan: Plan) -> str | None:
    return plan.device if device_of(plan.device) == "cuda" else None


def _data_size(file: DataFile) -> DataSize:
    return DataSize(bytes=file.path.stat().st_size, rows=file.rows)


# Corrected by experience --------------------------------------------------------------------------------------------


def measured_here(store: Store, kind: type[Measured]) -> list[Measured]:
    """The newest records in the cache; what cannot be read is left out."""
    found: list[Measured] = []
    for path in store.records("candidate" if kind is Candidate else "evaluation" if kind is Evaluation else "speed"):
        try:
            found.append(kind.load(path))
        except (OSError, IntegrityError):
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An estimate after its correction."""

    estimate: Estimate
    runs: int
    """Earlier runs that it is corrected by; 0 where nothing like it was measured here."""


def learnt_quantizing(estimate: Estimate, job: Job, device: str, past: Iterable[Candidate]) -> Expected:
    """Corrected by candidates of the same engine and method on the same device."""
    return corrected(
        estimate, [old for old in past if (old.engine, old.scheme.method, old.device) == (job.engine, job.scheme.method, device)]
    )


def learnt_scoring(estimate: Estimate, subject: SubjectKind, device: str, past: Iterable[Evaluation]) -> Expected:
    """Corrected by evaluations on the same device: of baselines for a baseline, of candidates for a candidate."""
    return corrected(estimate, [old for old in past if (old.subject, old.device) == (subject, device)])


def learnt_timing(estimate: Estimate, job: Job, device: str, past: Iterable[Speed]) -> Expected:
    """Corrected by candidates that the same library ran on the same device."""
    ours = job.scheme.method == "bitsandbytes"
    return corrected(estimate, [old for old in past if old.device == device and ("bitsandbytes" in old.versions) == ours])


def corrected(estimate: Estimate, past: Sequence[Candidate | Evaluation | Speed]) -> Expected:
    """Each figure times the median, over earlier runs, of measured to estimated, at most `BOUND` either way.

    Runs without an estimate, or with one of other formulas, are not counted. Disk is not corrected: it follows from the formats.
    """
    known = [(old, old.estimate) for old in past if old.estimate is not None and old.estimate.formulas == estimate.formulas]
    if not known:
        return Expected(estimate=estimate, runs=0)
    on_gpu = [(old.peak_gpu_memory, before.gpu_memory) for old, before in known if old.peak_gpu_memory and before.gpu_memory]
    return Expected(
        estimate=Estimate(
            seconds=estimate.seconds * _ratio([(old.seconds, before.seconds) for old, before in known]),
            memory=int(estimate.memory * _ratio([(old.peak_memory, before.memory) for old, before in known])),
            gpu_memory=None if estimate.gpu_memory is None else int(estimate.gpu_memory * _ratio(on_gpu)),
            disk=estimate.disk,
        ),
        runs=len(known),
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Median of measured / estimated, within the bound; 1 where there is nothing."""
    ratios = [measured / before for measured, before in pairs if before > 0]
    return min(max(median(ratios), 1 / BOUND), BOUND) if ratios else 1.0


# A whole plan -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JobForecast:
    """Of one candidate, or of what is only scored: baseline, floor and release."""

    id: str
    quantize: Expected | None
    score: Expected
    quantized: bool
    """Already in the cache."""
    scored: bool
    time: Expected | None = None
    """Of a candidate, where the spec asks for speed."""
    timed: bool = False

    @property
    def steps(self) -> tuple[tuple[str, Expected, bool], ...]:
        """Each process that works on it: what it does, what that takes, whether it is in the cache."""
        all_steps = (("quantize", self.quantize, self.quantized), ("evaluate", self.score, self.scored), ("time", self.time, self.timed))
        return tuple((verb, expected, done) for verb, expected, done in all_steps if expected)

    @property
    def to_do(self) -> tuple[Estimate, ...]:
        """What is not cached."""
        return tuple(expected.estimate for _, expected, done in self.steps if not done)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    jobs: tuple[JobForecast, ...]
    """In the order of the run: the baseline first."""

    @property
    def total(self) -> Estimate:
        """Of what is to be done."""
        return one_after_the_other([estimate for job in self.jobs for estimate in job.to_do])

    def to_json(self) -> dict[str, object]:
        def of(expected: Expected | None) -> dict[str, object] | None:
            return None if expected is None else {**figures(expected.estimate), "earlier_runs": expected.runs}

        def figures(estimate: Estimate) -> dict[str, object]:
            return estimate.model_dump(mode="json", exclude={"formulas"})

        return {
            "jobs": {
                job.id: {"quantize": of(job.quantize), "evaluate": of(job.score)} | ({"time": of(job.time)} if job.time else {})
                for job in self.jobs
            },
            "total": figures(self.total),
        }
