"""AWQ scales (Lin et al., arXiv 2306.00978) from the Gram matrix of a site's inputs.

Multiplying the weights of input i by s_i, and dividing the input by it, leaves the layer as it was but moves rounding error away from
inputs that matter. The paper searches s = mean|x|^r / mean|w|^(1-r) over r for the least output error; with G = X^T X that error is
tr D G D^T, D = Q(W s) / s - W, and no activation needs to be kept.
"""

from __future__ import annotations

import torch

from quant_action.engines.native.grid import Grid

RATIOS = tuple(step / 20 for step in range(20))
"""Exponents that are tried; no scaling at all is tried first."""


def search_scales(weight: torch.Tensor, gram: torch.Tensor, mean_magnitude: torch.Tensor, *, grid: Grid, group_size: int) -> torch.Tensor:
    """The best of the scales, [in], for the weights [rows, in] of all linears that read one input, stacked.

    `mean_magnitude` [in] is the mean of |x|. The search rounds to nearest without clipping, as the paper does.
    """
    size = weight.shape[1] if group_size == -1 else group_size
    plain = Grid(bits=grid.bits, symmetric=grid.symmetric, clip=False)
    best = torch.ones_like(mean_magnitude)
    least = _loss(weight, gram, best, plain, size)
    magnitude = _weight_magnitude(weight, size)
    for ratio in RATIOS:
        scales = (mean_magnitude**ratio / (magnitude ** (1 - ratio) + 1e-4)).clamp_min(1e-4)
        scales = scales / (scales.max() * scales.min()).sqrt()
        loss = _loss(weight, gram, scales, plain, size)
        if loss < least:  # false for NaN
            best, least = scales, loss
    return best


def _weight_magnitude(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Mean over rows of |w| relative to the greatest of its group: [in]."""
    magnitude = weight.abs().unflatten(1, (-1, size))
    return (magnitude / magnitude.amax(-1, keepdim=True).clamp_min(1e-6)).mean(0).flatten()


def _loss(weight: torch.Tensor, gram: torch.Tensor, scales: torch.Tensor, grid: Grid, size: int) -> float:
    scaled = (weight * scales).unflatten(1, (-1, size))
    steps, zeros = grid.fit(scaled, None)
    error = grid.nearest(scaled, steps[..., None], zeros[..., None]).flatten(1) / scales - weight
    return float(((error @ gram) * error).sum())
