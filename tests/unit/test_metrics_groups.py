"""Paired accuracies of items that come in groups: what an interval must be, and how often it errs in simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.metrics import metric
from quant_action.metrics.intervals import bonett_price, paired_interval
from quant_action.records import Interval
from tests.unit.subjects import subject

RUNS = 1500
NOISE = 2 * (0.05 * 0.95 / RUNS) ** 0.5


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_items_without_groups_have_bonett_and_prices_interval() -> None:
    changes = [1] * 3 + [-1] * 10 + [0] * 147
    assert paired_interval(changes, range(160)) == bonett_price(gains=3, losses=10, n=160)


@given(
    st.lists(st.tuples(st.sampled_from([-1, 0, 0, 0, 1]), st.integers(0, 12)), min_size=1, max_size=80), st.sampled_from([0.90, 0.96, 0.99])
)
def test_groups_never_make_an_interval_narrower(items: list[tuple[int, int]], level: float) -> None:
    changes, groups = [change for change, _ in items], [group for _, group in items]
    by_items = bonett_price(gains=changes.count(1), losses=changes.count(-1), n=len(items), level=level)
    found = paired_interval(changes, groups, level=level)
    assert width(found) >= width(by_items)
    assert -1 <= found.low <= found.high <= 1
    assert found.level == level


def test_what_never_changed_in_twenty_groups_says_as_much_as_twenty_items() -> None:
    found = paired_interval([0] * 500, [item % 20 for item in range(500)])
    twenty = bonett_price(gains=0, losses=0, n=20)
    assert width(found) == pytest.approx(width(twenty) * 1.729133 / 1.644854)  # but for t with 19 degrees of freedom
    assert width(found) > 20 * width(bonett_price(gains=0, losses=0, n=500))


def test_one_group_says_nothing() -> None:
    found = paired_interval([0] * 500, ["a"] * 500)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_loss_in_one_clump_is_less_certain_than_the_same_loss_here_and_there() -> None:
    groups = [item // 10 for item in range(1000)]
    here_and_there = [-1 if item % 25 == 0 else 0 for item in range(1000)]
    in_clumps = [-1 if item < 40 else 0 for item in range(1000)]
    assert width(paired_interval(in_clumps, groups)) > 2 * width(paired_interval(here_and_there, groups))


def test_accuracy_takes_the_groups_of_its_items_over_all_tasks() -> None:
    answers = {"a": [True] * 100, "b": [True] * 100}
    fewer = {"a": [False] * 5 + [True] * 95, "b": [False] * 5 + [True] * 95}
    groups = {"a": [str(item // 5) for item in range(100)], "b": [str(item // 5) for item in range(100)]}
    found = metric("accuracy").compare(subject(items=fewer, groups=groups), subject(kind="baseline", items=answers))
    changes = [-1] * 5 + [0] * 95
    assert found is not None
    assert (found.value, found.n) == (-0.05, 200)
    assert found.interval == paired_interval(changes * 2, [item // 5 for item in range(100)] * 2)
    assert found.interval.method == "Bonett-Price over groups"


def errs(sizes: np.ndarray, losses: np.ndarray, gains: np.ndarray, truth: float) -> tuple[float, float]:
    """Shares of simulated intervals [runs, groups] above and below the truth: those that let a gate pass, or fail, in error."""
    groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
    above = below = 0
    for lost, gained in zip(losses, gains, strict=True):
        changes: list[int] = []
        for size, minus, plus in zip(sizes.tolist(), lost.tolist(), gained.tolist(), strict=True):
            changes += [-1] * minus + [1] * plus + [0] * (size - minus - plus)
        found = paired_interval(changes, groups)
        above, below = above + (found.low > truth), below + (found.high < truth)
    return above / len(losses), below / len(losses)


SIZES = {
    "equal": lambda groups: np.full(groups, 8),
    "unequal": lambda groups: np.round(8 * np.exp(np.linspace(-1.2, 1.2, groups)) / 1.2).astype(int),
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("groups", [10, 40])
def test_bounds_hold_where_changes_come_one_by_one(groups: int, sizes: str) -> None:
    rng, of = np.random.default_rng(5), SIZES[sizes](groups)
    losses = rng.binomial(of, 0.04, (RUNS, groups))
    gains = rng.binomial(of - losses, 0.02 / 0.96)
    assert max(errs(of, losses, gains, -0.02)) <= 0.05 + NOISE


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("groups", [10, 40])
def test_bounds_hold_where_changes_come_by_whole_groups(groups: int, sizes: str) -> None:
    rng, of = np.random.default_rng(6), SIZES[sizes](groups)
    drawn = rng.random((RUNS, groups))
    losses, gains = np.where(drawn < 0.08, of, 0), np.where((drawn >= 0.08) & (drawn < 0.14), of, 0)
    assert max(errs(of, losses, gains, -0.02)) <= 0.05 + NOISE
    n = int(of.sum())
    by_items = [bonett_price(gains=int(c), losses=int(b), n=n) for c, b in zip(gains.sum(1), losses.sum(1), strict=True)]
    assert sum(one.low > -0.02 for one in by_items) / RUNS > 0.25  # why items of a group are never counted as independent


def test_rare_large_clumps_are_the_limit_of_what_can_be_known() -> None:
    """All loss in clumps, an intra-group correlation of 0.2: far better than items alone, and not perfect (the docstring says so)."""
    rng, of = np.random.default_rng(7), SIZES["unequal"](50)
    losses = rng.binomial(of, rng.beta(0.16, 3.84, (RUNS, 50)))
    above, below = errs(of, losses, np.zeros_like(losses), -0.04)
    assert below <= 0.05
    assert above <= 0.15
    n = int(of.sum())
    assert sum(bonett_price(gains=0, losses=int(lost), n=n).low > -0.04 for lost in losses.sum(1)) / RUNS > above + 0.05
