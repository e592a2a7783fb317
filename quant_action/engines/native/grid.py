"""Integer grids: which values a group of weights can take, and rounding to them.

Scales are rounded to float16, the precision in which they are stored, before anything is rounded to the grid: what is stored is what was
optimised. Zero points lie in [1, 2**bits - 1]: the GPTQ format cannot hold 0 (see `checkpoints/gptq.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CLIP_RATIOS = tuple(1 - 0.025 * step for step in range(20))
"""Shares of the full range that the clip search tries."""

ROWS = 2048
"""Rows of a weight that the clip search takes at a time; bounds its memory."""

SMALLEST_SCALE = 2.0**-24
"""The smallest positive float16."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    bits: int
    symmetric: bool
    clip: bool

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def fit(self, weight: torch.Tensor, gram: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales and zero points, both [rows, groups] in the weight's dtype, for `weight` [rows, groups, size].

        With clipping, the range of each (row, group) is the one of `CLIP_RATIOS` of the full range with the least output error
        d G d^T, where d is its rounding error and G, `gram` [groups, size, size], the group's diagonal block of X^T X.
        """
        if not self.clip:
            return self._span(weight, 1.0)
        if gram is None:
            raise ValueError("the clip search needs the Gram matrix of the inputs")
        parts = [self._search(rows, gram) for rows in weight.split(ROWS)]
        return torch.cat([scales for scales, _ in parts]), torch.cat([zeros for _, zeros in parts])

    def codes(self, values: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
        """Nearest codes, as floats; ties go to the even one."""
        return torch.round(values / scales).add_(zeros).clamp_(0, self.top)

    def nearest(self, values: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
        """The nearest values of the grid."""
        return self.codes(values, scales, zeros).sub_(zeros).mul_(scales)

    def _search(self, weight: torch.Tensor, gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best_loss = torch.full(weight.shape[:2], torch.inf, dtype=weight.dtype, device=weight.device)
        best_scales, best_zeros = self._span(weight, 1.0)
        for ratio in CLIP_RATIOS:
            scales, zeros = self._span(weight, ratio)
            error = (self.nearest(weight, scales[..., None], zeros[..., None]) - weight).transpose(0, 1)
            loss = ((error @ gram) * error).sum(-1).T
            better = loss < best_loss
            best_loss = torch.where(better, loss, best_loss)
            best_scales = torch.where(better, scales, best_scales)
            best_zeros = torch.where(better, zeros, best_zeros)
        return best_scales, best_zeros

    def _span(self, weight: torch.Tensor, ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The grid over `ratio` of the range from the least to the greatest weight; 0 is always on it."""
        low, high = weight.amin(-1).clamp_max(0) * ratio, weight.amax(-1).clamp_min(0) * ratio
        if self.symmetric:
            bound = torch.maximum(-low, high)
            return _stored(2 * bound / self.top), torch.full_like(bound, 2 ** (self.bits - 1))
        scales = _stored((high - low) / self.top)
        zeros = torch.round(-low / scales).clamp(0, self.top)
        positive = zeros < 1  # one step below zero is given away, so that zero keeps a code that can be stored
        return torch.where(positive, _stored(high / (self.top - 1)), scales), zeros.clamp_min(1)


def _stored(scales: torch.Tensor) -> torch.Tensor:
    """As float16 will hold them; a group of zeros gets 1."""
    rounded = scales.clamp_min(SMALLEST_SCALE).half().to(scales.dtype)
    return torch.where(scales == 0, torch.ones_like(rounded), rounded)
