"""Grids: the values they hold, what is stored of them, and the clip search against its own objective."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_action.engines.native.gptq import diagonal_blocks
from quant_action.engines.native.grid import CLIP_RATIOS, Grid


def weights(seed: int, *, shape: tuple[int, ...] = (6, 3, 16), shift: float = 0.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + shift


def gram_blocks(seed: int, *, groups: int = 3, size: int = 16) -> torch.Tensor:
    x = torch.randn(100, groups * size, generator=torch.Generator().manual_seed(seed)) @ weights(
        seed + 1, shape=(groups * size, groups * size)
    )
    return diagonal_blocks(x.T @ x, size)


def test_symmetric_grid_spans_the_largest_magnitude_around_the_middle_code() -> None:
    scales, zeros = Grid(bits=4, symmetric=True, clip=False).fit(torch.tensor([[[-3.75, 1.0]]]), None)
    assert (scales.item(), zeros.item()) == (0.5, 8)


def test_asymmetric_grid_spans_from_least_to_greatest() -> None:
    scales, zeros = Grid(bits=4, symmetric=False, clip=False).fit(torch.tensor([[[-1.0, 6.5]]]), None)
    assert (scales.item(), zeros.item()) == (0.5, 2)


def test_a_group_without_negative_weights_gives_up_one_step_for_a_storable_zero() -> None:
    scales, zeros = Grid(bits=4, symmetric=False, clip=False).fit(torch.tensor([[[0.0, 7.0]]]), None)
    assert (scales.item(), zeros.item()) == (0.5, 1)


def test_a_group_of_zeros_stays_zero() -> None:
    for symmetric in (True, False):
        grid = Grid(bits=4, symmetric=symmetric, clip=False)
        zero = torch.zeros(1, 1, 8)
        scales, zeros = grid.fit(zero, None)
        assert scales.item() == 1
        assert torch.equal(grid.nearest(zero, scales[..., None], zeros[..., None]), zero)


@given(bits=st.sampled_from([2, 3, 4, 8]), symmetric=st.booleans(), seed=st.integers(0, 999), shift=st.sampled_from([-5.0, 0.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_scales_are_float16_zero_points_storable_and_errors_within_a_step(bits: int, symmetric: bool, seed: int, shift: float) -> None:
    grid = Grid(bits=bits, symmetric=symmetric, clip=False)
    weight = weights(seed, shift=shift)
    scales, zeros = grid.fit(weight, None)
    assert torch.equal(scales, scales.half().float())
    assert 1 <= int(zeros.min()) <= int(zeros.max()) <= 2**bits - 1
    error = (grid.nearest(weight, scales[..., None], zeros[..., None]) - weight).abs()
    assert bool((error <= 1.01 * scales[..., None]).all())


@given(bits=st.sampled_from([2, 3, 4]), symmetric=st.booleans(), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_clipping_finds_the_ratio_with_the_least_output_error(bits: int, symmetric: bool, seed: int) -> None:
    weight, gram = weights(seed).double(), gram_blocks(seed).double()

    def losses(scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
        grid = Grid(bits=bits, symmetric=symmetric, clip=False)
        error = grid.nearest(weight, scales[..., None], zeros[..., None]) - weight
        return torch.einsum("rgi,gij,rgj->rg", error, gram, error)

    clipped = losses(*Grid(bits=bits, symmetric=symmetric, clip=True).fit(weight, gram))
    full = Grid(bits=bits, symmetric=symmetric, clip=False)
    tried = torch.stack([losses(*full._span(weight, ratio)) for ratio in CLIP_RATIOS])
    torch.testing.assert_close(clipped, tried.amin(0))
    assert bool((clipped <= losses(*full.fit(weight, None)) * (1 + 1e-9)).all())


def test_clipping_without_a_gram_matrix_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Gram"):
        Grid(bits=4, symmetric=True, clip=True).fit(weights(0), None)
