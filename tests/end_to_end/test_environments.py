"""Environments made for real, by pip and by uv, of locks that need no network."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quant_action.errors import EnvironmentMissing
from quant_action.workers import environment
from quant_action.workers.environment import Environment, interpreter
from quant_action.workers.process import run_worker

from .conftest import COMMAND, TOKEN, copy_example

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for locks, a cache of its own, and the quicker installer where a test does not name one."""
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "empty.txt").write_text("# nothing\n")
    monkeypatch.setattr(environment, "LOCKS", folder)
    monkeypatch.setenv("QUANT_ACTION_ENVIRONMENTS", str(tmp_path / "cache"))
    monkeypatch.setenv("QUANT_ACTION_INSTALLER", "uv")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder to find links in, with one distribution."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    files = {
        "tiny_thing.py": "WORD = 'from the wheel'\n",
        "tiny_thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n",
        "tiny_thing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("tiny_thing-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return folder


def said_by(python: Path, program: str) -> str:
    return subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True, env={}).stdout.strip()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_each_installer_honours_its_own_settings_and_nothing_of_the_host_s_gets_in(
    locks: Path, wheels: Path, installer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (locks / "tiny.txt").write_text("# cuda: 13.0\ntiny-thing==1.0\n")
    monkeypatch.setenv("QUANT_ACTION_INSTALLER", installer)
    monkeypatch.setenv(f"{installer.upper()}_FIND_LINKS", str(wheels))
    repository = tmp_path / "repository"
    shutil.copytree(locks, repository)
    for name in ("pip", "venv", "json"):
        (repository / f"{name}.py").write_text("raise SystemExit('hijacked')")
    (repository / "tiny_thing-1.0.dist-info").mkdir()
    (repository / "tiny_thing-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    Environment("tiny").install(lambda step: None)
    assert said_by(Environment("tiny").python, "import tiny_thing; print(tiny_thing.WORD)") == "from the wheel"
    has_pip = said_by(Environment("tiny").python, "import importlib.util as u; print(u.find_spec('pip') is not None)")
    assert has_pip == str(installer == "pip")


@pytest.mark.parametrize(
    ("installer", "words", "remedy"),
    [
        ("conda", "QUANT_ACTION_INSTALLER is 'conda'", "Set it to pip or uv, or leave it out: pip."),
        ("uv", "QUANT_ACTION_INSTALLER is uv, and there is no uv on the path", "pip install uv, or leave QUANT_ACTION_INSTALLER out."),
    ],
)
def test_an_installer_that_is_not_there(
    locks: Path, installer: str, words: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ACTION_INSTALLER", installer)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EnvironmentMissing, match=words) as caught:
        Environment("empty").install(lambda step: None)
    assert caught.value.remedy == remedy
    assert not Environment("empty").folder.exists()


def test_a_comment_in_a_lock_does_not_make_another_environment(locks: Path) -> None:
    (locks / "commented.txt").write_text("# cuda: 13.0\n\na==1\n  # and more\nb==2\n")
    (locks / "plain.txt").write_text("a==1\nb==2\n")
    assert Environment("commented").key == Environment("plain").key != Environment("empty").key


def test_it_is_made_once_when_two_ask_at_the_same_time(locks: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="environment empty is not installed"):
        interpreter("empty")
    steps: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(Environment("empty").install, steps.append) for _ in range(2)]:
            made.result()
    assert steps == ["make", "download and install"]
    found = subprocess.run([interpreter("empty"), "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == Environment("empty").folder


def test_a_changed_lock_is_another_environment(locks: Path) -> None:
    before = Environment("empty").folder
    (locks / "empty.txt").write_text("something==1.0\n")
    assert Environment("empty").folder != before


@pytest.mark.parametrize(("installer", "words"), [("pip", "no-such-package-of-ours"), ("uv", "Connection refused")])
def test_what_failed_is_kept_and_named_without_the_login_of_an_index(
    locks: Path, installer: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ACTION_INSTALLER", installer)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (locks / "bad.txt").write_text("--find-links https://user:hunter2@127.0.0.1:9/simple\nno-such-package-of-ours==1.0\n")
    with pytest.raises(EnvironmentMissing) as caught:
        Environment("bad").install(lambda step: None)
    message = str(caught.value)
    assert words in message
    assert "hunter2" not in message
    log = Path(str(caught.value.where)).read_text()
    assert log
    assert "hunter2" not in log
    assert not Environment("bad").is_complete
    assert not Environment("bad").folder.exists()


def test_one_that_was_interrupted_is_made_again(locks: Path) -> None:
    left = Environment("empty").folder
    (left / "bin").mkdir(parents=True)
    (left / "bin/python").write_text("half")
    Environment("empty").install(lambda step: None)
    assert Environment("empty").python.resolve() == Path(sys.executable).resolve()


def test_a_worker_of_another_package_is_found_there_and_nothing_else_of_the_host_s_is(
    locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment with nothing in it: the worker's package (here `tests`) and ours come in by links."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    Environment("empty").install(lambda step: None)
    found = run_worker(
        environment="empty",
        module="tests.end_to_end.misbehaving_worker",
        request={"do": "dump everything"},
        log=tmp_path / "log.txt",
        on_progress=lambda *step: None,
    ).value
    assert sorted(found["importable"]) == ["quant_action", "tests"]
    assert "HF_TOKEN" not in found["environment"]
    assert TOKEN not in (tmp_path / "log.txt").read_text()


def test_an_installed_environment_needs_no_network(tmp_path: Path) -> None:
    """The library engines, each from its cached environment, where not even the loopback device is up."""
    if not Environment("modern").is_complete:
        pytest.skip("needs: quant-action environments --install modern")
    cut = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*cut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us make a network namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
        assert b"unreachable" in subprocess.run([*cut, sys.executable, "-c", program], capture_output=True, check=False).stderr
    folder = copy_example(tmp_path / "tiny-llama")
    (folder / "quant.yml").write_text(
        """\
version: 1
name: tiny-llama
model: {source: model}
calibration: {data: data/calibration.jsonl, samples: 4, tokens: 32}
candidates:
  a: {method: gptq, bits: 4, group_size: 64, engine: gptqmodel}
  b: {method: gptq, bits: 4, group_size: 64, engine: llm-compressor}
evaluation:
  text: {data: data/heldout.jsonl, window: 32}
"""
    )
    ended = subprocess.run([*cut, *COMMAND, "quantize"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("✓") == 2


def test_removing_takes_every_version(locks: Path) -> None:
    Environment("empty").install(lambda step: None)
    old = Environment("empty").folder.with_name("empty-0123456789ab")
    old.mkdir()
    assert len(Environment("empty").remove()) == 2
    assert not Environment("empty").is_complete
    assert not old.exists()


def test_there_is_no_such_environment(locks: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="there is no environment 'other'") as caught:
        interpreter("other")
    assert caught.value.remedy == "There are: host, empty."
