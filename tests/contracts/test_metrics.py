"""What holds for every metric."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, get_args

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
        items={"a": [index >= wrong for index in range(100)]},
        size=int(1000 * (1 + damage)),
        peak_memory=int(5000 * (1 + damage)),
    )
    return replace(found, speed=speed(slower))


REFERENCE = measured(0.1, kind="baseline")


@EVERY_METRIC
def test_it_says_what_it_is(metric: Metric) -> None:
    assert metric.name
    assert metric.formula
    assert metric.better in ("lower", "higher")


@EVERY_METRIC
def test_worse_is_worse(metric: Metric) -> None:
    """A damaged model differs from its reference to the side that the metric calls worse, and the interval holds the value."""
    difference = metric.compare(measured(0.2), REFERENCE)
    same = metric.compare(measured(0.1), REFERENCE)
    assert difference is not None
    assert same is not None
    assert (difference.value > same.value) == (metric.better == "lower")
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
