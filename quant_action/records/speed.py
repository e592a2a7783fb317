"""How fast an artifact is beside the unquantized model, by the library that serves it on one machine."""

from __future__ import annotations

from statistics import quantiles
from typing import ClassVar, Literal

from quant_action.records.base import Record, Value
from quant_action.records.plan import Phase, SpeedCase
from quant_action.records.results import Estimate


class Timing(Value):
    """One model in one case."""

    seconds: tuple[float, ...]
    """One figure per pair: of a run, or where models were loaded in turns the median of a block of runs."""
    warmups: int
    """Runs before those, which are not counted."""
    settled: bool
    """Whether the last three of them agreed."""
    peak_gpu_memory: int | None
    """Most bytes that the model held on the GPU with what it worked on, what the other model held left out."""

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """The tenth percentile, the median and the ninetieth, seconds."""
        tenths = quantiles(self.seconds, n=10, method="inclusive")
        return tenths[0], tenths[4], tenths[8]


class TimedCase(Value):
    """Both models in one case, pair by pair."""

    case: SpeedCase
    baseline: Timing
    candidate: Timing
    unstable: tuple[str, ...]
    """Why these figures are not to be relied on, beside what holds for all cases; empty where nothing speaks against them."""


class GpuState(Value):
    """What NVML said while models were timed."""

    driver: str
    clocks: tuple[int, int] | None
    """Lowest and highest clock of the multiprocessors, MHz."""
    highest_clock: int | None
    """That the GPU can have, MHz."""
    temperature: int | None
    """Highest, degrees Celsius."""
    power: float | None
    """Highest, watts."""
    power_limit: float | None
    throttled: tuple[str, ...]
    """Every reason that NVML gave for a lower clock."""
    others: int
    """Most processes on it at one time beside the one that timed."""
    busy_before: float | None
    """Share of the moment before the timing process was started in which a kernel of somebody ran."""


class CpuState(Value):
    """What the kernel said; shares are of all processor time of the machine."""

    model: str
    cores: int
    """That the process may run on."""
    governor: str | None
    """Of the clock, where the kernel shows it."""
    busy_before: float | None
    """Share that other processes took just before the timing process was started; None where the kernel does not say."""
    stolen: float | None
    """Share that the hypervisor gave to others while models were timed; likewise."""
    waiting: float | None
    """Share of the time in which somebody waited for a core (`/proc/pressure/cpu`); None where the kernel does not count it."""


class Speed(Record):
    """A candidate timed beside the baseline, in one process, run by run or block by block in turns."""

    SCHEMA: ClassVar[str] = "quant_action.speed/v1"

    key: str
    artifact: str
    """Digest of the candidate's manifest."""
    cases: tuple[TimedCase, ...]
    turns: Literal["runs", "blocks"]
    """`runs`: both models were in memory. `blocks`: they did not fit together, and were loaded in turns."""
    runtime: str
    """With versions: `transformers 5.17.0 with gptqmodel 7.6.0`. Other servers have other speeds."""
    backend: str | None = None
    kernels: dict[str, int]
    """Both as in `RuntimeCheck`."""
    dtypes: tuple[str, str]
    """Of the activations: the baseline's, the candidate's."""
    unstable: tuple[str, ...]
    """Why no figure is to be relied on: the GPU was throttled, the machine shared."""
    gpu: GpuState | None
    cpu: CpuState
    measured: str
    """When: ISO 8601, UTC."""
    seconds: float
    peak_memory: int
    peak_gpu_memory: int | None
    """Most bytes that the process held, of both models where both were loaded."""
    estimate: Estimate | None = None
    """As in `Candidate`."""
    device: str
    versions: dict[str, str]

    @property
    def is_stable(self) -> bool:
        """Whether every figure is to be relied on."""
        return not self.unstable and not any(timed.unstable for timed in self.cases)

    def first(self, phase: Phase) -> TimedCase | None:
        """The case of a phase that gates look at."""
        return next((timed for timed in self.cases if timed.case.phase == phase), None)
