"""One child process: started without a shell, streamed to a log, killed as a group, its ending turned into a result or a named error."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quant_action.errors import WORKER_ERRORS, Cancelled, OutOfMemory, WorkerCrashed
from quant_action.workers.environment import interpreter, worker_variables
from quant_action.workers.protocol import PROGRESS_FD, REQUEST, RESULT

OnProgress = Callable[[str, int, int], None]
TAIL_LINES = 15
GRACE_SECONDS = 3.0
"""Between asking a worker's group to end and killing it; a cancelled CI job has 7.5 seconds in all."""


@dataclass(frozen=True, kw_only=True)
class WorkerResult:
    value: dict[str, Any]
    seconds: float
    peak_memory: int
    """Most bytes of host memory that the process held."""


def run_worker(
    *, environment: str, module: str, request: dict[str, Any], log: Path, on_progress: OnProgress, timeout: float | None = None
) -> WorkerResult:
    """Run `python -m module` on a request and wait for its result.

    Raises the named error that the worker reports (`errors.WORKER_ERRORS`), `OutOfMemory` when the system killed it, `WorkerCrashed`
    when it ended without a result or took longer than `timeout` seconds, and `Cancelled` on Ctrl-C; the whole process group is gone then.
    """
    python = interpreter(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quant-action-") as control, log.open("a", encoding="utf-8") as log_file:
        (Path(control) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        command = [str(python), "-P", "-m", module, control]  # -P: a file in the working folder must not become a module
        log_file.write(f"$ {shlex.join(command)}\n")
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        started = time.monotonic()
        status = _run(command, Path(control), worker_variables(environment, Path(control)), log_file, tail, on_progress, timeout)
        result_file = Path(control) / RESULT
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else None
    if result is None:
        raise _crash(module, status, "".join(tail), log)
    if "error" in result:
        error = result["error"]
        raise WORKER_ERRORS[error["kind"]](error["message"], where=error["where"], remedy=error["remedy"])
    return WorkerResult(value=result["value"], seconds=time.monotonic() - started, peak_memory=result["peak_memory"])


def _run(
    command: list[str],
    folder: Path,
    variables: dict[str, str],
    log: IO[str],
    tail: deque[str],
    on_progress: OnProgress,
    timeout: float | None,
) -> int:
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # the lifeline: it closes when this process ends, however it ends
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,  # libraries leave logs where they are started: that place goes when the worker has ended
        pass_fds=(write_end,),
        env=variables | {PROGRESS_FD: str(write_end)},
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
    )
    os.close(write_end)
    assert process.stdin is not None
    assert process.stdout is not None
    readers = [
        threading.Thread(target=_copy, args=(process.stdout, log, tail), daemon=True),
        threading.Thread(target=_follow, args=(read_end, on_progress), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise WorkerCrashed(f"no result after {timeout:.0f} seconds", remedy="Raise the time limit, or make the job smaller.") from None
    except KeyboardInterrupt:
        raise Cancelled("cancelled; what was complete is kept, run again to continue") from None
    finally:
        _end_group(process)
        for reader in readers:
            reader.join(GRACE_SECONDS)
        for stream in (process.stdin, process.stdout):
            stream.close()


def _copy(stream: IO[str], log: IO[str], tail: deque[str]) -> None:
    for line in stream:
        log.write(line)
        log.flush()
        tail.append(line)


def _follow(pipe: int, on_progress: OnProgress) -> None:
    with os.fdopen(pipe, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            event = json.loads(line)
            on_progress(event["step"], event["done"], event["total"])


def _end_group(process: subprocess.Popen[str]) -> None:
    """End whatever is left of the worker's process group, also what it started itself."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _crash(module: str, status: int, tail: str, log: Path) -> WorkerCrashed | OutOfMemory:
    last_lines = f"; the end of its log:\n{tail.rstrip()}" if tail else ""
    if status == -signal.SIGKILL:
        return OutOfMemory(
            f"the system killed {module}; the usual cause is that the host's memory was full{last_lines}",
            where=str(log),
            remedy="Use a machine with more memory, or fewer or shorter calibration samples.",
        )
    ending = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return WorkerCrashed(f"{module} ended with {ending} and no result{last_lines}", where=str(log), remedy="The log has the whole story.")
