"""The real thing on the real example: one run of tiny-llama serves many tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples/tiny-llama"
COMMAND = [sys.executable, "-m", "quant_action"]
TOKEN = "hf_hunter2hunter2hunter2"
"""What a runner has in HF_TOKEN during the session's run."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def quant_action(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 600) -> Ended:
    """Run the command line as a user would, without a terminal."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "160"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def copy_example(folder: Path) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".quant"))
    return folder


@dataclass(frozen=True)
class Finished:
    folder: Path
    ended: Ended

    @property
    def run(self) -> Path:
        return (self.folder / ".quant/runs/tiny-llama.latest").resolve()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A complete run of examples/tiny-llama; tests only look at it, or copy it first."""
    folder = copy_example(tmp_path_factory.mktemp("example") / "tiny-llama")
    return Finished(folder, quant_action("run", cwd=folder, env={"HF_TOKEN": TOKEN}))
