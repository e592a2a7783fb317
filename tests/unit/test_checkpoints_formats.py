"""The GPTQ and AWQ formats: hand-written integers, round trips, and what cannot be stored."""

from __future__ import annotations

import pytest
import torch

from quant_action.checkpoints.awq import pack_nibbles, unpack_nibbles
from quant_action.checkpoints.formats import AWQ, FORMATS, GPTQ, format_of
from quant_action.checkpoints.interface import QuantizedLinear
from tests.unit.tiny_models import scheme


def random_linear(bits: int, *, outputs: int = 64, inputs: int = 96, group: int = 32, seed: int = 0) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(seed)
    groups = inputs // group
    return QuantizedLinear(
        codes=torch.randint(0, 2**bits, (outputs, inputs), generator=generator, dtype=torch.uint8),
        scales=(torch.rand(outputs, groups, generator=generator) + 0.1).half(),
        zeros=torch.randint(1, 2**bits, (outputs, groups), generator=generator, dtype=torch.uint8),
        groups=torch.arange(inputs, dtype=torch.int32) // group,
    )


def assert_same(one: QuantizedLinear, other: QuantizedLinear) -> None:
    for part in ("codes", "scales", "zeros", "groups"):
        assert torch.equal(getattr(one, part), getattr(other, part)), part


def test_dequantization_is_code_minus_zero_times_scale_of_the_inputs_group() -> None:
    linear = QuantizedLinear(
        codes=torch.tensor([[0, 7, 15, 8]], dtype=torch.uint8),
        scales=torch.tensor([[0.5, 2.0]]).half(),
        zeros=torch.tensor([[8, 7]], dtype=torch.uint8),
        groups=torch.tensor([0, 1, 0, 1], dtype=torch.int32),
    )
    assert linear.dequantize().tolist() == [[-4.0, 0.0, 3.5, 2.0]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_round_trip(bits: int) -> None:
    linear = random_linear(bits)
    tensors = GPTQ.pack(linear, bits=bits)
    assert {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} == {
        "qweight": ((96 * bits // 32, 64), torch.int32),
        "qzeros": ((3, 64 * bits // 32), torch.int32),
        "scales": ((3, 64), torch.float16),
        "g_idx": ((96,), torch.int32),
    }
    assert_same(GPTQ.unpack(tensors, config=GPTQ.config(scheme(bits=bits))), linear)


def test_gptq_keeps_a_shuffled_group_index() -> None:
    linear = random_linear(4)
    shuffled = QuantizedLinear(codes=linear.codes, scales=linear.scales, zeros=linear.zeros, groups=linear.groups[torch.randperm(96)])
    assert_same(GPTQ.unpack(GPTQ.pack(shuffled, bits=4), config={"bits": 4}), shuffled)


def test_gptq_stores_the_zero_point_minus_one() -> None:
    linear = random_linear(4, outputs=32, inputs=32)
    symmetric = QuantizedLinear(
        codes=linear.codes, scales=linear.scales, zeros=torch.full((32, 1), 8, dtype=torch.uint8), groups=linear.groups
    )
    assert GPTQ.pack(symmetric, bits=4)["qzeros"].tolist() == [[0x77777777] * 4]


def test_gptq_version_2_stores_the_zero_point_itself() -> None:
    linear = random_linear(4)
    tensors = GPTQ.pack(linear, bits=4)
    assert torch.equal(GPTQ.unpack(tensors, config={"bits": 4, "checkpoint_format": "gptq_v2"}).zeros, linear.zeros - 1)


def test_gptq_refuses_a_zero_point_that_would_overflow() -> None:
    linear = random_linear(4)
    linear.zeros[3, 1] = 0
    with pytest.raises(ValueError, match="zero point of 0"):
        GPTQ.pack(linear, bits=4)


def test_awq_interleaves_eight_outputs_in_a_word() -> None:
    # Outputs 0..7 hold their own number; lowest nibble first the word reads 0 2 4 6 1 3 5 7.
    word = pack_nibbles(torch.arange(8, dtype=torch.uint8)[None])
    assert word.tolist() == [[0x75316420]]
    assert unpack_nibbles(word).tolist() == [list(range(8))]


def test_awq_round_trip() -> None:
    linear = random_linear(4, outputs=24)
    tensors = AWQ.pack(linear, bits=4)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {"qweight": (96, 3), "qzeros": (3, 3), "scales": (3, 24)}
    assert_same(AWQ.unpack(tensors, config={"bits": 4}), linear)


def test_awq_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not 3"):
        AWQ.pack(random_linear(3), bits=3)
    linear = random_linear(4)
    with pytest.raises(ValueError, match="consecutive"):
        AWQ.pack(QuantizedLinear(codes=linear.codes, scales=linear.scales, zeros=linear.zeros, groups=linear.groups.flip(0)), bits=4)


def test_only_four_bit_awq_is_written_in_the_awq_format() -> None:
    assert format_of(scheme(method="awq", scales="awq")) is AWQ
    assert format_of(scheme(method="awq", bits=3, scales="awq")) is GPTQ
    assert format_of(scheme(scales="awq")) is GPTQ
    assert format_of(scheme(method="rtn")) is GPTQ


def test_shapes_that_cannot_be_packed_are_refused_with_the_reason() -> None:
    assert "48 outputs" in str(GPTQ.refuses(out_features=48, in_features=64, scheme=scheme()))
    assert "48 inputs" in str(GPTQ.refuses(out_features=64, in_features=48, scheme=scheme()))
    assert "group size 40 does not divide" in str(GPTQ.refuses(out_features=64, in_features=64, scheme=scheme(group_size=40)))
    assert "12 outputs" in str(AWQ.refuses(out_features=12, in_features=64, scheme=scheme(method="awq")))
    assert GPTQ.refuses(out_features=64, in_features=64, scheme=scheme(group_size=-1)) is None


def test_quantization_config_says_desc_act_only_when_groups_are_shuffled() -> None:
    assert GPTQ.config(scheme())["desc_act"] is False
    assert GPTQ.config(scheme(static_groups=False))["desc_act"] is True
    assert GPTQ.config(scheme(act_order=False, static_groups=False))["desc_act"] is False


def test_damaged_shapes_are_refused() -> None:
    tensors = GPTQ.pack(random_linear(4), bits=4)
    with pytest.raises(ValueError, match="do not fit"):
        GPTQ.unpack({**tensors, "scales": tensors["scales"][:, :32]}, config={"bits": 4})
    with pytest.raises(ValueError, match="do not fit"):
        GPTQ.unpack({**tensors, "g_idx": tensors["g_idx"] + 1}, config={"bits": 4})


COMPRESSED = {"format": "pack-quantized", "config_groups": {"all": {"weights": {"num_bits": 4}}}}


def test_compressed_tensors_codes_and_zero_points_are_offset() -> None:
    """Bytes by hand: codes 0..7 of one output, stored with 8 added, in the nibbles of one word from the lowest up."""
    packed = sum((code + 8) << (4 * position) for position, code in enumerate([-8, -1, 0, 1, 7, 2, -3, 5]))
    tensors = {
        "weight_packed": torch.tensor([[packed]] * 8, dtype=torch.int64).sub(2**32 * (packed >= 2**31)).to(torch.int32),
        "weight_scale": torch.full((8, 2), 0.5, dtype=torch.bfloat16),
        "weight_zero_point": torch.tensor([[0x0B0B0B0B, 0x08080808]], dtype=torch.int32),
    }
    linear = FORMATS["compressed-tensors"].unpack(tensors, config=COMPRESSED)
    assert linear.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert linear.dequantize()[0].tolist() == [-5.5, -2.0, -1.5, -1.0, 3.5, 1.0, -1.5, 2.5]
    assert linear.dequantize()[1].tolist() == [0.0, 3.5, 4.0, 4.5, 7.5, 5.0, 2.5, 6.5]
    del tensors["weight_zero_point"]
    symmetric = FORMATS["compressed-tensors"].unpack(tensors, config=COMPRESSED)
    assert symmetric.dequantize()[0].tolist() == [
        -4,
        -0.5,
        0,
        0.5,
        3.5,
        1,
        -1.5,
        2.5,
    ]


@pytest.mark.parametrize(
    "config", [COMPRESSED | {"format": "mixed-precision"}, COMPRESSED | {"config_groups": {"a": {"weights": {}}, "b": {"weights": {}}}}]
)
def test_compressed_tensors_of_more_than_one_kind_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="of one kind"):
        FORMATS["compressed-tensors"].unpack({}, config=config)
