"""For which CUDA the torch of an environment is built, read from its files: torch itself takes seconds to import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from quant_action.workers.environment import HOST, Environment

DEFAULT_CUDA = (((2, 14), (13, 2)), ((2, 11), (13, 0)), ((2, 8), (12, 8)))
"""(torch, CUDA of its build on the package index for Linux x86_64), newest first: pytorch/pytorch issues 172663, 178665 and 190355."""


@dataclass(frozen=True, kw_only=True)
class TorchBuild:
    version: str
    """Such as `2.13.0`, `2.13.0+cpu`, `2.13.0+cu130`."""
    cuda: tuple[int, int] | None
    """None for a build that cannot use an NVIDIA GPU."""
    installed: bool
    """False where it stands in a lock and is yet to be installed: then `cuda` is that of the package index's own build."""


def torch_build(environment: str) -> TorchBuild | None:
    """The build of an environment, None where it has no torch (or none that can be read)."""
    if environment == HOST:
        spec = find_spec("torch")  # finds it, does not import it
        return _read(Path(spec.origin).parent / "version.py") if spec and spec.origin else None
    locked = Environment(environment)
    if not locked.is_complete:
        return _of_lock(locked.lock.read_text(encoding="utf-8"))
    return next((build for path in locked.folder.glob("lib/python*/site-packages/torch/version.py") if (build := _read(path))), None)


def _read(path: Path) -> TorchBuild | None:
    try:
        return of_version_file(path.read_text(encoding="utf-8"))
    except OSError:
        return None


def of_version_file(text: str) -> TorchBuild | None:
    """Of the text of `torch/version.py`."""
    version = re.search(r"^__version__ *= *'([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=\n]*= *'(\d+)\.(\d+)'", text, re.MULTILINE)
    return TorchBuild(version=version[1], cuda=(int(cuda[1]), int(cuda[2])) if cuda else None, installed=True) if version else None


def _of_lock(text: str) -> TorchBuild | None:
    found = re.search(r"^torch==((\d+)\.(\d+)[^\s;]*)", text, re.MULTILINE)
    if not found:
        return None
    release = (int(found[2]), int(found[3]))
    cuda = None if "+cpu" in found[1] else next((cuda for first, cuda in DEFAULT_CUDA if release >= first), (12, 0))
    return TorchBuild(version=found[1], cuda=cuda, installed=False)
