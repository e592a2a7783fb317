"""Bit streams in 32-bit words, against integers worked out by hand and against Python's own integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_action.checkpoints.bits import pack, unpack


def column(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None]


def test_four_bits_put_the_first_value_into_the_lowest_nibble() -> None:
    assert pack(column([1, 2, 3, 4, 5, 6, 7, 8]), 4).tolist() == [[0x87654321 - 2**32]]


def test_eight_bits_put_the_first_value_into_the_lowest_byte() -> None:
    assert pack(column([0x11, 0x22, 0x33, 0x44]), 8).tolist() == [[0x44332211]]


def test_two_bits_hold_sixteen_values_in_a_word() -> None:
    assert pack(column([3] + [0] * 14 + [1]), 2).tolist() == [[0x40000003]]


def test_three_bits_straddle_words() -> None:
    # Value 10 has bits 30..32: two in the first word, one in the second. Value 21 has bits 63..65: one in the second, two in the third.
    values = [0] * 32
    values[10], values[21] = 0b111, 0b110
    assert pack(column(values), 3).tolist() == [[-(2**30)], [1], [0b11]]


@given(bits=st.sampled_from([2, 3, 4, 8]), blocks=st.integers(1, 3), columns=st.integers(1, 5), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_packing_is_the_little_endian_bit_stream_and_unpacking_its_inverse(bits: int, blocks: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2**bits, (32 * blocks, columns), generator=generator, dtype=torch.uint8)
    words = pack(values, bits)
    assert words.dtype == torch.int32
    assert words.shape == (bits * blocks, columns)
    for number in range(columns):
        stream = sum(int(value) << (bits * position) for position, value in enumerate(values[:, number].tolist()))
        assert [word % 2**32 for word in words[:, number].tolist()] == [(stream >> (32 * word)) % 2**32 for word in range(bits * blocks)]
    assert torch.equal(unpack(words, bits), values)


def test_values_that_do_not_fill_words_are_refused() -> None:
    with pytest.raises(ValueError, match="17 values of 2 bits"):
        pack(column([0] * 17), 2)
