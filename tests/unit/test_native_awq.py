"""The AWQ scale search on its own objective."""

from __future__ import annotations

import torch

from quant_action.engines.native.awq import search_scales
from quant_action.engines.native.grid import Grid

GRID = Grid(bits=4, symmetric=False, clip=False)


def site(*, outliers: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights [32, 64], inputs whose channels 7 and 40 are `outliers` times the others, and the inputs' Gram matrix."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(500, 64, generator=generator)
    x[:, [7, 40]] *= outliers
    return torch.randn(32, 64, generator=generator), x, x.T @ x / len(x)


def output_error(weight: torch.Tensor, x: torch.Tensor, scales: torch.Tensor) -> float:
    scaled = (weight * scales).unflatten(1, (-1, 32))
    steps, zeros = GRID.fit(scaled, None)
    quantized = GRID.nearest(scaled, steps[..., None], zeros[..., None]).flatten(1) / scales
    return float((x @ (quantized - weight).T).square().sum())


def test_outlier_channels_get_larger_scales_and_the_output_error_falls() -> None:
    weight, x, gram = site(outliers=30)
    scales = search_scales(weight, gram, x.abs().mean(0), grid=GRID, group_size=32)
    assert float(scales[[7, 40]].min()) > 2 * float(scales.median())
    assert output_error(weight, x, scales) < 0.3 * output_error(weight, x, torch.ones(64))


def test_the_search_never_ends_above_no_scaling() -> None:
    for seed in range(5):
        weight, x, gram = site(outliers=1, seed=seed)
        scales = search_scales(weight, gram, x.abs().mean(0), grid=GRID, group_size=32)
        assert output_error(weight, x, scales) <= output_error(weight, x, torch.ones(64)) * (1 + 1e-5)


def test_a_dead_channel_leaves_all_scales_finite_and_positive() -> None:
    weight, x, _ = site(outliers=30)
    x[:, 3] = 0
    weight[:, 9] = 0
    scales = search_scales(weight, x.T @ x / len(x), x.abs().mean(0), grid=GRID, group_size=32)
    assert bool(torch.isfinite(scales).all())
    assert float(scales.min()) > 0
