"""Records of speed made of given seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant_action.records import CpuState, Phase, Speed, SpeedCase, TimedCase, Timing

QUIET = CpuState(model="Some CPU", cores=2, governor=None, busy_before=0.01, stolen=0.0, waiting=0.02)
Seconds = Sequence[float]


def case(phase: Phase, tokens: int, batch: int = 1) -> SpeedCase:
    return SpeedCase(phase=phase, tokens=tokens, batch=batch)


def timing(seconds: Seconds, **changes: Any) -> Timing:
    return Timing(**({"seconds": tuple(seconds), "warmups": 3, "settled": True, "peak_gpu_memory": None} | changes))


def timed(case: SpeedCase, baseline: Seconds, candidate: Seconds, *, unstable: tuple[str, ...] = ()) -> TimedCase:
    return TimedCase(case=case, baseline=timing(baseline), candidate=timing(candidate), unstable=unstable)


def speed(cases: Mapping[SpeedCase, tuple[Seconds, Seconds]], **changes: Any) -> Speed:
    """Case -> seconds of the baseline's runs and of the candidate's."""
    record = Speed(
        key="k",
        artifact="a",
        cases=tuple(timed(case, baseline, candidate) for case, (baseline, candidate) in cases.items()),
        turns="runs",
        runtime="transformers 5.17.0 with gptqmodel 7.6.0",
        kernels={"MarlinLinear": 28},
        dtypes=("bfloat16", "bfloat16"),
        unstable=(),
        gpu=None,
        cpu=QUIET,
        measured="2026-11-23T12:00:00+00:00",
        seconds=20.0,
        peak_memory=10**9,
        peak_gpu_memory=None,
        device="cpu x86_64",
        versions={"torch": "2.13.0"},
    )
    return record.model_copy(update=changes)
