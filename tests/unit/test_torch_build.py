from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from quant_action.workers import environment
from quant_action.workers.environment import COMPLETE, HOST, Environment
from quant_action.workers.torch_build import TorchBuild, of_version_file, torch_build

CPU = "from typing import Optional\n__version__ = '2.13.0+cpu'\ndebug = False\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA = "__version__ = '2.13.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
OLD = "__version__ = '2.5.1'\ncuda = '12.4'\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(CPU, ("2.13.0+cpu", None)), (CUDA, ("2.13.0+cu130", (13, 0))), (OLD, ("2.5.1", (12, 4)))],
)
def test_version_file_of_torch(text: str, wanted: tuple[str, tuple[int, int] | None]) -> None:
    build = of_version_file(text)
    assert build is not None
    assert (build.version, build.cuda, build.installed) == (*wanted, True)


def test_what_is_no_version_file() -> None:
    assert of_version_file("cuda = '12.4'") is None


def test_build_of_the_host_without_importing_it() -> None:
    build = torch_build(HOST)
    assert build is not None
    assert build.version.split("+")[0] == version("torch").split("+")[0]


@pytest.mark.parametrize(
    ("line", "cuda"),
    [
        ("torch==2.13.0", (13, 0)),
        ("torch==2.14.1", (13, 2)),
        ("torch==2.8.0", (12, 8)),
        ("torch==2.4.0", (12, 0)),
        ("torch==2.13.0+cpu", None),
    ],
)
def test_a_lock_says_what_will_be_installed(line: str, cuda: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LOCKS", tmp_path)
    monkeypatch.setenv("QUANT_ACTION_ENVIRONMENTS", str(tmp_path / "environments"))
    (tmp_path / "modern.txt").write_text(f"# a lock\nnumpy==2.0\n{line}\ntorchao==0.18.0\n")
    assert torch_build("modern") == TorchBuild(version=line.removeprefix("torch=="), cuda=cuda, installed=False)  # type: ignore[arg-type]
    folder = Environment("modern").folder / "lib/python3.12/site-packages/torch"
    folder.mkdir(parents=True)
    (folder / "version.py").write_text(CUDA)
    (Environment("modern").folder / COMPLETE).write_text("{}")
    assert torch_build("modern") == TorchBuild(version="2.13.0+cu130", cuda=(13, 0), installed=True)


def test_a_lock_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LOCKS", tmp_path)
    (tmp_path / "bare.txt").write_text("numpy==2.0\n")
    assert torch_build("bare") is None
