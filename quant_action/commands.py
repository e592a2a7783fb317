"""What each command prints: results on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_action import pipeline
from quant_action.console import ConsoleListener, make_console
from quant_action.formats.wording import format_bytes
from quant_action.pipeline import DECISION_CODES, Finished, Session, Settings
from quant_action.records import Stage
from quant_action.rehearse import Rehearsal, Step, rehearse
from quant_action.report import describe
from quant_action.workers.environment import HOST, Environment, interpreter, locked_environments


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(spec=options.spec, device=getattr(options, "device", "auto"), cache=options.cache)


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
    session = pipeline.prepare(_settings(options))
    interpreter(HOST)
    needed = sum(session.inputs.model.size for _ in session.plan.jobs)
    free = shutil.disk_usage(session.loaded.folder).free
    out = Console(highlight=False)
    out.print(f"[green]✓[/] spec        {escape(str(options.spec))}: {len(session.plan.jobs)} candidates")
    out.print(f"[green]✓[/] model       {escape(session.plan.model.architecture)}, {format_bytes(session.plan.model.size)}")
    out.print("[green]✓[/] data        every row read; nothing that is measured is calibrated on")
    out.print(f"[green]✓[/] device      {escape(session.plan.device)}")
    for name in session.environments:
        there = Environment(name).is_complete
        state = "installed" if there else "the first run installs it: minutes, and network"
        out.print(f"{'[green]✓[/]' if there else '[yellow]![/]'} {name:<11} {state}")
    mark = "[green]✓[/]" if free > needed else "[yellow]![/]"
    out.print(f"{mark} disk        {format_bytes(free)} free; all candidates together take less than {format_bytes(needed)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    if options.rehearse:
        return _rehearse(options)
    session = pipeline.prepare(_settings(options))
    if options.json:
        cached = {job.id: session.is_cached(job) for job in session.plan.jobs}
        print(json.dumps(json.loads(session.plan.to_json()) | {"cached": cached}, indent=2))
    else:
        _print_plan(session)
    return 0


def _print_plan(session: Session) -> None:
    plan, out = session.plan, Console(highlight=False)
    model = f"{plan.model.source}{'@' + plan.model.revision[:12] if plan.model.revision else ''}"
    out.print(f"[bold]{escape(plan.name)}[/]  {escape(model)}, {escape(plan.model.architecture)}, {format_bytes(plan.model.size)}")
    weights = sum(rows * columns for rows, columns in session.inputs.model.linear_layers.values())
    out.print(f"{len(session.inputs.model.linear_layers)} layers of {weights:,} weights to quantize, on {escape(plan.device)}")
    if sample := plan.calibration:
        out.print(f"calibration: {sample.samples} samples of {sample.tokens} tokens, seed {sample.seed}, from {escape(sample.data)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("candidate", "what", "engine", "why this engine", "key", ""):
        table.add_column(heading, overflow="fold")
    for job in plan.jobs:
        state = "[green]cached[/]" if session.is_cached(job) else "to do"
        table.add_row(escape(job.id), describe(job.scheme), job.engine, escape(job.engine_reason), job.key[:12], state)
    out.print(table)
    out.print(f"plan {plan.key[:12]}; results go to {escape(str(_shown(session.run.path)))}", soft_wrap=True)


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
                pipeline.install_environment(environment, listener)
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


def _print_files(finished: Finished) -> None:
    """By the name that stays the same from run to run."""
    latest = finished.folder.with_name(f"{finished.report.name}.latest")
    print(f"report  {_shown(latest / 'report.html')}\n        {_shown(latest / 'report.md')}")


def _shown(path: Path) -> Path:
    """As short as it can be said from here."""
    path, here = path.absolute(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "check": _check,
    "plan": _plan,
    "quantize": _quantize,
    "evaluate": _evaluate,
    "judge": _judge,
    "report": _report,
    "environments": _environments,
}
