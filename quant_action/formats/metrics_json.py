"""Flat numbers, `candidate.metric` -> value: what `dvc metrics diff` and a dashboard read."""

from __future__ import annotations

import json

from quant_action.formats.interface import Format, Report, Row

DIGITS = 6
"""Significant ones; more would show differences that are none."""

SUFFIXES = {"x": "_ratio", "pp": "_change"}
"""Of a metric's id, by the unit of the comparison."""


def render(report: Report) -> str:
    numbers = {f"baseline.{metric}": value for metric, value in _numbers(report.baseline).items()}
    for reference in filter(None, (report.release, report.floor)):
        numbers |= {f"{reference.id}.{metric}": value for metric, value in _numbers(reference).items()}
    numbers |= {f"{row.id}.{metric}": value for row in report.rows for metric, value in _numbers(row).items()}
    return json.dumps({key: _rounded(value) for key, value in numbers.items()}, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _numbers(row: Row) -> dict[str, float]:
    """What was measured, how it compares with baseline and release, and what it cost; what is a comparison already stands once."""
    changes = {f"{metric}{SUFFIXES[change.unit]}": change.value for metric, change in row.changes.items() if change.unit in SUFFIXES}
    released = {
        f"{metric}{SUFFIXES[change.unit]}_vs_release": change.value
        for metric, change in row.release_changes.items()
        if change.unit in SUFFIXES
    }
    shares = {metric: change.value for metric, change in row.changes.items() if change.unit not in SUFFIXES and metric not in row.metrics}
    costs = {
        "size": row.size,
        "quantize_seconds": row.quantize_seconds,
        "quantize_memory": row.quantize_memory,
        "memory": row.evaluate_memory,
        "runtime_kl": row.runtime.difference.kl if row.runtime else None,
    }
    measured = {metric: found.value for metric, found in row.metrics.items()}
    return measured | shares | changes | released | {name: value for name, value in costs.items() if value is not None}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


METRICS_JSON = Format(name="metrics", file="metrics.json", render=render)
