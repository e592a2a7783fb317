"""What the kernel's counters and NVML's answers amount to; the texts and numbers are such as a shared two-core machine and a GPU gave."""

from __future__ import annotations

import time
from typing import Any

import pytest

from quant_action.hardware import Gpu
from quant_action.records import GpuState
from quant_action.speed.monitor import CpuReading, GpuReading, Limits, Monitor, Reading, cpu_of
from quant_action.speed.stability import case_doubts, cpu_state, gpu_state, machine_doubts

from .speeds import QUIET, timing

STAT = "cpu  2694124 370263 370615 3717178 51942 0 3033 3117 0 0\ncpu0 1347062 185131 185307 1858589 25971 0 1516 1558 0 0\nintr 1\n"
PRESSURE = "some avg10=0.00 avg60=0.43 avg300=2.33 total=7530711876\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
LIMITS = Limits(highest_clock=1980, power_limit=700.0)
IDLE = GpuReading(clock=345, temperature=31, power=75.0, reasons=(), processes=0, busy=0.0)
AT_WORK = GpuReading(clock=1980, temperature=44, power=410.0, reasons=(), processes=1, busy=0.98)


def cpu(at: float, *, total: int, idle: int, stolen: int = 0, waiting: int | None = 0) -> Reading:
    return Reading(at=at, cpu=CpuReading(total=total, idle=idle, stolen=stolen, waiting=waiting), gpu=None)


def gpu(before: GpuReading, *during: GpuReading) -> GpuState | None:
    def readings(*all: GpuReading) -> list[Reading]:
        return [Reading(at=float(number), cpu=None, gpu=one) for number, one in enumerate(all)]

    return gpu_state(readings(before), readings(*during), driver="580.159.04", limits=LIMITS)


def changed(reading: GpuReading, **changes: Any) -> GpuReading:
    return GpuReading(**(vars(reading) | changes))


def test_the_counters_of_the_kernel_are_read() -> None:
    assert cpu_of(STAT, PRESSURE) == CpuReading(total=7_210_272, idle=3_769_120, stolen=3117, waiting=7_530_711_876)
    assert cpu_of(STAT, None) == CpuReading(total=7_210_272, idle=3_769_120, stolen=3117, waiting=None)
    assert cpu_of("nothing of the kind", PRESSURE) is None


def test_a_quiet_machine_raises_no_doubt() -> None:
    before = [cpu(0, total=100, idle=100), cpu(0.5, total=200, idle=195)]
    during = [cpu(1, total=300, idle=250, waiting=0), cpu(11, total=2300, idle=1200, stolen=10, waiting=1_000_000)]
    state = cpu_state(before, during, model="Some CPU", cores=2, governor="performance")
    assert (state.busy_before, state.stolen, state.waiting) == pytest.approx((0.05, 0.005, 0.1))
    assert machine_doubts(state, gpu(IDLE, AT_WORK)) == ()


def test_a_kernel_that_says_nothing_raises_no_doubt() -> None:
    silent = [Reading(at=0.0, cpu=None, gpu=None)] * 2
    state = cpu_state(silent, silent, model="Some CPU", cores=2, governor=None)
    assert (state.busy_before, state.stolen, state.waiting) == (None, None, None)
    assert machine_doubts(state, None) == ()


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"busy_before": 0.5}, "other processes took 50% of the processor before"),
        ({"stolen": 0.08}, "the hypervisor took 8% of the processor away"),
        ({"waiting": 0.39}, "threads waited for a core in 39% of the time"),
    ],
)
def test_a_shared_processor_is_named(changes: dict[str, float], doubt: str) -> None:
    assert machine_doubts(QUIET.model_copy(update=changes), None) == (doubt,)


@pytest.mark.parametrize(
    ("before", "during", "doubts"),
    [
        (IDLE, changed(AT_WORK, reasons=("hardware thermal slowdown",)), ("the GPU was throttled: hardware thermal slowdown",)),
        (IDLE, changed(AT_WORK, reasons=("hardware power brake",)), ("the GPU was throttled: hardware power brake",)),
        (IDLE, changed(AT_WORK, reasons=("software power cap",)), ()),
        (IDLE, changed(AT_WORK, processes=3), ("2 other processes on the GPU",)),
        (changed(IDLE, processes=1), AT_WORK, ("1 other process on the GPU",)),
        (changed(IDLE, busy=0.6), AT_WORK, ("something else kept the GPU busy for 60% of the time before",)),
    ],
)
def test_a_throttled_or_shared_gpu_is_named(before: GpuReading, during: GpuReading, doubts: tuple[str, ...]) -> None:
    assert machine_doubts(QUIET, gpu(before, AT_WORK, during)) == doubts


def test_what_the_gpu_did_is_kept() -> None:
    state = gpu(IDLE, AT_WORK, changed(AT_WORK, clock=1755, temperature=61, power=698.5, reasons=("software power cap",)))
    assert state == GpuState(
        driver="580.159.04",
        clocks=(1755, 1980),
        highest_clock=1980,
        temperature=61,
        power=698.5,
        power_limit=700.0,
        throttled=("software power cap",),
        others=0,
        busy_before=0.0,
    )


def test_a_slice_of_a_gpu_that_says_little_is_no_fault() -> None:
    mute = GpuReading(clock=None, temperature=None, power=None, reasons=(), processes=0, busy=None)
    state = gpu(mute, mute)
    assert state is not None
    assert (state.clocks, state.power, state.others) == (None, None, 0)
    assert machine_doubts(QUIET, state) == ()


def test_runs_that_scatter_or_never_settled_are_named() -> None:
    calm, wild = timing([1.0] * 10), timing([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.3])
    assert case_doubts(calm, calm) == ()
    assert case_doubts(calm, wild) == ("the candidate's runs spread over 30% of their median",)
    assert case_doubts(timing([1.0] * 10, warmups=20, settled=False), calm) == ("the baseline did not settle in 20 runs",)


def test_the_machine_is_watched_until_the_work_is_over() -> None:
    with Monitor(None) as monitor:
        began = time.time()
        time.sleep(0.01)
        ended = time.time()
    assert monitor.before[0].at < monitor.before[1].at < began
    during = monitor.between(began, ended)
    assert during[0].at <= began
    assert during[-1].at >= ended
    assert all(reading.cpu for reading in during)


def test_a_gpu_that_nvml_does_not_know_is_not_watched() -> None:
    gone = Gpu(index=7, uuid="GPU-0", name="NVIDIA H200", capability=(9, 0), memory=1, free=1)
    with Monitor(gone) as monitor:
        pass
    assert monitor.limits == Limits(highest_clock=None, power_limit=None)
    assert [reading.gpu for reading in monitor.readings] == [None, None]
