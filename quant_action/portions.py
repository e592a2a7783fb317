"""Portions of a task's items: a candidate is asked one after the other, and after each its gates on items may be decided (a look).

The order of the items is one permutation, by the sha256 of their ids: as good as a random one, the same everywhere, and without a seed
that somebody could choose after seeing results. A larger share adds items and swaps none. Every task is divided by itself, so that each
portion is stratified by task.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

ROUNDING = 1e-9
"""Of `share * items`, which in floating point may lie just above a whole number."""


def items_at(share: float, items: int) -> int:
    """How many of a task's items have been asked when `share` of them has."""
    return math.ceil(share * items - ROUNDING)


def fixed_order(ids: Sequence[str]) -> list[int]:
    """Indices of `ids` in the order in which items are asked; equal ids keep theirs."""
    return sorted(range(len(ids)), key=lambda index: (hashlib.sha256(ids[index].encode()).digest(), index))


def portion(ids: Sequence[str], *, after: float, upto: float) -> list[int]:
    """Indices, ascending, of a task's items that are asked between two shares of them."""
    return sorted(fixed_order(ids)[items_at(after, len(ids)) : items_at(upto, len(ids))])
