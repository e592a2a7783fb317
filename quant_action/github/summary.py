"""What a step tells its runner: job summary, outputs, remarks in the log, and that nobody else's lines are commands.

The runner reads commands from a step's output, whoever printed them. `Commands` stops that while models and libraries may print:

    with Commands(sys.stdout) as commands:      # ::stop-commands::<random>
        ... children run, their output is shown
        commands.annotate(remarks)              # ::<random>::  ::error ...::  ::stop-commands::<another>

The step must send its standard error into its standard output (`2>&1`), or lines of the two could pass each other on their way.
Syntax: docs.github.com/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from quant_action.errors import InputError
from quant_action.github.annotations import Annotation

SUMMARY = 2**20
"""Bytes of one step's summary; GitHub drops the whole of a longer one."""
OUTPUT = 2**19
"""Bytes of one output; all outputs of a job together may have 2**20 UTF-16 characters."""
REMARKS = 10
"""Of each level that GitHub shows of one step."""
COMMANDS = {"failure": "error", "warning": "warning", "notice": "notice"}
CUT = "\n\n_Shortened: the rest is in the HTML report._\n"


def fit(markdown: str, limit: int) -> str:
    """As many whole lines as `limit` bytes take, and a word where some are missing."""
    content = markdown.encode()
    if len(content) <= limit:
        return markdown
    kept = content[: max(limit - len(CUT.encode()), 0)].decode(errors="ignore")
    return kept.rpartition("\n")[0] + CUT if limit >= len(CUT.encode()) else ""


def append_summary(environ: Mapping[str, str], markdown: str) -> bool:
    """Show it on the run's page, below what this step showed before. False where no runner reads it."""
    if not environ.get("GITHUB_STEP_SUMMARY"):
        return False
    path = Path(environ["GITHUB_STEP_SUMMARY"])
    left = SUMMARY - (path.stat().st_size if path.exists() else 0) - 2
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(fit(markdown.strip("\n"), left) + "\n\n" if left > 0 else "")
    return True


def set_output(environ: Mapping[str, str], name: str, value: str) -> bool:
    """An output of the step, of any text. False where no runner reads it. Raises `InputError` for one that is too long."""
    if not environ.get("GITHUB_OUTPUT"):
        return False
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(name)
    if len(value.encode()) > OUTPUT:
        raise InputError(f"has more than {OUTPUT:,} bytes", where=f"output {name}", remedy="Read it from the report's files instead.")
    with Path(environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8", newline="\n") as file:
        end = f"end_{secrets.token_hex(16)}"  # nobody can have written it into the value
        file.write(f"{name}<<{end}\n{value}\n{end}\n")
    return True


def workflow_command(annotation: Annotation) -> str:
    """The line that puts a remark on a line of a file."""
    place = f"file={_property(annotation.path)},line={annotation.line},title={_property(annotation.title)}"
    return f"::{COMMANDS[annotation.level]} {place}::{_data(annotation.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


class Commands:
    """A context in which the runner obeys nothing but what this says."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._token = ""

    def __enter__(self) -> Self:
        self._say([self._stop()])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._say([f"::{self._token}::"])

    def annotate(self, annotations: Iterable[Annotation]) -> None:
        """At most so many of each level as GitHub shows."""
        lines: list[str] = []
        shown = dict.fromkeys(COMMANDS, 0)
        for annotation in annotations:
            shown[annotation.level] += 1
            if shown[annotation.level] <= REMARKS:
                lines.append(workflow_command(annotation))
        if lines:
            self._say([f"::{self._token}::", *lines, self._stop()])

    def _stop(self) -> str:
        self._token = secrets.token_hex(16)
        return f"::stop-commands::{self._token}"

    def _say(self, lines: list[str]) -> None:
        """In one piece, and on lines of their own whatever a child left unfinished."""
        self._stream.write("\n" + "\n".join(lines) + "\n")
        self._stream.flush()
