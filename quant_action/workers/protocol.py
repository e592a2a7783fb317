"""The worker's half of the conversation between the host and a child process.

A control folder holds `request.json` (the host writes it) and `result.json` (the worker writes it, last, under its final name). Progress
goes as JSON lines to the file descriptor in `QUANT_ACTION_PROGRESS_FD`, and stdout and stderr are free for people and libraries. An
expected failure is data: `{"error": {"kind", "message", "where", "remedy"}}`; a worker that ends without a result file has crashed.
Standard input is a lifeline: when it ends, the host is gone and the worker follows it, so that no orphan holds a GPU.

This module needs the standard library, `errors.py` and `diagnosis.py` only, so that it runs in any engine's environment.
"""

from __future__ import annotations

import faulthandler
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

from quant_action.workers.diagnosis import expected, short_of_memory

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
    faulthandler.enable(all_threads=False)  # a crash leaves where it happened in the log; the end of it is in the error
    control = Path(sys.argv[1])
    threading.Thread(target=_end_with_host, daemon=True).start()
    request = json.loads((control / REQUEST).read_text(encoding="utf-8"))
    try:
        result: dict[str, Any] = {"value": handler(request, Progress())}
    except Exception as error:
        known = expected(error) or short_of_memory(error)
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


def _end_with_host() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGKILL)  # the host made this process the leader of a group of its own
