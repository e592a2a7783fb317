"""What each command prints: results on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_action import pipeline, preflight
from quant_action.console import ConsoleListener, make_console
from quant_action.engines import engines, installed
from quant_action.engines.table import HEADINGS, row
from quant_action.estimate import Forecast
from quant_action.findings import Findings
from quant_action.formats.wording import format_bytes, format_seconds
from quant_action.pipeline import DECISION_CODES, Finished
from quant_action.records import Stage
from quant_action.rehearse import Rehearsal, Step, rehearse
from quant_action.report import describe
from quant_action.session import Session, Settings, install_environment, prepare
from quant_action.workers.environment import Environment, locked_environments


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        spec=options.spec,
        device=getattr(options, "device", "auto"),
        cache=options.cache,
        release=getattr(options, "release", None),
        timeout=getattr(options, "timeout", None),
    )


def _init(options: argparse.Namespace) -> int:
    from quant_action.asking import ask
    from quant_action.init import SPEC, write_project

    answers = ask(options)
    outcomes = write_project(answers)
    for outcome in outcomes:
        print(f"{outcome.state:<9} {_shown(outcome.path)}{'  (example rows, to be replaced)' if outcome.stub else ''}")
    if answers.model.files is None:
        print(f"{answers.model.source} could not be looked at: the Hub is out of reach, so the group size is a guess")
    command = f"quant-action check {shlex.quote(str(_shown(answers.folder / SPEC)))}".removesuffix(f" {SPEC}")
    stubs = [str(_shown(outcome.path)) for outcome in outcomes if outcome.stub]
    print(f"next: {'put your own rows into ' + ', '.join(stubs) + ', then ' if stubs else ''}{command}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from quant_action.formats.terminal import print_report

    with ConsoleListener(make_console()) as listener:
        finished = pipeline.run(_settings(options), listener)
    if options.json:
        print(finished.verdict.to_json(), end="")
    else:
        print_report(finished.report, Console())
        _print_files(finished)
    return finished.exit_code


def _check(options: argparse.Namespace) -> int:
    findings = preflight.check(_settings(options))
    if options.json:
        print(findings.to_json(), end="")
    else:
        _print_findings(findings)
    return findings.exit_code


MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}


def _print_findings(findings: Findings) -> None:
    """One to a line, its remedy below it; at the end how many there are to look at."""
    out = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings.findings:
        lines = [escape(": ".join(filter(None, [finding.where, finding.message])))]
        lines += [f"[dim]{escape(finding.remedy)}[/]"] if finding.remedy else []
        table.add_row(MARKS[finding.level], escape(finding.subject), "\n".join(lines))
    out.print(table)
    count = Counter(finding.level for finding in findings.findings)
    said = [f"{count[level]} {level}{'s' if count[level] > 1 else ''}" for level in ("error", "warning") if count[level]]
    out.print(", ".join(said) or "Nothing stands in the way.")


def _plan(options: argparse.Namespace) -> int:
    if options.rehearse:
        return _rehearse(options)
    session = prepare(_settings(options))
    if options.json:
        cached = {job.id: session.is_cached(job) for job in session.plan.jobs}
        estimates = {"estimates": preflight.forecast(session).to_json()}
        print(json.dumps(json.loads(session.plan.to_json()) | {"cached": cached} | estimates, indent=2))
    else:
        _print_plan(session)
        _print_forecast(preflight.forecast(session))
    return 0


def _print_plan(session: Session) -> None:
    plan, out = session.plan, Console(highlight=False)
    model = f"{plan.model.source}{'@' + plan.model.revision[:12] if plan.model.revision else ''}"
    out.print(f"[bold]{escape(plan.name)}[/]  {escape(model)}, {escape(plan.model.architecture)}, {format_bytes(plan.model.size)}")
    weights = sum(rows * columns for rows, columns in session.inputs.model.linear_layers.values())
    out.print(f"{len(session.inputs.model.linear_layers)} layers of {weights:,} weights to quantize, on {escape(plan.device)}")
    if sample := plan.calibration:
        out.print(f"calibration: {sample.samples} samples of {sample.tokens} tokens, seed {sample.seed}, from {escape(sample.data)}")
    if plan.release:
        release = ", ".join([plan.release.architecture, format_bytes(plan.release.size), plan.release.digest[:12]])
        out.print(f"release: {escape(plan.release.source)}, {escape(release)}", soft_wrap=True)
    if len(plan.looks) > 1:
        shares = ", ".join(f"{share:.0%}" for share in plan.looks)
        out.print(f"looks: after {shares} of the items; a candidate that is settled is asked no more")
    if speed := plan.speed:
        budget = f"{speed.pairs[0]} to {speed.pairs[1]} runs of each model, {speed.seconds:.0f} s for a case beyond the fewest"
        out.print(f"speed: {', '.join(case.id for case in speed.cases)}; {budget}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("candidate", "what", "engine", "why this engine", "key", ""):
        table.add_column(heading, overflow="fold")
    for job in plan.jobs:
        state = "[green]cached[/]" if session.is_cached(job) else "to do"
        table.add_row(escape(job.id), describe(job.scheme), job.engine, escape(job.engine_reason), job.key[:12], state)
    out.print(table)
    out.print(f"plan {plan.key[:12]}; results go to {escape(str(_shown(session.run.path)))}", soft_wrap=True)


def _print_forecast(forecast: Forecast) -> None:
    """A line for each process that a run starts, and their total. What is cached takes nothing and is not in the total."""
    out = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    total = forecast.total
    on_gpu = total.gpu_memory is not None or any(job.score.estimate.gpu_memory is not None for job in forecast.jobs)
    figures = [format_seconds(total.seconds), format_bytes(total.memory), format_bytes(total.gpu_memory or 0), format_bytes(total.disk)]
    headings = ["expected", "", "time", "memory", "GPU memory", "disk", "corrected by"]
    for heading, footer in zip(headings, ["still to do", "", *figures, ""], strict=True):
        if on_gpu or heading != "GPU memory":
            table.add_column(heading, footer, overflow="fold", justify="right" if footer in figures else "left")
    for job in forecast.jobs:
        for verb, expected, done in job.steps:
            one = expected.estimate
            gpu = [format_bytes(one.gpu_memory) if one.gpu_memory is not None else ""] if on_gpu else []
            runs = f"{expected.runs} earlier run{'s' if expected.runs > 1 else ''}" if expected.runs else "not measured here yet"
            cells = [format_seconds(one.seconds), format_bytes(one.memory), *gpu, format_bytes(one.disk)]
            table.add_row(escape(job.id), verb, *cells, "[green]cached[/]" if done else runs)
    out.print()
    out.print(table)


def _rehearse(options: argparse.Namespace) -> int:
    with ConsoleListener(make_console()) as listener:
        rehearsal = rehearse(_settings(options), listener)
    if options.json:
        print(json.dumps({"twin": rehearsal.twin.model_dump(), "steps": [_step(step) for step in rehearsal.steps]}, indent=2))
    else:
        _print_rehearsal(rehearsal)
    return rehearsal.exit_code


def _step(step: Step) -> dict[str, object]:
    error = step.error
    told = {"kind": type(error).__name__, "message": str(error), "remedy": error.remedy, "exit_code": error.exit_code} if error else None
    return {name: getattr(step, name) for name in ("subject", "stage", "seconds", "peak_memory", "peak_gpu_memory")} | {"error": told}


def _print_rehearsal(rehearsal: Rehearsal) -> None:
    out = Console(highlight=False)
    stages = [stage for stage in get_args(Stage) if any(step.stage == stage for step in rehearsal.steps)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("candidate", *stages, "peak memory"):
        table.add_column(heading, overflow="fold")
    for subject in dict.fromkeys(step.subject for step in rehearsal.steps):
        found = {step.stage: step for step in rehearsal.steps if step.subject == subject}
        peak = max((step.peak_gpu_memory or step.peak_memory or 0 for step in found.values()), default=0)
        cells = [_stage_cell(found.get(stage)) for stage in stages]
        table.add_row(escape(subject), *cells, format_bytes(peak) if peak else "–")
    out.print(table)
    for step in rehearsal.steps:
        if step.error:
            out.print(f"[red]✗[/] {escape(step.subject)}, {step.stage}: {escape(str(step.error))}", soft_wrap=True)
            out.print(f"  {escape(step.error.remedy or '')}", soft_wrap=True)
    twin = f"a random two-layer {escape(rehearsal.twin.architecture)} of {format_bytes(rehearsal.twin.size)}"
    out.print(f"Rehearsed with {twin}, of which nothing is kept; what it measured means nothing and is not shown.", soft_wrap=True)


def _stage_cell(step: Step | None) -> str:
    if step is None:
        return "–"
    return "[red]failed[/]" if step.error else f"[green]ok[/] {step.seconds:.1f} s"


def _quantize(options: argparse.Namespace) -> int:
    with ConsoleListener(make_console()) as listener:
        session = pipeline.quantize_only(_settings(options), options.candidate, listener)
    print(_shown(session.run.path / "candidates"))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    with ConsoleListener(make_console()) as listener:
        session = pipeline.evaluate_only(_settings(options), options.candidate, listener)
    print(_shown(session.run.path / "evaluations"))
    return 0


def _judge(options: argparse.Namespace) -> int:
    verdict = pipeline.judge_saved(_settings(options))
    if options.json:
        print(verdict.to_json(), end="")
    else:
        out = Console(highlight=False, soft_wrap=True)
        out.print(f"[bold]{verdict.decision}[/]: {escape(verdict.reason)}")
        for candidate in verdict.candidates:
            out.print(f"  {escape(candidate.id):<20} {candidate.outcome}: {escape(candidate.reason)}")
    return DECISION_CODES[verdict.decision]


def _report(options: argparse.Namespace) -> int:
    _print_files(pipeline.report_saved(_settings(options)))
    return 0


def _environments(options: argparse.Namespace) -> int:
    if options.install:
        environment = Environment(options.install)
        if not environment.is_complete:
            with ConsoleListener(make_console()) as listener:
                install_environment(environment, listener)
    if options.remove:
        for path in Environment(options.remove).remove():
            print(f"removed {path}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("environment", "state", "size", "folder"):
        table.add_column(heading, overflow="fold")
    for name in locked_environments():
        environment = Environment(name)
        size = format_bytes(sum(path.lstat().st_size for path in environment.folder.rglob("*"))) if environment.is_complete else ""
        table.add_row(name, "installed" if environment.is_complete else "not installed", size, str(environment.folder))
    Console(highlight=False, soft_wrap=True).print(table)
    return 0


def _engines(options: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for engine in engines().values():
        table.add_row(*map(escape, row(engine)))
    out = Console(highlight=False, soft_wrap=True)
    out.print(table)
    _print_broken_engines(out)
    return 0


def _print_broken_engines(out: Console) -> None:
    for error in installed().broken.values():
        out.print(f"[yellow]![/] {escape(str(error))}\n  {escape(error.remedy or '')}")


def _print_files(finished: Finished) -> None:
    """By the name that stays the same from run to run."""
    latest = finished.folder.with_name(f"{finished.report.name}.latest")
    print(f"report  {_shown(latest / 'report.html')}\n        {_shown(latest / 'report.md')}")


def _shown(path: Path) -> Path:
    """As short as it can be said from here."""
    path, here = path.absolute(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "run": _run,
    "check": _check,
    "plan": _plan,
    "quantize": _quantize,
    "evaluate": _evaluate,
    "judge": _judge,
    "report": _report,
    "engines": _engines,
    "environments": _environments,
}
