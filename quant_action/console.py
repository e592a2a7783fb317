"""What a person sees while the work is going on: bars on a terminal, plain lines in CI."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from quant_action.errors import QuantActionError

PLAIN_INTERVAL = 10.0
"""Seconds between two lines about the same step where there are no bars."""


def make_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


class ConsoleListener:
    """Implements `session.Listener`; a context manager, since bars own the terminal while they are shown."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.fields[subject]:<20} {task.fields[stage]:<9}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def step(self, subject: str, stage: str) -> Callable[[str, int, int], None]:
        self._bar = bar = self._progress.add_task("starting", total=1, subject=subject, stage=stage)
        last = time.monotonic()

        def advance(step: str, done: int, total: int) -> None:
            nonlocal last
            self._progress.update(bar, description=step, completed=done, total=total)
            if not self._console.is_terminal and time.monotonic() - last > PLAIN_INTERVAL:
                last = time.monotonic()
                self._console.print(f"  {subject} {stage}: {step} {done}/{total}", markup=False)

        return advance

    def done(self, subject: str, stage: str, note: str) -> None:
        self._remove_bar()
        self._console.print(f"[green]✓[/] {subject:<20} {stage:<9} {note}")

    def failed(self, subject: str, stage: str, error: QuantActionError) -> None:
        self._remove_bar()
        self._console.print(f"[red]✗[/] {subject:<20} {stage:<9} {type(error).__name__}")
        self._console.print(f"  {error}", markup=False)
        if error.remedy:
            self._console.print(f"  {error.remedy}", markup=False)

    def _remove_bar(self) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
