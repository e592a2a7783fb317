"""What code a result depends on, as one digest: our sources and the versions of the packages under them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from quant_action.records import digest_of


def installed_versions(distributions: Sequence[str]) -> dict[str, str | None]:
    """Distribution -> version in the host environment, None where it is not installed."""
    return {name: _version(name) for name in distributions}


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fingerprint(distributions: Sequence[str], modules: Sequence[str]) -> str:
    """sha256 over package versions and the source of our modules, so that a changed line never meets an old cached result."""
    return digest_of([installed_versions(distributions), {name: _source_digest(name) for name in modules}])


@cache
def _source_digest(module: str) -> str:
    spec = find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(module)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.rglob("*.py")) or [Path(str(spec.origin))]
    hashes = [f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
