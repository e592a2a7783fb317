"""Many questions that together may be wrongly answered as rarely as one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TypeVar

Hypothesis = TypeVar("Hypothesis", bound=Hashable)


def holm(hypotheses: Collection[Hypothesis], rejected_at: Callable[[Hypothesis, float], bool], *, error: float) -> set[Hypothesis]:
    """The hypotheses that can be rejected with at most the probability `error` that any true one is among them.

    Holm, Scandinavian Journal of Statistics 6 (1979), pages 65-70, whatever the hypotheses have to do with each other: of k that still
    stand each is tested at `error` / k, and those that fall leave more to the others, until none falls. `rejected_at` says whether one
    falls at an error rate, that is, whether its p-value is at most that; one that falls must fall at every larger rate.
    """
    standing, rejected = set(hypotheses), set[Hypothesis]()
    while falling := {one for one in standing if rejected_at(one, error / len(standing))}:
        standing -= falling
        rejected |= falling
    return rejected
