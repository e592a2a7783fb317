"""The pack-quantized format of compressed-tensors 0.19, as llm-compressor writes it and vLLM and transformers read it; read only.

    weight_packed      int32 [out, in * bits / 32]      signed codes plus 2**(bits - 1), packed along the inputs
    weight_scale       [out, groups], a floating-point type
    weight_zero_point  int32 [out * bits / 32, groups]  likewise offset, packed along the outputs; absent where weights are symmetric

Groups are consecutive inputs; activation order within groups (`weight_g_idx`) is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from quant_action.checkpoints import bits as bitstream
from quant_action.checkpoints.interface import QuantizedLinear


class CompressedTensorsFormat:
    method = "compressed-tensors"
    parts = ("weight_packed", "weight_scale")
    optional = ("weight_zero_point",)

    def unpack(self, tensors: Mapping[str, torch.Tensor], *, config: Mapping[str, Any]) -> QuantizedLinear:
        bits = int(weights_of(config)["num_bits"])
        scales = tensors["weight_scale"]
        codes = bitstream.unpack(tensors["weight_packed"].T, bits).T
        outputs, groups = scales.shape
        if "weight_zero_point" in tensors:
            zeros = bitstream.unpack(tensors["weight_zero_point"], bits)
        else:
            zeros = torch.full((outputs, groups), 2 ** (bits - 1), dtype=torch.uint8, device=scales.device)
        if codes.shape[0] != outputs or zeros.shape != scales.shape or codes.shape[1] % groups:
            raise ValueError(f"packed weight, scales and zero points do not fit together: {[tuple(t.shape) for t in tensors.values()]}")
        inputs = codes.shape[1]
        group_of = torch.arange(inputs, dtype=torch.int32, device=scales.device) // (inputs // groups)
        return QuantizedLinear(codes=codes, scales=scales, zeros=zeros, groups=group_of)


def weights_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How weights are stored, of a `quantization_config` that has one way for all. Raises ValueError for another."""
    groups = list(config["config_groups"].values())
    if len(groups) != 1 or config.get("format") != "pack-quantized":
        raise ValueError("only pack-quantized weights of one kind are read")
    weights: Mapping[str, Any] = groups[0]["weights"]
    return weights
