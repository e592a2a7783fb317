"""Where a worker runs: the Python of an environment, and the variables that it gets.

`host` is the environment that quant_action itself runs in. Libraries that do not go with it, or with each other, have environments of
their own: a locked requirements file in `engines/`, installed once into a cache outside the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from quant_action.errors import EnvironmentMissing
from quant_action.storage import disk_errors, write_text

HOST = "host"
PACKAGE = Path(__file__).parents[1]
LOCKS = PACKAGE / "engines"
KERNELS = ".kernels"
"""Suffix of the folder beside an environment that has what it compiled."""

COMPLETE = "complete.json"
"""Written last: without it an environment is not there."""

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
"""Workers load models and data that may be hostile, and they need no network: nothing that looks like a secret reaches them."""

DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
"""Threads that spin while they wait make torch ten times slower on a machine that others use too; sleeping costs little where none do."""

URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")


def cache_folder() -> Path:
    """Where environments are kept: `QUANT_ACTION_ENVIRONMENTS`, else the CI runner's tool cache, else the user's cache."""
    if named := os.environ.get("QUANT_ACTION_ENVIRONMENTS"):
        return Path(named).absolute()
    if runner := os.environ.get("RUNNER_TOOL_CACHE"):
        return Path(runner) / "quant_action"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quant_action" / "environments"


@dataclass(frozen=True)
class Environment:
    """One that is locked by a requirements file. Raises `EnvironmentMissing` where there is no such file."""

    name: str

    def __post_init__(self) -> None:
        if not self.lock.is_file():
            names = ", ".join([HOST, *locked_environments()])
            raise EnvironmentMissing(f"there is no environment {self.name!r}", remedy=f"There are: {names}.")

    @property
    def lock(self) -> Path:
        return LOCKS / f"{self.name}.txt"

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides what is installed."""
        what = [self.lock.read_text(encoding="utf-8"), platform.python_version(), platform.machine()]
        return hashlib.sha256("\n".join(what).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        return cache_folder() / f"{self.name}-{self.key[:12]}"

    @property
    def kernels(self) -> Path:
        """Where its libraries keep GPU kernels that they compile on first use, for minutes: beside it, so that they are compiled once."""
        return self.folder.with_name(self.folder.name + KERNELS)

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def is_complete(self) -> bool:
        return (self.folder / COMPLETE).is_file()

    def install(self, on_step: Callable[[str], None]) -> None:
        """Make it, if it is not there; whoever comes second waits. pip reads the user's own index settings.

        Raises `EnvironmentMissing` with the end of pip's log; what was made until then is kept as `<folder>.failed`.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(self.folder.name + ".lock")):
            if self.is_complete:
                return
            failed = self.folder.with_name(self.folder.name + ".failed")
            for left in (self.folder, failed):
                shutil.rmtree(left, ignore_errors=True)
            self.folder.mkdir()
            log = self.folder / "install.log"
            pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
            steps = {
                "make": [sys.executable, "-m", "venv", str(self.folder)],
                "download and install": [*pip, "--requirement", str(self.lock)],
            }
            with disk_errors(self.folder):
                for step, command in steps.items():
                    on_step(step)
                    with log.open("a", encoding="utf-8") as file:
                        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False)
                    if done.returncode:
                        self.folder.replace(failed)
                        raise self._failed(step, failed / log.name)
                write_text(self.folder / COMPLETE, json.dumps({"lock": self.key, "python": platform.python_version()}) + "\n")

    def _failed(self, step: str, log: Path) -> EnvironmentMissing:
        last = URL_LOGIN.sub("", "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]))
        return EnvironmentMissing(
            f"environment {self.name} could not be made ({step}); the end of its log:\n{last}",
            where=str(log),
            remedy="Mend what it says (index, network, disk), then run again.",
        )

    def remove(self) -> list[Path]:
        """Delete every version of it, complete or failed, and its kernels; returns what was deleted."""
        found = sorted(path for path in cache_folder().glob(f"{self.name}-*") if path.is_dir())
        for path in found:
            with FileLock(path.with_name(path.name.removesuffix(".failed").removesuffix(KERNELS) + ".lock")):
                shutil.rmtree(path)
        return found


def locked_environments() -> list[str]:
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def interpreter(environment: str) -> Path:
    """Python of an environment. Raises `EnvironmentMissing` with what to install."""
    if environment != HOST:
        locked = Environment(environment)
        if not locked.is_complete:
            remedy = f"quant-action environments --install {environment}"
            raise EnvironmentMissing(f"environment {environment} is not installed", remedy=remedy)
        return locked.python
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise EnvironmentMissing(
            "torch and transformers are not installed here; planning and judging need them not, quantizing and evaluating do",
            remedy="pip install 'quant-action[run]'",
        )
    return Path(sys.executable)


def worker_variables(environment: str, control: Path) -> dict[str, str]:
    """The host's variables without secrets, and what makes a worker offline, unbuffered and repeatable.

    In another environment a worker finds this package, and nothing else of the host's, by a link in its `control` folder.
    """
    kept = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    if environment != HOST:
        ours = control / "ours"
        ours.mkdir()
        (ours / PACKAGE.name).symlink_to(PACKAGE)
        kernels = Environment(environment).kernels
        kept |= {
            "PYTHONPATH": str(ours),
            "GPTQMODEL_TORCH_EXTENSIONS_DIR": str(kernels / "gptqmodel"),
            "GPTQMODEL_CACHE_DIR": str(kernels / "sources"),
            "GPTQMODEL_OFFLINE": "1",  # a kernel whose sources would be downloaded is left out for the next best
            "TORCHINDUCTOR_CACHE_DIR": str(kernels / "inductor"),
            "TORCH_EXTENSIONS_DIR": str(kernels / "torch"),
            "TRITON_CACHE_DIR": str(kernels / "triton"),
        }
    return (
        DEFAULTS
        | kept
        | {
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
        }
    )
