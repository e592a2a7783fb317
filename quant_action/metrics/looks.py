"""Looking at the items more than once: the constant z that keeps the error of all looks together where one look would have it.

Whoever looks five times at 1.645 standard errors errs not in 5% but in 13% of the cases. With a larger constant at every look (Pocock,
Biometrika 64, 1977, pages 191-199) the chance of ever crossing a line is what was promised, whenever one stops. The chance is computed, for
looks at any shares, by recursive numerical integration: Armitage, McPherson and Rowe, Journal of the Royal Statistical Society A 132
(1969), pages 235-244.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ERROR = 0.05
"""Of one bound, over all looks."""

TAIL = 8.0
"""Standard deviations beyond which a normal density is nothing."""

NODES_PER_DEVIATION = 3
"""Of the integrals, for each standard deviation of the increment between two looks; more change no digit that is kept."""

DIGITS = 6
"""Kept of the constant, so that machines that add in another order give the same one."""


def looks_level(looks: Sequence[float], error: float = ERROR) -> float:
    """The two-sided level of intervals, asked for at every look, whose bounds each err with probability `error` over all looks."""
    return 1 - 2 * error if len(looks) == 1 else 2 * NormalDist().cdf(looks_quantile(looks, error)) - 1


def looks_quantile(looks: Sequence[float], error: float = ERROR) -> float:
    """The z that a standardised sum exceeds at one of the looks, or more, with probability `error`.

    `looks` are shares of the samples, rising to 1: the z is 1.645 for one look, 2.018 for [0.25, 0.5, 1], 2.122 for five equal ones.
    Raises `ValueError` for anything else.
    """
    if not looks or looks[-1] != 1 or looks[0] <= 0 or any(late <= early for early, late in pairwise(looks)):
        raise ValueError(f"looks must be shares that rise to 1, not {list(looks)}")
    return _quantile(tuple(looks), error)


@lru_cache(maxsize=256)
def _quantile(looks: tuple[float, ...], error: float) -> float:
    one, all_apart = NormalDist().inv_cdf(1 - error), NormalDist().inv_cdf(1 - error / len(looks))
    if len(looks) == 1:
        return one
    from scipy.optimize import brentq

    return round(float(brentq(lambda z: _crossing(looks, z) - error, one, all_apart, xtol=1e-9)), DIGITS)


def _crossing(looks: tuple[float, ...], z: float) -> float:
    """The probability that a Brownian motion stands above z standard deviations at one of the looks.

    The density of those paths that have not yet crossed is carried from look to look: each time it is spread by the normal increment, and
    what lies above the line is cut off.
    """
    import numpy as np

    steps = [math.sqrt(late - early) for early, late in pairwise((0.0, *looks))]
    nodes, weights = _gauss_legendre(math.ceil(2 * NODES_PER_DEVIATION * TAIL / min(steps)))
    places, mass = np.zeros(1), np.ones(1)
    for look, step in zip(looks, steps, strict=True):
        deviation = math.sqrt(look)
        low, high = -TAIL * deviation, z * deviation
        reached = (low + high) / 2 + (high - low) / 2 * nodes
        density = np.exp(-(((reached[:, None] - places) / step) ** 2) / 2) @ mass / (step * math.sqrt(2 * math.pi))
        places, mass = reached, density * weights * (high - low) / 2
    return 1 - float(mass.sum())


@lru_cache(maxsize=16)
def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [-1, 1] and their weights."""
    import numpy as np

    return np.polynomial.legendre.leggauss(count)
