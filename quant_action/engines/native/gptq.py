"""GPTQ (Frantar et al., arXiv 2210.17323) without an inverse.

The paper visits the columns of a weight W in order and adds to the later ones what makes up for the rounding error so far; its
coefficients come from the Cholesky factor of the inverse of H = X^T X. The same coefficients stand in a factor of H itself. With
H = U U^T, U upper triangular, and V = U / diag(U) (each column divided by its diagonal entry),

    target_j = w_j + sum_{i<j} (w_i - q_i) V_ij        q_j = round(target_j)

gives the paper's codes: the transformed error (W - Q) U has in column j only U_jj times the rounding error of target_j, and so the sum
of squares that GPTQ minimises greedily, tr (W - Q) H (W - Q)^T, is a sum of independent terms. One Cholesky factorisation takes the place
of two and an inverse, and errors always refer to the original weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from quant_action.engines.native.grid import Grid
from quant_action.errors import EngineError

BLOCK = 32
"""Columns that are rounded before their errors are carried to all later ones in one matrix product."""


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Codes of a weight [rows, in] and the grid of each (row, group)."""

    codes: torch.Tensor
    """uint8 [rows, in], inputs in their own order."""
    scales: torch.Tensor
    """[rows, groups], exact in float16."""
    zeros: torch.Tensor
    """[rows, groups]."""
    groups: torch.Tensor
    """int32 [in]."""


def factor(gram: torch.Tensor, damping: float) -> torch.Tensor:
    """V of H = gram + damping * mean(diag): unit upper triangular [in, in].

    An input that is always zero gets the mean on its diagonal: its weights are rounded to nearest and touch no other. Where the
    factorisation fails, damping is raised tenfold, twice; then `EngineError`.
    """
    diagonal = gram.diagonal()
    mean = diagonal.mean().clamp_min(torch.finfo(gram.dtype).tiny)
    dead = torch.where(diagonal == 0, mean, torch.zeros_like(mean))
    for attempt in range(3):
        flipped = gram.flip(0, 1)  # H = U U^T is the Cholesky factorisation of H with rows and columns in reverse
        flipped.diagonal().add_(dead.flip(0) + damping * 10**attempt * mean)
        lower, info = torch.linalg.cholesky_ex(flipped)
        if int(info) == 0 and bool(torch.isfinite(lower).all()):
            upper = lower.flip(0, 1)
            return upper / upper.diagonal()
    raise EngineError(
        f"the Hessian cannot be factorised, even with damping {damping * 100:g}",
        remedy="Use more or other calibration text, or a larger damping.",
    )


def gptq(
    weight: torch.Tensor, gram: torch.Tensor, *, grid: Grid, group_size: int, act_order: bool, static_groups: bool, damping: float
) -> Rounded:
    """Round `weight` [rows, in] so that its outputs for inputs with X^T X = `gram` change least.

    `act_order` visits inputs by falling diagonal of the Gram matrix. With `static_groups` groups are consecutive inputs and their grids
    are fitted to the weights as they were; without, groups follow the order of the visit, and each grid is fitted to the weights as
    they have become when the visit reaches it.
    """
    rows, inputs = weight.shape
    size = inputs if group_size == -1 else group_size
    order = torch.argsort(gram.diagonal(), descending=True, stable=True) if act_order else torch.arange(inputs, device=weight.device)
    in_order = torch.arange(inputs, device=weight.device) // size
    groups = in_order.clone()
    if static_groups:
        scales, zeros = grid.fit(weight.unflatten(1, (-1, size)), diagonal_blocks(gram, size))
        scales, zeros = scales.T.contiguous(), zeros.T.contiguous()
    else:
        groups[order] = in_order
        scales, zeros = weight.new_empty(2, inputs // size, rows)
    gram = gram[order][:, order]
    factored = factor(gram, damping)

    # Transposed, so that a column of the weight is contiguous and the loop below works on whole vectors.
    original = weight.T[order].contiguous()
    carried = torch.zeros_like(original)
    error = torch.empty_like(original)
    codes = torch.empty(inputs, rows, dtype=torch.uint8, device=weight.device)
    group_of = groups[order].tolist()
    starts = set(range(0, inputs, BLOCK)) | (set() if static_groups else set(range(0, inputs, size)))
    bounds = [*sorted(starts), inputs]
    for first, last in pairwise(bounds):
        if not static_groups and first % size == 0:
            # What the paper would have in these columns now: the errors carried so far, each column freed from those before it.
            here = slice(first, first + size)
            drift = torch.linalg.solve_triangular(factored[here, here].T, carried[here], upper=False, unitriangular=True)
            fitted = grid.fit((original[here] + drift).T[:, None], gram[here, here][None])
            scales[first // size], zeros[first // size] = fitted[0][:, 0], fitted[1][:, 0]
        for column in range(first, last):
            scale, zero = scales[group_of[column]], zeros[group_of[column]]
            code = grid.codes(original[column] + carried[column], scale, zero)
            codes[column] = code.to(torch.uint8)
            torch.sub(original[column], code.sub_(zero).mul_(scale), out=error[column])
            carried[column + 1 : last].addr_(factored[column, column + 1 : last], error[column])
        carried[last:].addmm_(factored[first:last, last:].T, error[first:last])

    restored = torch.empty_like(codes)
    restored[order] = codes
    return Rounded(codes=restored.T.contiguous(), scales=scales.T.contiguous(), zeros=zeros.T.contiguous(), groups=groups.to(torch.int32))


def round_to_nearest(weight: torch.Tensor, gram: torch.Tensor | None, *, grid: Grid, group_size: int) -> Rounded:
    """Each weight [rows, in] to the nearest value of its group's grid."""
    size = weight.shape[1] if group_size == -1 else group_size
    grouped = weight.unflatten(1, (-1, size))
    scales, zeros = grid.fit(grouped, None if gram is None else diagonal_blocks(gram, size))
    codes = grid.codes(grouped, scales[..., None], zeros[..., None]).to(torch.uint8).flatten(1)
    groups = torch.arange(weight.shape[1], dtype=torch.int32, device=weight.device) // size
    return Rounded(codes=codes, scales=scales, zeros=zeros, groups=groups)


def diagonal_blocks(gram: torch.Tensor, size: int) -> torch.Tensor:
    """[in / size, size, size]."""
    return torch.stack([gram[first : first + size, first : first + size] for first in range(0, len(gram), size)])
