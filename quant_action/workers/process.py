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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quant_action.errors import WORKER_ERRORS, Cancelled, OutOfMemory, QuantActionError, RunError, TimedOut, WorkerCrashed
from quant_action.workers.diagnosis import named_in
from quant_action.workers.environment import interpreter, worker_variables
from quant_action.workers.protocol import PROGRESS_FD, REQUEST, RESULT

OnProgress = Callable[[str, int, int], None]
TAIL_LINES, TAIL_WIDTH = 30, 400
"""Of the log, in an error; longer lines are cut there, not in the log."""

GRACE_SECONDS = 3.0
"""Between asking a worker's group to end and killing it; a cancelled CI job has 7.5 seconds in all."""


@dataclass(frozen=True, kw_only=True)
class WorkerResult:
    value: dict[str, Any]
    seconds: float
    peak_memory: int
    """Most bytes of host memory that the process held."""


def run_worker(
    *,
    environment: str,
    module: str,
    request: dict[str, Any],
    log: Path,
    on_progress: OnProgress,
    job: str = "",
    timeout: float | None = None,
) -> WorkerResult:
    """Run `python -m module` on a request and wait for its result; `job` is what errors call it, such as `quantizing gptq-w4`.

    Raises the named error that the worker reports (`errors.WORKER_ERRORS`) or that its last words give away (`diagnosis.SYMPTOMS`),
    `OutOfMemory` when the system killed it, `WorkerCrashed` when it ended without a result, `TimedOut` when it took longer than
    `timeout` seconds, and `Cancelled` on Ctrl-C. The whole process group is gone then.
    """
    python = interpreter(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quant-action-") as control, log.open("a", encoding="utf-8") as log_file:
        (Path(control) / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        # -P: a file in the working folder must not become a module
        command = [str(python), "-P", "-X", "faulthandler", "-m", module, control]
        log_file.write(f"$ {shlex.join(command)}\n")
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        started = time.monotonic()
        variables = worker_variables(environment, Path(control), module)
        try:
            status = _run(command, Path(control), variables, log_file, tail, on_progress, timeout)
        except subprocess.TimeoutExpired:
            raise _timed_out(job or module, timeout or 0, list(tail), log) from None
        seconds = time.monotonic() - started
        answer = Path(control) / RESULT
        result = _json(answer.read_text(encoding="utf-8", errors="replace")) if answer.is_file() else None
    match result:
        case {"value": dict(value), "peak_memory": int(peak_memory)}:
            return WorkerResult(value=value, seconds=seconds, peak_memory=peak_memory)
        case {"error": {"kind": str(kind), "message": str(message), "where": where, "remedy": remedy}} if kind in WORKER_ERRORS:
            raise _reported(WORKER_ERRORS[kind], message, where, remedy, job)
        case _:
            raise _crash(job, module, status, list(tail), log)


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
    except KeyboardInterrupt:
        raise Cancelled("cancelled; what was complete is kept, run again to continue") from None
    finally:
        _end_group(process)
        for reader in readers:
            reader.join(GRACE_SECONDS)
        process.stdin.close()


def _copy(stream: IO[str], log: IO[str], tail: deque[str]) -> None:
    """Closing is the reader's: it may go on as long as something that left the worker's group holds the other end."""
    with stream:
        for line in stream:
            if log.closed:
                return
            log.write(line)
            log.flush()
            tail.append(line)


def _follow(pipe: int, on_progress: OnProgress) -> None:
    with os.fdopen(pipe, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match _json(line):
                case {"step": str(step), "done": int(done), "total": int(total)}:
                    on_progress(step, done, total)
                case _:  # whoever talks nonsense is still listened to, or the pipe would fill up and the worker wait for ever
                    continue


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


def _json(text: str) -> Any:
    """What a worker wrote, whatever it is; None where it cannot be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _reported(kind: type[QuantActionError], message: str, where: Any, remedy: Any, job: str) -> QuantActionError:
    """Bad input stands in a file, which the error names; for a breakage it matters which job broke."""
    prefix = f"{job}: " if job and issubclass(kind, RunError) else ""
    return kind(prefix + message, where=where and str(where), remedy=remedy and str(remedy))


def _timed_out(job: str, timeout: float, tail: Sequence[str], log: Path) -> TimedOut:
    return TimedOut(
        f"{job} had no result after {_duration(timeout)}{_last_words(tail)}",
        where=str(log),
        remedy="Raise --timeout, or make the job smaller: fewer or shorter calibration samples, fewer items to measure.",
    )


def _crash(job: str, module: str, status: int, tail: Sequence[str], log: Path) -> RunError:
    """The ending of a worker that left no result, by its last words and by how it ended."""
    prefix, last_words = f"{job}: " if job else "", _last_words(tail)
    ending = f"signal {_signal_name(-status)}" if status < 0 else f"exit status {status}"
    if named := named_in("".join(tail)):
        return type(named)(f"{prefix}{named.args[0]}: {module} ended with {ending}{last_words}", where=str(log), remedy=named.remedy)
    if status == -signal.SIGKILL:
        return OutOfMemory(
            f"{prefix}the system killed {module}; the usual cause is that the host's memory was full{last_words}",
            where=str(log),
            remedy="Use a machine with more memory, or fewer or shorter calibration samples.",
        )
    return WorkerCrashed(
        f"{prefix}{module} ended with {ending} and no result{last_words}",
        where=str(log),
        remedy="The log has the whole story; if it happens again, try another engine.",
    )


def _last_words(tail: Sequence[str]) -> str:
    lines = [line.rstrip()[:TAIL_WIDTH] for line in tail]
    return "; the end of its log:\n" + "\n".join(lines) if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time ones have no names of their own
        return str(number)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
