"""Where results lie: a cache by key, and a run folder that names what a plan is made of.

    .quant/cache/candidates/<job key>/       candidate.json  manifest.json  log.txt  model/
    .quant/cache/evaluations/<key>/          evaluation.json  windows.npz  items.jsonl  (of a baseline also states/)
    .quant/cache/runtimes/<key>.json         what an artifact's own runtime computes, beside what was scored
    .quant/cache/speeds/<key>.json           an artifact timed beside the baseline
    .quant/runs/<plan key>/                  plan.json
        candidates/<id>                      link into the cache
        evaluations/<id>, <id>.json          links into the cache; `baseline`, `floor` and `release` beside the candidates
        runtimes/<id>.json                   links into the cache, where the spec asks for that check
        speeds/<id>.json                     likewise
        failures/<id>.json                   why a candidate has no evaluation
        failures/speed/<id>.json             why it has no times
        logs/<id>.<stage>.log
        verdict.json  report.md  report.html  junit.xml  metrics.json
    .quant/runs/<name>.latest                link to the last run of the spec of that name

Everything in the cache is whole or absent (`storage.complete_folder`), so a rerun after a kill continues from what was complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock

from quant_action.storage import sync_folder

BASELINE, FLOOR, RELEASE = "baseline", "floor", "release"

RECORDS = 100
"""More earlier runs than this would not make an estimate better, and each is a file to read."""


class Store:
    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """`root` is the `.quant` folder beside the spec; `cache` may lie elsewhere, shared by several specs."""
        self.root = root
        self.cache = cache or root / "cache"

    def candidate(self, key: str) -> Path:
        return self.cache / "candidates" / key

    def evaluation(self, key: str) -> Path:
        return self.cache / "evaluations" / key

    def runtime(self, key: str) -> Path:
        return self.cache / "runtimes" / f"{key}.json"

    def speed(self, key: str) -> Path:
        return self.cache / "speeds" / f"{key}.json"

    def records(self, kind: Literal["candidate", "evaluation", "speed"]) -> list[Path]:
        """Files of the newest records of a kind, whole ones, at most `RECORDS`."""
        found = (self.cache / f"{kind}s").glob("*.json" if kind == "speed" else f"*/{kind}.json")
        return sorted((path for path in found if not path.parent.name.endswith(".part")), key=_age)[:RECORDS]

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """One process at a time makes a folder; the lock goes with the process, however it ends."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            yield

    def run(self, plan_key: str) -> RunFolder:
        return RunFolder(self.root / "runs" / plan_key)

    def latest_run(self, name: str) -> RunFolder | None:
        link = self.root / "runs" / f"{name}.latest"
        return RunFolder(link.resolve()) if link.exists() else None


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    def candidate(self, name: str) -> Path:
        return self.path / "candidates" / name

    def evaluation(self, name: str) -> Path:
        return self.path / "evaluations" / name

    def runtime(self, name: str) -> Path:
        return self.path / "runtimes" / f"{name}.json"

    def speed(self, name: str) -> Path:
        return self.path / "speeds" / f"{name}.json"

    def failure(self, name: str) -> Path:
        return self.path / "failures" / f"{name}.json"

    def speed_failure(self, name: str) -> Path:
        return self.path / "failures" / "speed" / f"{name}.json"

    def log(self, name: str, stage: str) -> Path:
        return self.path / "logs" / f"{name}.{stage}.log"

    def link_candidate(self, name: str, folder: Path) -> None:
        _link(self.candidate(name), folder)

    def link_evaluation(self, name: str, folder: Path) -> None:
        _link(self.evaluation(name), folder)
        _link(self.path / "evaluations" / f"{name}.json", folder / "evaluation.json")

    def link_runtime(self, name: str, file: Path) -> None:
        _link(self.runtime(name), file)

    def link_speed(self, name: str, file: Path) -> None:
        _link(self.speed(name), file)

    def mark_latest(self, name: str) -> None:
        _link(self.path.parent / f"{name}.latest", self.path)


def _age(path: Path) -> float:
    """For sorting, newest first; a file that another run has just removed comes last."""
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _link(link: Path, target: Path) -> None:
    """Atomically point `link` at `target`, relatively, so that the folder can be moved."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    temporary.replace(link)
    sync_folder(link.parent)
