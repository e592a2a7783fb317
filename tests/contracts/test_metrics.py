"""What holds for every metric."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pytest

from quant_action.metrics import METRICS
from quant_action.metrics.interface import Metric, Subject
from quant_action.records import Phase
from tests.unit.speeds import case, speed
from tests.unit.subjects import subject

EVERY_METRIC = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.id)


def measured(damage: float, *, kind: Literal["baseline", "candidate"] = "candidate") -> Subject:
    """Windows, items and times that `damage` makes worse in every respect."""
    noise = np.random.default_rng(0).random((12, 40))
    wrong = int(100 * damage)
    slower = {case(phase, 8): ([1.0] * 6, [1 + damage] * 6) for phase in get_args(Phase)}
    found = subject(
        kind=kind,
        nll=2 + noise + damage,
        kl=noise * damage,
        top1=noise > damage,
        long_kl=noise * damage,
        items={"a": [an_answer(ruined=index < wrong, sound=int(20 * (1 - damage))) for index in range(100)]},
        size=int(1000 * (1 + damage)),
        peak_memory=int(5000 * (1 + damage)),
    )
    return replace(found, speed=speed(slower))


def an_answer(*, ruined: bool, sound: int) -> dict[str, Any]:
    """A generated answer of 20 tokens of which the first `sound` are what they should be."""
    ids = [1] * sound + [2] * (20 - sound)
    text = "".join("abc"[token] for token in ids)
    return {"correct": not ruined, "answer": int(ruined), "output": text, "ids": ids, "degenerate": "loop" if ruined else None}


REFERENCE = measured(0.1, kind="baseline")


@EVERY_METRIC
def test_it_says_what_it_is(metric: Metric) -> None:
    assert metric.name
    assert metric.formula
    assert metric.better in ("lower", "higher")


@EVERY_METRIC
def test_worse_is_worse(metric: Metric) -> None:
    """More damage makes more of a difference, to the side that the metric calls worse, and the interval holds the value."""
    difference = metric.compare(measured(0.2), REFERENCE)
    lesser = metric.compare(measured(0.15), REFERENCE)
    assert difference is not None
    assert lesser is not None
    assert difference.value != lesser.value
    assert (difference.value > lesser.value) == (metric.better == "lower")
    assert difference.n > 0
    if difference.interval:
        assert difference.interval.low <= difference.value <= difference.interval.high
        assert math.isfinite(difference.interval.low)
        assert math.isfinite(difference.interval.high)


@EVERY_METRIC
def test_the_same_values_give_the_same_numbers(metric: Metric) -> None:
    assert metric.compare(measured(0.2), REFERENCE) == metric.compare(measured(0.2), REFERENCE)
    assert metric.measure(measured(0.2).values) == metric.measure(measured(0.2).values)


@EVERY_METRIC
def test_nothing_measured_gives_nothing(metric: Metric) -> None:
    assert metric.measure(subject().values) == {}
