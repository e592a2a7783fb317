"""GPTQ against the paper's own algorithm in float64: inverse, Cholesky factor of the inverse, one column after the other."""

from __future__ import annotations

import pytest
import torch

from quant_action.engines.native.gptq import Rounded, factor, gptq, round_to_nearest
from quant_action.engines.native.grid import Grid
from quant_action.errors import EngineError

DAMPING = 0.01


def problem(*, rows: int = 24, inputs: int = 96, tokens: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random weights, and the Gram matrix of strongly correlated inputs of unequal size, float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = (
        torch.randn(inputs, inputs, generator=generator, dtype=torch.float64) * torch.logspace(-1, 1, inputs, dtype=torch.float64)[:, None]
    )
    x = torch.randn(tokens, inputs, generator=generator, dtype=torch.float64) @ mix
    return torch.randn(rows, inputs, generator=generator, dtype=torch.float64), x.T @ x / tokens


def textbook(
    weight: torch.Tensor, gram: torch.Tensor, grid: Grid, size: int, *, act_order: bool, static: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1 of arXiv 2210.17323 (column by column), with the options of its reference code; codes and dequantized weights."""
    inputs = weight.shape[1]
    order = torch.argsort(gram.diagonal(), descending=True, stable=True) if act_order else torch.arange(inputs)
    hessian = gram + torch.diag((gram.diagonal() == 0) * gram.diagonal().mean() + DAMPING * gram.diagonal().mean())
    inverse = torch.linalg.inv(hessian[order][:, order])
    upper = torch.linalg.cholesky(inverse, upper=True)
    work = weight[:, order].clone()
    codes, values = torch.zeros_like(work), torch.zeros_like(work)
    blocks = torch.stack([gram[i : i + size, i : i + size] for i in range(0, inputs, size)])
    static_scales, static_zeros = grid.fit(weight.unflatten(1, (-1, size)), blocks)
    permuted = gram[order][:, order]
    for column in range(inputs):
        if static:
            group = int(order[column]) // size
            scale, zero = static_scales[:, group], static_zeros[:, group]
        elif column % size == 0:
            here = slice(column, column + size)
            scale, zero = (part[:, 0] for part in grid.fit(work[:, None, here], permuted[None, here, here]))
        codes[:, column] = grid.codes(work[:, column], scale, zero)
        values[:, column] = (codes[:, column] - zero) * scale
        error = (work[:, column] - values[:, column]) / upper[column, column]
        work[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
    back = torch.argsort(order)
    return codes[:, back].to(torch.uint8), values[:, back]


def values_of(rounded: Rounded) -> torch.Tensor:
    group = rounded.groups.long()
    return (rounded.codes.double() - rounded.zeros[:, group]) * rounded.scales[:, group]


def loss(weight: torch.Tensor, values: torch.Tensor, gram: torch.Tensor) -> float:
    return float((((weight - values) @ gram) * (weight - values)).sum())


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("act_order", "static"), [(False, False), (False, True), (True, True), (True, False)])
@pytest.mark.parametrize("size", [32, 96])
def test_codes_are_the_textbooks(size: int, act_order: bool, static: bool, symmetric: bool, clip: bool) -> None:
    weight, gram = problem()
    grid = Grid(bits=4, symmetric=symmetric, clip=clip)
    rounded = gptq(weight, gram, grid=grid, group_size=size, act_order=act_order, static_groups=static, damping=DAMPING)
    codes, values = textbook(weight, gram, grid, size, act_order=act_order, static=static)
    assert torch.equal(rounded.codes, codes)
    torch.testing.assert_close(values_of(rounded), values)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_width_gives_the_textbooks_codes(bits: int) -> None:
    weight, gram = problem(seed=bits)
    grid = Grid(bits=bits, symmetric=False, clip=False)
    rounded = gptq(weight, gram, grid=grid, group_size=-1, act_order=True, static_groups=True, damping=DAMPING)
    assert torch.equal(rounded.codes, textbook(weight, gram, grid, 96, act_order=True, static=True)[0])


def test_an_input_that_is_always_zero_is_rounded_to_nearest_and_disturbs_no_other() -> None:
    weight, gram = problem()
    gram[5], gram[:, 5] = 0, 0
    grid = Grid(bits=4, symmetric=True, clip=False)
    rounded = gptq(weight, gram, grid=grid, group_size=32, act_order=True, static_groups=True, damping=DAMPING)
    assert torch.equal(rounded.codes, textbook(weight, gram, grid, 32, act_order=True, static=True)[0])
    assert torch.equal(rounded.codes[:, 5], round_to_nearest(weight, None, grid=grid, group_size=32).codes[:, 5])


def test_inputs_that_are_all_zero_are_rounded_to_nearest() -> None:
    weight, gram = problem()
    grid = Grid(bits=4, symmetric=True, clip=False)
    rounded = gptq(weight, torch.zeros_like(gram), grid=grid, group_size=32, act_order=True, static_groups=True, damping=DAMPING)
    assert torch.equal(rounded.codes, round_to_nearest(weight, None, grid=grid, group_size=32).codes)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_loses_less_than_rounding_to_nearest_on_correlated_inputs(bits: int) -> None:
    weight, gram = problem()
    grid = Grid(bits=bits, symmetric=True, clip=False)
    nearest = values_of(round_to_nearest(weight, gram, grid=grid, group_size=32))
    compensated = values_of(gptq(weight, gram, grid=grid, group_size=32, act_order=True, static_groups=True, damping=DAMPING))
    assert loss(weight, compensated, gram) < 0.5 * loss(weight, nearest, gram)


def test_float32_gives_the_loss_of_float64() -> None:
    weight, gram = problem()
    grid = Grid(bits=4, symmetric=True, clip=False)
    exact, single = (
        gptq(weight.to(dtype), gram.to(dtype), grid=grid, group_size=32, act_order=True, static_groups=True, damping=DAMPING)
        for dtype in (torch.float64, torch.float32)
    )
    assert (exact.codes == single.codes).double().mean() > 0.99
    assert loss(weight, values_of(single), gram) == pytest.approx(loss(weight, values_of(exact), gram), rel=0.01)


def test_shuffled_groups_are_named_by_the_group_index() -> None:
    weight, gram = problem()
    rounded = gptq(
        weight, gram, grid=Grid(bits=4, symmetric=True, clip=False), group_size=32, act_order=True, static_groups=False, damping=DAMPING
    )
    order = torch.argsort(gram.diagonal(), descending=True)
    assert rounded.groups[order].tolist() == [0] * 32 + [1] * 32 + [2] * 32


def test_the_factor_is_unit_upper_triangular_and_factors_the_damped_hessian() -> None:
    _, gram = problem()
    factored = factor(gram, DAMPING)
    assert torch.equal(factored, factored.triu())
    assert torch.equal(factored.diagonal(), torch.ones(96, dtype=torch.float64))
    damped = gram + torch.diag(DAMPING * gram.diagonal().mean().expand(96))
    inverse = torch.linalg.inv(factored)
    diagonal = inverse @ damped @ inverse.T
    torch.testing.assert_close(diagonal, torch.diag(diagonal.diagonal()), atol=1e-9 * float(damped.max()), rtol=0)


def test_damping_is_raised_where_the_hessian_is_not_positive() -> None:
    _, gram = problem()
    shift = float(torch.linalg.eigvalsh(gram)[0]) + 0.05 * float(gram.diagonal().mean())
    indefinite = gram - shift * torch.eye(96, dtype=torch.float64)  # 1% damping is not enough, 10% is
    assert bool(torch.isfinite(factor(indefinite, DAMPING)).all())


def test_a_hessian_that_no_damping_saves_is_an_error() -> None:
    _, gram = problem()
    with pytest.raises(EngineError, match=r"cannot be factorised, even with damping 1$"):
        factor(gram - 10 * gram.diagonal().mean() * torch.ones_like(gram), DAMPING)
