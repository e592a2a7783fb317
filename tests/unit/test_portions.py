"""Which items are asked at which look."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quant_action.portions import fixed_order, items_at, portion

shares = st.lists(st.integers(1, 99), max_size=4, unique=True).map(lambda parts: [*(part / 100 for part in sorted(parts)), 1.0])
ids = st.lists(st.text(max_size=8), max_size=60, unique=True)


@given(ids=ids, looks=shares)
def test_looks_are_nested_and_together_ask_every_item_once(ids: list[str], looks: list[float]) -> None:
    portions = [portion(ids, after=after, upto=upto) for after, upto in pairwise((0.0, *looks))]
    assert sorted(index for asked in portions for index in asked) == list(range(len(ids)))
    for count, share in enumerate(looks, start=1):
        until = sorted(index for asked in portions[:count] for index in asked)
        assert until == portion(ids, after=0.0, upto=share)
        assert len(until) == math.ceil(round(share * 100) * len(ids) / 100)


@given(ids=ids, share=st.floats(0.01, 1))
def test_which_items_are_asked_depends_on_the_items_and_not_on_their_order(ids: list[str], share: float) -> None:
    asked = {ids[index] for index in portion(ids, after=0.0, upto=share)}
    assert asked == {ids[::-1][index] for index in portion(ids[::-1], after=0.0, upto=share)}


def test_the_order_is_that_of_the_hashes() -> None:
    ids = [str(number) for number in range(50)]
    assert [ids[index] for index in fixed_order(ids)] == sorted(ids, key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    assert fixed_order(["a", "a", "a"]) == [0, 1, 2]


def test_a_share_is_rounded_up_and_not_by_the_last_bit_of_a_product() -> None:
    assert [items_at(0.25, 400), items_at(0.25, 401), items_at(0.01, 1), items_at(1.0, 7), items_at(0.5, 0)] == [100, 101, 1, 7, 0]
    assert 0.07 * 100 > 7
    assert items_at(0.07, 100) == 7
