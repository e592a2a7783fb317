"""The interval of a share of items, some of which may be of one group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from quant_action.metrics.intervals import LEVEL, wilson
from quant_action.records import Interval


def share_interval(hits: Sequence[bool], groups: Sequence[Hashable], *, level: float = LEVEL) -> Interval:
    """Wilson's interval for the share of `hits`, as of so many fewer items as groups make them worth.

    The design effect is the variance of the clustered mean over that of independent items, at least 1 (Kish, Survey Sampling, 1965,
    section 8.2; Korn and Graubard, Survey Methodology 24, 1998, pages 193-201). Where all items are hits, or none, it cannot be seen, and
    is taken for the largest that there can be: groups that only hit as a whole.
    """
    n, share = len(hits), sum(hits) / len(hits)
    sizes, sums = Counter(groups), Counter(group for group, hit in zip(groups, hits, strict=True) if hit)
    effect = 1.0
    if len(sizes) < n:
        effect = sum(size**2 for size in sizes.values()) / n
        if 0 < share < 1 and len(sizes) > 1:
            between = math.fsum((sums[group] - share * size) ** 2 for group, size in sizes.items()) * len(sizes) / (len(sizes) - 1)
            effect = max(between / (n * share * (1 - share)), 1.0)
    worth = n / effect
    return wilson(successes=share * worth, n=worth, level=level)
