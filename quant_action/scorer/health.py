"""What is wrong with a generated answer, whatever it says: perplexity and accuracy see little of a model that has begun to loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

Fault = Literal["empty", "loop", "no end"]

LOOP_TOKENS, LOOP_TIMES = 8, 4
"""So many tokens in a row that stand so often in one answer (overlapping counts) are a loop."""


def fault_of(text: str, ids: Sequence[int], *, ended: bool) -> Fault | None:
    """The fault of an answer: it is empty, it loops, or it did not end; None where it is sound.

    Whether an answer that did not end is the model's fault or its budget's, the comparison decides (`metrics/degenerate.py`): it counts
    where the reference did end.
    """
    if not text.strip():
        return "empty"
    if loops(ids):
        return "loop"
    return None if ended else "no end"


def loops(ids: Sequence[int]) -> bool:
    runs = Counter(tuple(ids[start : start + LOOP_TOKENS]) for start in range(len(ids) - LOOP_TOKENS + 1))
    return max(runs.values(), default=0) >= LOOP_TIMES
