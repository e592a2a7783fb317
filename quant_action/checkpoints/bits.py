"""Small integers in 32-bit words."""

from __future__ import annotations

import torch

WORD = 32


def to_int32(words: torch.Tensor) -> torch.Tensor:
    """int64 words in [0, 2**32) as the int32 values with the same bits."""
    return (words - ((words >> 31) << WORD)).to(torch.int32)


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 [n, m] -> int32 [n * bits / 32, m]: each column is one little-endian bit stream, `bits` bits per value.

    32 values fill exactly `bits` words, for any width: with 3 bits some values straddle two words. `n` must be a multiple of 32,
    or of 32 / bits where that is whole.
    """
    period = WORD if WORD % bits else WORD // bits
    n, m = values.shape
    if n % period:
        raise ValueError(f"{n} values of {bits} bits do not fill whole 32-bit words")
    block = values.reshape(n // period, period, m).long()
    words = torch.zeros(n // period, period * bits // WORD, m, dtype=torch.int64, device=values.device)
    for position in range(period):
        word, shift = divmod(position * bits, WORD)
        words[:, word] |= (block[:, position] << shift) & 0xFFFFFFFF
        if shift + bits > WORD:
            words[:, word + 1] |= block[:, position] >> (WORD - shift)
    return to_int32(words.reshape(-1, m))


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Inverse of `pack`: int32 [w, m] -> uint8 [w * 32 / bits, m]."""
    period = WORD if WORD % bits else WORD // bits
    per_block = period * bits // WORD
    if words.shape[0] % per_block:
        raise ValueError(f"{words.shape[0]} words do not hold a whole number of {bits}-bit values")
    block = words.reshape(-1, per_block, words.shape[1]).long() & 0xFFFFFFFF
    values = torch.empty(block.shape[0], period, words.shape[1], dtype=torch.uint8, device=words.device)
    for position in range(period):
        word, shift = divmod(position * bits, WORD)
        value = block[:, word] >> shift
        if shift + bits > WORD:
            value = value | (block[:, word + 1] << (WORD - shift))
        values[:, position] = (value & (2**bits - 1)).to(torch.uint8)
    return values.reshape(-1, words.shape[1])
