"""Environments made for real, by pip, of locks that need no network."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quant_action.errors import EnvironmentMissing
from quant_action.workers import environment
from quant_action.workers.environment import Environment, interpreter

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for locks, and a cache of its own."""
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "empty.txt").write_text("# nothing\n")
    monkeypatch.setattr(environment, "LOCKS", folder)
    monkeypatch.setenv("QUANT_ACTION_ENVIRONMENTS", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


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
    (locks / "empty.txt").write_text("# something else\n")
    assert Environment("empty").folder != before


def test_what_failed_is_kept_and_named_without_the_login_of_an_index(locks: Path) -> None:
    (locks / "bad.txt").write_text("--find-links https://user:hunter2@127.0.0.1:9/simple\nno-such-package-of-ours==1.0\n")
    with pytest.raises(EnvironmentMissing) as caught:
        Environment("bad").install(lambda step: None)
    message = str(caught.value)
    assert "no-such-package-of-ours" in message
    assert "hunter2" not in message
    assert Path(str(caught.value.where)).read_text()
    assert not Environment("bad").is_complete
    assert not Environment("bad").folder.exists()


def test_one_that_was_interrupted_is_made_again(locks: Path) -> None:
    left = Environment("empty").folder
    (left / "bin").mkdir(parents=True)
    (left / "bin/python").write_text("half")
    Environment("empty").install(lambda step: None)
    assert Environment("empty").python.resolve() == Path(sys.executable).resolve()


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
