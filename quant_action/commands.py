"""What each command prints: results on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_action import pipeline
from quant_action.console import ConsoleListener, make_console
from quant_action.engines import engines, installed
from quant_action.engines.table import HEADINGS, row
from quant_action.formats.wording import format_bytes
from quant_action.pipeline import DECISION_CODES, Finished, Session, Settings
from quant_action.report import describe
from quant_action.workers.environment import HOST, Environment, interpreter, locked_environments


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        spec=options.spec, device=getattr(options, "device", "auto"), cache=options.cache, timeout=getattr(options, "timeout", None)
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
    session = pipeline.prepare(_settings(options))
    interpreter(HOST)
    model = session.inputs.model
    to_fetch = sum(weights.entry.size for weights in model.remote.values())
    needed = model.size * len(session.plan.jobs)
    free = shutil.disk_usage(session.loaded.folder).free
    out = Console(highlight=False)
    out.print(f"[green]✓[/] spec        {escape(str(options.spec))}: {len(session.plan.jobs)} candidates")
    out.print(f"[green]✓[/] model       {escape(session.plan.model.architecture)}, {format_bytes(session.plan.model.size)}")
    if to_fetch:
        out.print(f"[yellow]![/] weights     {format_bytes(to_fetch)} still on the Hub; the first run fetches them")
    out.print("[green]✓[/] data        every row read; nothing that is measured is calibrated on")
    out.print(f"[green]✓[/] device      {escape(session.plan.device)}")
    _print_broken_engines(out)
    for name in sorted({job.environment for job in session.plan.jobs} - {HOST}):
        there = Environment(name).is_complete
        state = "installed" if there else "the first run installs it: minutes, and network"
        out.print(f"{'[green]✓[/]' if there else '[yellow]![/]'} {name:<11} {state}")
    mark = "[green]✓[/]" if free > needed else "[yellow]![/]"
    out.print(f"{mark} disk        {format_bytes(free)} free; all candidates together take less than {format_bytes(needed)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
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
