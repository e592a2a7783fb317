"""Real child processes: results, progress, floods of output, every way to end, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from quant_action.errors import Cancelled, DiskFull, EngineError, OutOfMemory, QuantActionError, TimedOut, WorkerCrashed
from quant_action.workers.process import WorkerResult, run_worker

pytestmark = pytest.mark.end_to_end
MODULE = "tests.end_to_end.misbehaving_worker"


SECRETS = (
    "HF_TOKEN",
    "GITHUB_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MY_API_KEY",
    "SIGNING_KEY",
    "GH_PAT",
    "MYSQL_PWD",
    "npm_config__auth",
    "SENTRY_DSN",
    "AZURE_STORAGE_CONNECTION_STRING",
)


def run(
    tmp_path: Path, do: str, *, events: list[tuple[str, int, int]] | None = None, timeout: float | None = 60, **request: Any
) -> WorkerResult:
    log = tmp_path / "log.txt"
    heard = events if events is not None else []
    return run_worker(
        environment="host",
        module=MODULE,
        request={"do": do, **request},
        log=log,
        on_progress=lambda *event: heard.append(event),
        timeout=timeout,
    )


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_result_progress_and_memory(tmp_path: Path) -> None:
    events: list[tuple[str, int, int]] = []
    result = run(tmp_path, "answer", events=events)
    assert events == [("count", 1, 3), ("count", 2, 3), ("count", 3, 3)]
    assert 5_000_000 < result.peak_memory < 2_000_000_000
    assert result.seconds > 0


def test_secrets_of_the_host_do_not_reach_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_hunter2hunter2hunter2"
    for name in SECRETS:
        monkeypatch.setenv(name, token)
    monkeypatch.setenv("A_COPY", f"Bearer {token}")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hunter2@127.0.0.1/simple")
    monkeypatch.setenv("HARMLESS", "1")
    found = run(tmp_path, "dump everything").value["environment"]
    assert found["HARMLESS"] == "1"
    assert {"PATH", "HOME"} <= found.keys()
    assert not {*SECRETS, "A_COPY", "PIP_INDEX_URL"} & found.keys()
    with pytest.raises(WorkerCrashed, match=r"ZeroDivisionError: environ\(") as caught:
        run(tmp_path, "dump everything and crash")
    log = (tmp_path / "log.txt").read_text()
    assert log.count("HARMLESS") >= 3
    assert "hunter2" not in log + str(caught.value) + str(caught.value.remedy)


def test_the_working_folder_is_the_worker_s_own_and_no_file_of_the_host_s_becomes_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    cwd = Path(run(tmp_path, "answer").value["cwd"])
    assert cwd != tmp_path
    assert not cwd.exists()


def test_flood_on_both_streams_blocks_nobody_and_is_logged(tmp_path: Path) -> None:
    events: list[tuple[str, int, int]] = []
    run(tmp_path, "chatter", events=events)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("out" * 30) == log.count("err" * 30) == 5000
    assert "o" * 1_000_000 in log
    assert len(events) == 20_000


def test_progress_that_is_nonsense_is_passed_over(tmp_path: Path) -> None:
    events: list[tuple[str, int, int]] = []
    run(tmp_path, "nonsense", events=events)
    assert events == [("count", 1, 1)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{",
        "null",
        "[" * 100_000,
        '{"value": 3, "peak_memory": 1}',
        '{"value": {}}',
        '{"error": {}}',
        '{"error": {"kind": "SystemExit", "message": "a", "where": null, "remedy": null}}',
    ],
    ids=lambda answer: answer[:20],
)
def test_an_answer_that_is_none_is_a_crash(tmp_path: Path, answer: str) -> None:
    with pytest.raises(WorkerCrashed, match="exit status 0 and no result; the end of its log:\nthe last words"):
        run(tmp_path, "answer badly", answer=answer)


def test_what_leaves_the_group_keeps_nobody_waiting(tmp_path: Path) -> None:
    started = time.monotonic()
    daemon = run(tmp_path, "leave a daemon").value["daemon"]
    assert time.monotonic() - started < 30
    os.kill(daemon, signal.SIGKILL)


def test_expected_failure_keeps_its_name_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        run(tmp_path, "fail")
    assert (str(caught.value), caught.value.remedy) == ("model.layers.3: layer 3 is odd", "Make it even.")


@pytest.mark.parametrize(
    ("do", "error", "words"),
    [
        ("crash", WorkerCrashed, ["exit status 1", "the last words", "ZeroDivisionError"]),
        ("exit", WorkerCrashed, ["exit status 0 and no result"]),
        ("killed", OutOfMemory, ["the system killed", "memory"]),
        ("segmentation fault", WorkerCrashed, ["signal SIGSEGV", "Fatal Python error", "in behave"]),
        ("bad_alloc", OutOfMemory, ["the host's memory is full", "std::bad_alloc", "signal SIGABRT"]),
        ("allocate", OutOfMemory, ["the host's memory is full"]),
        ("allocate a tensor", OutOfMemory, ["the host's memory is full"]),
        ("fill the disk", DiskFull, ["no space left while saving"]),
    ],
)
def test_every_ending_has_a_name(tmp_path: Path, do: str, error: type[QuantActionError], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        run(tmp_path, do)
    assert caught.value.exit_code == 4
    assert caught.value.remedy
    assert [word for word in words if word not in str(caught.value)] == []


def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with pytest.raises(TimedOut, match="misbehaving_worker had no result after 3 s") as caught:
        run(tmp_path, "hang", note=str(note), timeout=3)
    assert str(caught.value.remedy).startswith("Raise --timeout, or make the job smaller")
    pids = [int(pid) for pid in note.read_text().split()]
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_cancelling_kills_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pids"

    def cancel(step: str, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Cancelled):
        run_worker(
            environment="host", module=MODULE, request={"do": "hang", "note": str(note)}, log=tmp_path / "log.txt", on_progress=cancel
        )
    pids = [int(pid) for pid in note.read_text().split()]
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_worker_ends_when_its_host_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    request = {"do": "hang", "note": str(note)}
    log = str(tmp_path / "log.txt")
    program = (
        "from pathlib import Path; from quant_action.workers.process import run_worker; "
        f"run_worker(environment='host', module={MODULE!r}, request={request!r}, log=Path({log!r}), on_progress=print)"
    )
    host = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
    host.kill()
    host.wait()
    pids = [int(pid) for pid in note.read_text().split()]
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
