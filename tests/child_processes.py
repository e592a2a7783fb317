"""What is done to a worker from outside, as a kernel, a faulty library or a full machine does it."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

OnProgress = Callable[[str, int, int], None]


def worker_of_this_process(module: str) -> int | None:
    """Process id of the child that runs `module`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and module.encode() in (stat.parent / "cmdline").read_bytes().split(b"\0"):
                return int(stat.parent.name)
        except OSError:
            continue
    return None


def no_more_memory(pid: int) -> None:
    """Not a byte more of address space than it has: its next large allocation fails, in whichever library that is."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def segmentation_fault(pid: int) -> None:
    os.kill(pid, signal.SIGSEGV)


def at_first_progress(module: str, act: Callable[[int], None]) -> OnProgress:
    """Does `act` to the worker when it first says how far it is."""
    done: list[int] = []

    def on_progress(step: str, count: int, total: int) -> None:
        pid = worker_of_this_process(module)
        if not done and pid is not None:
            done.append(pid)
            act(pid)

    return on_progress


def kill_when_it_starts(module: str) -> None:
    """SIGKILL, as from the kernel's out-of-memory killer, while the libraries are still being loaded."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 60
        while (pid := worker_of_this_process(module)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()
