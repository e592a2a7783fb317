"""One row of the report per model: what it is, what was measured, and how that compares with baseline and release."""

from __future__ import annotations

from quant_action.formats.interface import Change, Row
from quant_action.metrics import METRICS, metric
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import LEVEL
from quant_action.metrics.memory import peak_memory
from quant_action.records import BitsandbytesScheme, Candidate, CandidateVerdict, Check, Failure, ModelRef, RuntimeCheck, Scheme


def describe(scheme: Scheme) -> str:
    """For people: `GPTQ 4-bit, groups of 64, symmetric`."""
    if isinstance(scheme, BitsandbytesScheme):
        return f"bitsandbytes {scheme.type.upper()}" + (", scales quantized too" if scheme.double_quant else "")
    parts = [
        f"{'round to nearest' if scheme.method == 'rtn' else scheme.method.upper()} {scheme.bits}-bit",
        "one scale per channel" if scheme.group_size == -1 else f"groups of {scheme.group_size}",
        "symmetric" if scheme.symmetric else "asymmetric",
    ]
    if scheme.act_order:
        parts.append("activation order" + (" with static groups" if scheme.static_groups else ""))
    if scheme.scales == "awq" and scheme.method != "awq":
        parts.append("AWQ scales")
    if scheme.clip:
        parts.append("clipped")
    return ", ".join(parts)


def baseline_row(baseline: Subject, model: ModelRef) -> Row:
    return _reference_row("baseline", "unquantized", baseline, None, artifact=model.digest)


def floor_row(floor: Subject, baseline: Subject, items_level: float, checks: tuple[Check, ...]) -> Row:
    """The baseline once more: what it differs by is noise of the measurement."""
    row = _reference_row("floor", "the baseline again, in other batches", floor, baseline, items_level=items_level)
    return row.model_copy(update={"checks": checks})


def release_row(release: Subject, baseline: Subject, items_level: float, model: ModelRef | None) -> Row:
    scheme = model.source if model else "the last release"
    return _reference_row("release", scheme, release, baseline, items_level=items_level)


def _reference_row(
    id: str, scheme: str, subject: Subject, baseline: Subject | None, *, items_level: float = LEVEL, artifact: str | None = None
) -> Row:
    whole = baseline.evaluation.size if baseline else 0
    return Row(
        id=id,
        outcome=None,
        required=False,
        scheme=scheme,
        engine=None,
        size=subject.evaluation.size,
        size_ratio=subject.evaluation.size / whole if whole else None,
        metrics=subject.evaluation.metrics,
        changes=_changes(subject, baseline, items_level) if baseline else {},
        release_changes={},
        window_kl=_window_kl(subject) if baseline else (),
        quantize_seconds=None,
        quantize_memory=None,
        evaluate_memory=peak_memory(subject.evaluation),
        checks=(),
        runtime=None,
        speed=None,
        untimed=None,
        failure=None,
        artifact=artifact or subject.evaluation.artifact,
    )


def candidate_row(
    judged: CandidateVerdict,
    scheme: Scheme,
    *,
    baseline: Subject,
    release: Subject | None,
    made: Candidate | None,
    measured: Subject | None,
    runtime: RuntimeCheck | None,
    untimed: Failure | None,
    failure: Failure | None,
    items_level: float,
) -> Row:
    size = measured.evaluation.size if measured else made.weights if made else None
    return Row(
        id=judged.id,
        outcome=judged.outcome,
        required=judged.required,
        scheme=describe(scheme),
        engine=made.engine if made else None,
        size=size,
        size_ratio=size / baseline.evaluation.size if size is not None and baseline.evaluation.size else None,
        metrics=measured.evaluation.metrics if measured else {},
        changes=_changes(measured, baseline, items_level) if measured else {},
        release_changes=_changes(measured, release, items_level) if measured and release else {},
        window_kl=_window_kl(measured) if measured else (),
        quantize_seconds=made.seconds if made else None,
        quantize_memory=(made.peak_memory if made.peak_gpu_memory is None else made.peak_gpu_memory) if made else None,
        evaluate_memory=peak_memory(measured.evaluation) if measured else None,
        checks=judged.checks,
        runtime=runtime,
        speed=measured.speed if measured else None,
        untimed=untimed,
        failure=failure,
        artifact=made.artifact if made else None,
    )


def _window_kl(subject: Subject) -> tuple[float, ...]:
    windows = subject.values.windows
    return tuple(windows.kl.mean(axis=1).tolist()) if windows else ()


def _changes(subject: Subject, reference: Subject, items_level: float) -> dict[str, Change]:
    """Everything that can be compared: what the table of metrics knows, and each task and slice by itself.

    What rests on items has the interval that gates use, which is wider where they may look more than once.
    """

    def difference(id: str) -> Difference | None:
        found = metric(id).compare(subject, reference)
        return metric(id).compare(subject, reference, items_level) if found and found.samples == "items" else found

    ids = dict.fromkeys([known.id for known in METRICS] + sorted(subject.evaluation.metrics))
    differences = {id: difference(id) for id in ids}
    return {
        id: Change(
            name=metric(id).name,
            value=found.value,
            interval=found.interval,
            n=found.n,
            unit=found.unit,
            samples=found.samples,
            unstable=bool(found.unstable),
        )
        for id, found in differences.items()
        if found
    }
