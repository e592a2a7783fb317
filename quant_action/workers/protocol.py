"""The worker's half of the conversation between the host and a child process.

A control folder holds `request.json` (the host writes it) and `result.json` (the worker writes it, last, under its final name). Progress
goes as JSON lines to the file descriptor in `QUANT_ACTION_PROGRESS_FD`, and stdout and stderr are free for people and libraries. An
expected failure is data: `{"error": {"kind", "message", "where", "remedy"}}`; a worker that ends without a result file has crashed.
Standard input is a lifeline: when it ends, the host is gone and the worker follows it, so that no orphan holds a GPU.

This module needs the standard library and `errors.py` only, so that it runs in any engine's environment.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quant_action.errors import DiskFull, OutOfMemory, QuantActionError

PROGRESS_FD = "QUANT_ACTION_PROGRESS_FD"
REQUEST, RESULT = "request.json", "result.json"


class Progress:
    """Tells the host how far a step is; cheap enough to call for every layer or batch."""

    def __init__(self) -> None:
        descriptor = os.environ.pop(PROGRESS_FD, None)
        self._pipe = os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1) if descriptor else None

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._pipe:
            self._pipe.write(json.dumps({"step": step, "done": done, "total": total}) + "\n")


Handler = Callable[[dict[str, Any], Progress], dict[str, Any]]


def serve(handler: Handler) -> None:
    """Entry point of a worker module: run `handler` on the request of the control folder in `sys.argv[1]` and write its result."""
    control = Path(sys.argv[1])
    threading.Thread(target=_end_with_host, daemon=True).start()
    request = json.loads((control / REQUEST).read_text(encoding="utf-8"))
    try:
        result: dict[str, Any] = {"value": handler(request, Progress())}
    except Exception as error:
        known = expected(error)
        if known is None:
            raise
        traceback.print_exc()  # into the log, for whoever wants to know more than the message
        result = {
            "error": {
                "kind": type(known).__name__,
                "message": known.args[0],
                "where": known.where,
                "remedy": known.remedy,
            }
        }
    result["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    temporary = control / (RESULT + ".part")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(control / RESULT)


def expected(error: Exception) -> QuantActionError | None:
    """The named error that `error` amounts to, or None for a crash.

    Libraries are recognised by name and text: they are not imported here.
    """
    if isinstance(error, QuantActionError):
        return error
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text:
        return OutOfMemory(
            f"the GPU's memory is full ({_first_line(text)})",
            remedy="Use a larger GPU, fewer or shorter calibration samples, or close what else runs on it.",
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "Cannot allocate memory" in text:
        return OutOfMemory(
            f"the host's memory is full ({_first_line(text)})",
            remedy="Use a machine with more memory, or fewer or shorter calibration samples.",
        )
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or "No space left on device" in text or "File too large" in text:
        return DiskFull(
            f"no space left while saving ({_first_line(text)})",
            remedy="Free space or point --cache at a larger disk, then run again: what was complete is kept.",
        )
    return None


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200]


def _end_with_host() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGKILL)  # the host made this process the leader of a group of its own
