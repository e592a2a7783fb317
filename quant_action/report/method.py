"""How it was measured: everything that somebody needs to measure it again, as lines for a fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from quant_action.formats.interface import Change, Fact, Row
from quant_action.metrics.interface import Subject
from quant_action.records import Candidate, Evaluation, ModelRef, Plan, SpeedProtocol, Verdict


def method_facts(
    plan: Plan, verdict: Verdict, baseline: Subject, candidates: Mapping[str, Candidate], rows: Sequence[Row]
) -> tuple[Fact, ...]:
    return (
        Fact(label="Model", text=_model(plan.model)),
        Fact(label="Release", text=_model(plan.release) if plan.release else "none yet: gates against a release do not apply"),
        Fact(label="Device", text=plan.device),
        Fact(label="Protocol", text=f"{plan.protocol.id}, digest {plan.protocol.digest}, scorer {plan.scorer}"),
        *_data(plan, baseline),
        Fact(label="Runtime check", text=_runtime(plan)),
        *([Fact(label="Speed", text=_speed(plan.speed))] if plan.speed else []),
        Fact(label="Looks", text=_looks(verdict.looks)),
        *_intervals(rows),
        *(
            Fact(label=f"Candidate {job.id}", text=f"engine {job.engine} ({job.engine_reason}), artifact {candidates[job.id].artifact}")
            for job in plan.jobs
            if job.id in candidates
        ),
        Fact(label="Spec", text=f"{plan.spec}, sha256 {plan.spec_digest}"),
        Fact(label="Plan", text=plan.key),
    )


def used_versions(made: Iterable[Candidate], measured: Iterable[Evaluation]) -> tuple[str, ...]:
    """Each `name version` once; engines in environments of their own may differ in the versions of one package."""
    found = [record.versions for record in made] + [record.versions for record in measured]
    return tuple(sorted({f"{name} {version}" for versions in found for name, version in versions.items()}))


def _model(model: ModelRef) -> str:
    revision = f" at revision {model.revision}" if model.revision else ""
    return f"{model.source}{revision}, {model.architecture}, digest {model.digest}"


def _data(plan: Plan, baseline: Subject) -> list[Fact]:
    facts = []
    if text := plan.protocol.text:
        windows = baseline.values.windows
        scored = f", {windows.nll.shape[0]:,} windows, {windows.nll.size:,} scored tokens" if windows else ""
        facts.append(Fact(label="Text", text=f"{text.data}, windows of {text.window:,} tokens{scored}, sha256 {text.digest}"))
    facts += [
        Fact(
            label=f"Task {task.id}",
            text=f"{task.kind}, {task.data}, {len(baseline.values.correct(task.id)):,} items, sha256 {task.digest}",
        )
        for task in plan.protocol.tasks
    ]
    facts += [
        Fact(
            label=f"Task {task.id}",
            text=f"{task.task} by lm-evaluation-harness {task.version}, {len(baseline.values.correct(task.id)):,} items"
            + (f", digest {task.digest}" if task.digest else ""),
        )
        for task in plan.protocol.harness
    ]
    if used := plan.calibration:
        sampled = f"{used.samples:,} samples of {used.tokens:,} tokens, seed {used.seed}"
        facts.append(Fact(label="Calibration", text=f"{used.data}, {sampled}, sha256 {used.digest}"))
    return facts


def _runtime(plan: Plan) -> str:
    if asked := plan.runtime:
        return f"on the first {asked.tokens} tokens of {asked.windows} windows of the text, by the library that serves the artifact"
    return "not asked for (evaluation.runtime)"


def _speed(asked: SpeedProtocol) -> str:
    fewest, most = asked.pairs
    return (
        f"{', '.join(case.id for case in asked.cases)}; {fewest} to {most} runs of each model in turns after a warm-up, "
        f"until a case has taken {asked.seconds:.0f} s; random prompts, seed {asked.seed}; prefill ends with the first new token, "
        f"decode begins there, after a prompt of {asked.prompt} tokens"
    )


def _looks(looks: Sequence[float]) -> str:
    if len(looks) == 1:
        return "one, after all items"
    shares = ", ".join(f"{100 * share:g}%" for share in looks)
    return f"planned before measuring, after {shares} of the items; every bound is widened so that all looks together err in 5%"


def _intervals(rows: Sequence[Row]) -> list[Fact]:
    words = sorted({words for row in rows for words in _interval_words(row)})
    return [Fact(label="Intervals", text="; ".join(words))] if words else []


def _interval_words(row: Row) -> list[str]:
    changes: list[Change] = [*row.changes.values(), *row.release_changes.values()]
    intervals = [change.interval for change in changes] + [check.interval for check in row.checks]
    return [f"{100 * interval.level:.3g}% {interval.method}" for interval in intervals if interval]
