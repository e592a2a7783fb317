"""Which sequences share a forward pass.

A result's last bits depend on it, so it is the same for every model, except for the floor: the baseline once more, in batches of half the
size and from the other end. What that changes is what the measurement itself does to a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Batching:
    tokens: int
    """Of one forward pass, padding included; one sequence may be longer."""
    backwards: bool = False

    def other(self) -> Batching:
        """Half the size, and the other way round. Where a batch is one sequence already, only the order is another."""
        return Batching(tokens=self.tokens // 2, backwards=not self.backwards)

    def in_order(self, count: int, length: int) -> list[range]:
        """Indices of `count` sequences of `length` tokens each; those of a batch lie side by side."""
        size = max(1, self.tokens // length)
        batches = [range(first, min(first + size, count)) for first in range(0, count, size)]
        return batches[::-1] if self.backwards else batches

    def by_length(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of sequences of these lengths, like beside like; a batch's longest is its first."""
        batches: list[list[int]] = []
        for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], -index if self.backwards else index)):
            if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= self.tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches[::-1] if self.backwards else batches
