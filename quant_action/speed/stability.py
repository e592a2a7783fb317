"""What readings of the machine and the spread of runs amount to: may the figures be relied on? Pure.

A power cap alone does not make figures unstable: it is how a large GPU runs under full load, both models meet it in turns, and its
drift is in the interval. Heat, a power brake and other processes come and go with the room and the neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.records import CpuState, GpuState, TimedCase, Timing
from quant_action.speed.monitor import CpuReading, Limits, Reading

BUSY = 0.10
"""Share of the processor, or of a GPU's time, that others may take before."""

STOLEN = 0.02
WAITING = 0.25
"""Threads of one process wait for each other's cores now and then; two processes that both want all cores wait all the time."""

SPREAD = 0.20
"""Of the middle 80% of runs, over their median."""

EXPECTED = frozenset({"software power cap"})


def cpu_state(before: Sequence[Reading], during: Sequence[Reading], *, model: str, cores: int, governor: str | None) -> CpuState:
    """From two readings before and those while models were timed."""
    quiet, timed = _ticks(before), _ticks(during)
    return CpuState(
        model=model,
        cores=cores,
        governor=governor,
        busy_before=1 - quiet.idle / quiet.total if quiet else None,
        stolen=timed.stolen / timed.total if timed else None,
        waiting=_waiting(during),
    )


def gpu_state(before: Sequence[Reading], during: Sequence[Reading], *, driver: str, limits: Limits) -> GpuState | None:
    """None where NVML did not answer."""
    seen = [reading.gpu for reading in during if reading.gpu]
    earlier = [reading.gpu for reading in before if reading.gpu]
    if not seen:
        return None
    clocks = [reading.clock for reading in seen if reading.clock is not None]
    return GpuState(
        driver=driver,
        clocks=(min(clocks), max(clocks)) if clocks else None,
        highest_clock=limits.highest_clock,
        temperature=max((reading.temperature for reading in seen if reading.temperature is not None), default=None),
        power=max((reading.power for reading in seen if reading.power is not None), default=None),
        power_limit=limits.power_limit,
        throttled=tuple(sorted({reason for reading in seen for reason in reading.reasons})),
        others=max([reading.processes for reading in earlier] + [reading.processes - 1 for reading in seen] + [0]),
        busy_before=max((reading.busy for reading in earlier[-1:] if reading.busy is not None), default=None),
    )


def machine_doubts(cpu: CpuState, gpu: GpuState | None) -> tuple[str, ...]:
    """Why no figure is to be relied on."""
    found = []
    if gpu:
        found += [f"the GPU was throttled: {reason}" for reason in gpu.throttled if reason not in EXPECTED]
        if gpu.others:
            found.append(f"{gpu.others} other process{'es' if gpu.others > 1 else ''} on the GPU")
        if gpu.busy_before is not None and gpu.busy_before > BUSY:
            found.append(f"something else kept the GPU busy for {gpu.busy_before:.0%} of the time before")
    if cpu.busy_before is not None and cpu.busy_before > BUSY:
        found.append(f"other processes took {cpu.busy_before:.0%} of the processor before")
    if cpu.stolen is not None and cpu.stolen > STOLEN:
        found.append(f"the hypervisor took {cpu.stolen:.0%} of the processor away")
    if cpu.waiting is not None and cpu.waiting > WAITING:
        found.append(f"threads waited for a core in {cpu.waiting:.0%} of the time")
    return tuple(found)


def case_doubts(baseline: Timing, candidate: Timing) -> tuple[str, ...]:
    """Why the figures of one case are not to be relied on."""
    found = []
    for who, timing in (("baseline", baseline), ("candidate", candidate)):
        if not timing.settled:
            found.append(f"the {who} did not settle in {timing.warmups} runs")
        low, middle, high = timing.quantiles
        if high - low > SPREAD * middle:
            found.append(f"the {who}'s runs spread over {(high - low) / middle:.0%} of their median")
    return tuple(found)


def doubtful(timed: TimedCase) -> TimedCase:
    """The same case with what speaks against its figures."""
    return timed.model_copy(update={"unstable": case_doubts(timed.baseline, timed.candidate)})


def _ticks(readings: Sequence[Reading]) -> CpuReading | None:
    """What was counted from the first of them to the last."""
    found = [reading.cpu for reading in readings if reading.cpu]
    if len(found) < 2 or found[-1].total <= found[0].total:
        return None
    first, last = found[0], found[-1]
    return CpuReading(total=last.total - first.total, idle=last.idle - first.idle, stolen=last.stolen - first.stolen, waiting=None)


def _waiting(readings: Sequence[Reading]) -> float | None:
    found = [(reading.at, reading.cpu.waiting) for reading in readings if reading.cpu and reading.cpu.waiting is not None]
    if len(found) < 2 or found[-1][0] <= found[0][0]:
        return None
    return min((found[-1][1] - found[0][1]) / 1e6 / (found[-1][0] - found[0][0]), 1.0)  # two clocks, read one after the other
