"""Where a worker runs: the Python of an environment, and the variables that it gets.

`host` is the environment that quant_action itself runs in. Libraries that do not go with it, or with each other, have environments of
their own: a locked requirements file of that name in `locks/`, installed once into a cache outside the repository.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from quant_action.errors import EnvironmentMissing
from quant_action.storage import disk_errors, write_text

HOST = "host"
PACKAGE = Path(__file__).parents[1]
LOCKS = PACKAGE / "locks"
"""`NAME.txt` is all that makes an environment: there is no other list of them."""

KERNELS = ".kernels"
"""Suffix of the folder beside an environment that has what it compiled."""

COMPLETE = "complete.json"
"""Written last: without it an environment is not there."""

INSTALLER = "QUANT_ACTION_INSTALLER"
"""Variable that says what fills environments: `pip` (when it is not set) or `uv`."""

SECRET = re.compile(
    r"TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|AUTH|COOKIE|CONNECTION_?STRING|KEYS?$|_PWD$|(^|_)(PAT|DSN)$", re.IGNORECASE
)
"""Names of variables. Workers load models and data that may be hostile, and need no network: no secret of the host reaches them."""

CI = re.compile(r"^(GITHUB|ACTIONS)_")
"""Variables of a CI job: through the files that they name, whoever knows them sets outputs, variables and PATH of later steps."""

SHORTEST_SECRET = 16
"""Characters; a value as long as this is a secret under any name, not only under its own."""

DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
"""Threads that spin while they wait make torch ten times slower on a machine that others use too; sleeping costs little where none do."""

URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
"""Name and password in a URL, such as that of a package index."""


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
        """Digest of everything that decides what is installed; comments do not."""
        lines = [line.strip() for line in self.lock.read_text(encoding="utf-8").splitlines()]
        what = [*(line for line in lines if line and not line.startswith("#")), platform.python_version(), platform.machine()]
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
        """Make it, if it is not there; whoever comes second waits. The installer reads the user's own index settings.

        Raises `EnvironmentMissing` with the end of the installer's log; what was made until then is kept as `<folder>.failed`.
        """
        steps = self._steps()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(self.folder.name + ".lock")):
            if self.is_complete:
                return
            failed = self.folder.with_name(self.folder.name + ".failed")
            for left in (self.folder, failed):
                shutil.rmtree(left, ignore_errors=True)
            self.folder.mkdir()
            log = self.folder / "install.log"
            with disk_errors(self.folder):
                for step, command in steps.items():
                    on_step(step)
                    with log.open("a", encoding="utf-8") as file:
                        done = subprocess.run(
                            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
                        )
                    if done.returncode:
                        self.folder.replace(failed)
                        raise self._failed(step, failed / log.name)
                write_text(self.folder / COMPLETE, json.dumps({"lock": self.key, "python": platform.python_version()}) + "\n")

    def _steps(self) -> dict[str, list[str]]:
        """Name -> command. `-I`: neither the host's PYTHONPATH nor a file in the working folder is taken for something installed."""
        make = [sys.executable, "-I", "-m", "venv", str(self.folder)]
        match os.environ.get(INSTALLER) or "pip":
            case "pip":
                pip = ["pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
                fill = [str(self.python), "-I", "-m", *pip]
            case "uv":
                make.append("--without-pip")
                fill = [_uv(), "pip", "install", "--no-progress", "--python", str(self.python)]
            case other:
                raise EnvironmentMissing(f"{INSTALLER} is {other!r}", remedy="Set it to pip or uv, or leave it out: pip.")
        return {"make": make, "download and install": [*fill, "--requirement", str(self.lock)]}

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


def _uv() -> str:
    """Beside our Python, or on the path."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise EnvironmentMissing(f"{INSTALLER} is uv, and there is no uv on the path", remedy=f"pip install uv, or leave {INSTALLER} out.")
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


def worker_variables(environment: str, control: Path, module: str) -> dict[str, str]:
    """The host's variables without secrets, and what makes a worker offline, unbuffered and repeatable.

    In another environment a worker finds this package and the one that `module` is in, and nothing else of the host's, by links in its
    `control` folder.
    """
    kept = _without_secrets(os.environ)
    if environment != HOST:
        ours = control / "ours"
        ours.mkdir()
        for name in {PACKAGE.name, module.partition(".")[0]}:
            (ours / _origin(name).name).symlink_to(_origin(name))
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
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
        }
    )


def _without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that neither are secrets or a CI job's by their name, nor hold a secret: the value of such a variable, or a login in a URL."""
    secrets = {
        value for name, value in variables.items() if SECRET.search(name) and len(value) >= SHORTEST_SECRET and not value.startswith("/")
    }
    return {
        name: value
        for name, value in variables.items()
        if not SECRET.search(name)
        and not CI.search(name)
        and not URL_LOGIN.search(value)
        and not any(secret in value for secret in secrets)
    }


def _origin(package: str) -> Path:
    """Folder of a package, or file of a module. Raises `EnvironmentMissing` where there is none."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EnvironmentMissing(
            f"there is no Python package {package!r} here", remedy="The engine's package must be installed as a whole."
        )
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
