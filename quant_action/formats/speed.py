"""What each format says of speed: a table with a line for each case of each candidate, and what stands below it."""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.formats.interface import Row
from quant_action.formats.wording import NOTHING, UNSTABLE, format_interval, format_ratio, sentence
from quant_action.metrics.speed import times_as_fast
from quant_action.metrics.units import spell
from quant_action.records import GpuState, Speed, TimedCase, Timing

HEADER = ("candidate", "case", "speed, × baseline", "tokens/s", "baseline's tokens/s", "time, ms", "baseline's time, ms", "pairs")
LEFT = 2
"""Columns of words; the others are numbers."""

SUMMARY = "beside the baseline, in turns; median [p10–p90]; 90% interval of the ratio"


def lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Cells under `HEADER`, not escaped."""
    return [_line(row, row.speed, timed) for row in rows if row.speed for timed in row.speed.cases]


def notes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(candidate, sentences): with what it was run, when and where, and what speaks against the figures."""
    return [(row.id, _note(row)) for row in rows if row.speed or row.untimed]


def summaries(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(candidate, its ratios in one line)."""
    return [(row.id, _summary(row)) for row in rows if row.speed or row.untimed]


def _summary(row: Row) -> str:
    if row.speed is None:
        return _note(row)
    cases = ((timed.case.id, bool(row.speed.unstable or timed.unstable), times_as_fast(timed)[0]) for timed in row.speed.cases)
    said = ", ".join(f"{UNSTABLE if unstable else ''}{id} {spell(ratio, 'x', digits=2)}" for id, unstable, ratio in cases)
    return f"{said} (baseline ×1){'' if row.speed.is_stable else '; ⚠ unstable, the report says why'}"


def _line(row: Row, speed: Speed, timed: TimedCase) -> tuple[str, ...]:
    ratio, interval = times_as_fast(timed)
    mark = UNSTABLE if speed.unstable or timed.unstable else ""
    tokens = timed.case.tokens * timed.case.batch
    rates = (f"{tokens / timing.quantiles[1]:,.0f}" for timing in (timed.candidate, timed.baseline))
    return (
        row.id,
        timed.case.id,
        f"{mark}{format_ratio(ratio)} {format_interval(interval, 'x')}",
        *rates,
        _milliseconds(timed.candidate),
        _milliseconds(timed.baseline),
        str(len(timed.baseline.seconds)),
    )


def _milliseconds(timing: Timing) -> str:
    """`12.3 [12.1–13.0]`: the median and the middle 80%."""
    low, middle, high = (f"{1000 * seconds:,.{2 if timing.quantiles[1] < 0.01 else 1}f}" for seconds in timing.quantiles)
    return f"{middle} [{low}–{high}]"


def _note(row: Row) -> str:
    if row.speed is None:
        failure = row.untimed
        return f"not timed: {sentence(failure.message)} {failure.remedy or ''}".strip() if failure else NOTHING
    speed = row.speed
    kernels = ", ".join(f"{name} × {count}" for name, count in speed.kernels.items())
    told = f" (told backend={speed.backend})" if speed.backend else ""
    said = [f"{speed.runtime}, {kernels}{told}, in {speed.dtypes[1]} (baseline {speed.dtypes[0]})", f"measured {speed.measured}"]
    if speed.turns == "blocks":
        said.append("the two models did not fit together and were loaded in turns, a figure being the median of a block of runs")
    said.append(_gpu(speed.device, speed.gpu) if speed.gpu else f"{speed.cpu.model}, {speed.cpu.cores} cores")
    doubts = [*speed.unstable, *(f"{timed.case.id}: {doubt}" for timed in speed.cases for doubt in timed.unstable)]
    return sentence("; ".join(said)) + (f" {UNSTABLE}Unstable: {sentence('; '.join(doubts))}" if doubts else "")


def _gpu(name: str, gpu: GpuState) -> str:
    clocks = f"{gpu.clocks[0]} to {gpu.clocks[1]} MHz" if gpu.clocks else ""
    power = f"at most {gpu.power:.0f} W" if gpu.power is not None else ""
    heat = f"at most {gpu.temperature} °C" if gpu.temperature is not None else ""
    return ", ".join(filter(None, [name, f"driver {gpu.driver}", clocks, power, heat, *gpu.throttled]))
