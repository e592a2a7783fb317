"""Reads what the machine does while models are timed: the kernel's counters, and NVML's of the GPU.

It runs in the host's process, so that nothing is taken from the process that is timed. What cannot be read is None.
"""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quant_action.hardware import Gpu

INTERVAL = 0.5
"""Seconds between two readings; also of the look before anything is started."""

REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""Bits of NVML's clock event reasons that mean a clock lower than it could be; others say that nothing is to be done, or what was set."""


@dataclass(frozen=True, kw_only=True)
class CpuReading:
    """Counters since the machine was started."""

    total: int
    """Ticks of all cores."""
    idle: int
    stolen: int
    waiting: int | None
    """Microseconds in which somebody waited for a core."""


@dataclass(frozen=True, kw_only=True)
class GpuReading:
    clock: int | None
    """MHz, of the multiprocessors."""
    temperature: int | None
    power: float | None
    """Watts."""
    reasons: tuple[str, ...]
    processes: int
    busy: float | None
    """Share of the last moment in which a kernel ran."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    at: float
    """Seconds since 1970."""
    cpu: CpuReading | None
    gpu: GpuReading | None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a GPU; they do not change while it is watched."""

    highest_clock: int | None
    power_limit: float | None


class Monitor:
    """Within it a thread takes readings. `before` are two from before it, `INTERVAL` apart, when nothing of ours ran."""

    def __init__(self, gpu: Gpu | None) -> None:
        """Of the machine, and of a GPU where the work runs on one."""
        self._nvml = _open(gpu.index) if gpu else None
        self.limits = Limits(
            highest_clock=self._asked("nvmlDeviceGetMaxClockInfo", 1), power_limit=_watts(self._asked("nvmlDeviceGetEnforcedPowerLimit"))
        )
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.before: tuple[Reading, Reading]
        self.readings: list[Reading] = []

    def __enter__(self) -> Self:
        first = self._read()
        time.sleep(INTERVAL)
        self.before = (first, self._read())
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._watcher.join()
        if self._nvml:
            self._nvml[0].nvmlShutdown()

    def between(self, began: float, ended: float) -> list[Reading]:
        """Those of a span of time, and one to each side of it: counters need two readings."""
        inside = [number for number, reading in enumerate(self.readings) if began <= reading.at <= ended]
        first, last = (inside[0], inside[-1]) if inside else (len(self.readings), -1)
        before = [number for number, reading in enumerate(self.readings) if reading.at < began]
        after = [number for number, reading in enumerate(self.readings) if reading.at > ended]
        start, end = min([first, *before[-1:]]), max([last, *after[:1]])
        return self.readings[start : end + 1]

    def _watch(self) -> None:
        while True:
            self.readings.append(self._read())
            if self._ended.wait(INTERVAL):
                self.readings.append(self._read())
                return

    def _read(self) -> Reading:
        return Reading(at=time.time(), cpu=read_cpu(), gpu=self._gpu() if self._nvml else None)

    def _gpu(self) -> GpuReading:
        reasons = self._asked("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        running = self._asked("nvmlDeviceGetComputeRunningProcesses") or ()
        busy = self._asked("nvmlDeviceGetUtilizationRates")
        return GpuReading(
            clock=self._asked("nvmlDeviceGetClockInfo", 1),  # 1: NVML_CLOCK_SM
            temperature=self._asked("nvmlDeviceGetTemperature", 0),  # 0: NVML_TEMPERATURE_GPU
            power=_watts(self._asked("nvmlDeviceGetPowerUsage")),
            reasons=tuple(name for bit, name in REASONS.items() if reasons & bit),
            processes=len({process.pid for process in running}),
            busy=None if busy is None else busy.gpu / 100,
        )

    def _asked(self, question: str, *more: int) -> Any:
        """What NVML answers; None where this GPU, a slice of one for instance, does not say."""
        if self._nvml is None:
            return None
        nvml, handle = self._nvml
        try:
            return getattr(nvml, question)(handle, *more)
        except nvml.NVMLError:
            return None


def _open(index: int) -> tuple[Any, Any] | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError:
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def read_cpu() -> CpuReading | None:
    """None where the kernel does not show its counters."""
    try:
        return cpu_of(Path("/proc/stat").read_text(encoding="ascii"), _text(Path("/proc/pressure/cpu")))
    except OSError:
        return None


def cpu_of(stat: str, pressure: str | None) -> CpuReading | None:
    """Of the texts of /proc/stat (user, nice, system, idle, iowait, irq, softirq, steal, ...) and /proc/pressure/cpu."""
    found = re.match(r"cpu +([\d ]+)$", stat, re.MULTILINE)
    ticks = [int(number) for number in found[1].split()][:8] if found else []
    if len(ticks) < 8:
        return None
    waited = re.search(r"^some .*total=(\d+)", pressure or "", re.MULTILINE)
    return CpuReading(total=sum(ticks), idle=ticks[3] + ticks[4], stolen=ticks[7], waiting=int(waited[1]) if waited else None)


def governor() -> str | None:
    """Of the first core that this process may run on."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return _text(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"))


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None
