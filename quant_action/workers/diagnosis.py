"""What a library's error, or the last words of a process that died, amount to.

Libraries are recognised by the names and texts of their errors and not imported, so that this runs in any engine's environment and in
the host. `tests/unit/test_diagnosis.py` has the texts.
"""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quant_action.errors import DiskFull, EnvironmentMissing, OutOfMemory, QuantActionError, RunError


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """Words that give a cause away. The first of `SYMPTOMS` that fits counts."""

    words: re.Pattern[str]
    error: type[RunError]
    what: str
    remedy: str

    def named(self, evidence: str) -> RunError:
        return self.error(f"{self.what} ({evidence.strip()[:200]})", remedy=self.remedy)


GPU_FULL = Symptom(
    words=re.compile(
        r"CUDA out of memory|CUDA (driver )?error: out of memory|Error \[CUDA\]: out of memory|cudaErrorMemoryAllocation"
        r"|CUDA_ERROR_OUT_OF_MEMORY|CU[A-Z]+_(STATUS|ERROR)_ALLOC_FAILED|\bOutOfMemoryError"
    ),
    error=OutOfMemory,
    what="the GPU's memory is full",
    remedy="Use a larger GPU, fewer or shorter calibration samples, or close what else runs on it.",
)
HOST_FULL = Symptom(
    words=re.compile(r"MemoryError|[Cc]an(no|')t allocate memory|std::bad_alloc|memory allocation of \d+ bytes failed"),
    error=OutOfMemory,
    what="the host's memory is full",
    remedy="Use a machine with more memory, or fewer or shorter calibration samples.",
)
DISK_FULL = Symptom(
    words=re.compile(r"No space left on device|File too large|Disk quota exceeded"),
    error=DiskFull,
    what="no space left while saving",
    remedy="Free space or point --cache at a larger disk, then run again: what was complete is kept.",
)
SYMPTOMS = (
    GPU_FULL,
    HOST_FULL,
    Symptom(  # the same refusal of the kernel, whichever of the two is short
        words=re.compile(r"can't start new thread|Thread creation failed|pthread_create.*Resource temporarily unavailable"),
        error=OutOfMemory,
        what="no room for another thread",
        remedy="Give the job more memory, or let it have more processes (ulimit -u, a container's limit of pids).",
    ),
    DISK_FULL,
    Symptom(
        words=re.compile(r"[Tt]orch (was )?not compiled with CUDA"),
        error=EnvironmentMissing,
        what="this build of torch has no CUDA",
        remedy="Install a build of torch for CUDA, or leave the GPU out with --device cpu.",
    ),
    Symptom(
        words=re.compile(r"CUDA driver version is insufficient|NVIDIA driver on your system is too old|unsupported PTX version"),
        error=EnvironmentMissing,
        what="the GPU's driver is too old for the CUDA that torch was built with",
        remedy="Install a newer NVIDIA driver, or a build of torch for an older CUDA.",
    ),
    Symptom(
        words=re.compile(
            r"Found no NVIDIA driver|libcuda\.so[.\d]*: cannot open shared object file|No CUDA GPUs are available"
            r"|no CUDA-capable device is detected"
        ),
        error=EnvironmentMissing,
        what="no usable NVIDIA GPU or driver",
        remedy="Make nvidia-smi work here (in a container: --gpus all), or leave the GPU out with --device cpu.",
    ),
    Symptom(
        words=re.compile(r"no kernel image is available|device kernel image is invalid"),
        error=EnvironmentMissing,
        what="a library has no code for this GPU",
        remedy="Install a build of it for this GPU's compute capability, or use another GPU or engine.",
    ),
)


def expected(error: BaseException) -> QuantActionError | None:
    """The named error that `error`, or what it was raised from, amounts to; None for a crash."""
    if isinstance(error, QuantActionError):
        return error
    for link in _chain(error):
        text = f"{type(link).__name__}: {link}".removesuffix(": ")
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return DISK_FULL.named(_line(text, 0))
        if (named := named_in(text)) is not None:
            return named
    return None


def named_in(text: str) -> RunError | None:
    """The error that a message or the end of a log gives away, with the line that does; None when there is no known sign."""
    for symptom in SYMPTOMS:
        if found := symptom.words.search(text):
            return symptom.named(_line(text, found.start()))
    return None


def short_of_memory(error: BaseException) -> RunError | None:
    """For an error that says nothing: libraries swallow a failed allocation and complain of something else.

    `OutOfMemory` when this process has come within 5% of the address space that it may have (ulimit -v), else None.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed == resource.RLIM_INFINITY or _most_address_space() < 0.95 * allowed:
        return None
    return HOST_FULL.named(f"it may have {allowed / 1e9:.3g} GB, ulimit -v; {type(error).__name__}: {_line(str(error), 0)}")


def _most_address_space() -> int:
    """Bytes, of this process until now; Linux counts in KiB."""
    found = re.search(r"^VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on; libraries wrap what they catch."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _line(text: str, position: int) -> str:
    """The line of `text` in which `position` lies."""
    start = text.rfind("\n", 0, position) + 1
    return (text[start:].splitlines() or [""])[0]
