"""The AWQ GEMM checkpoint format, as AutoAWQ introduced it and GPTQModel, transformers, vLLM and SGLang read it; 4 bits only.

    qweight  int32   [in, out / 8]         codes, eight outputs to a word in the order 0 2 4 6 1 3 5 7 (lowest nibble first)
    qzeros   int32   [groups, out / 8]     zero points, in the same order
    scales   float16 [groups, out]

Groups are consecutive inputs. The zero point is always stored; a symmetric scheme stores 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from quant_action.checkpoints.bits import to_int32
from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.records import WeightScheme

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Output of each nibble, lowest first: a word then unpacks into two half registers with adjacent outputs in their lanes."""

_SHIFTS = torch.arange(0, 32, 4)


def pack_nibbles(values: torch.Tensor) -> torch.Tensor:
    """uint8 [rows, out] -> int32 [rows, out / 8]."""
    eights = values.reshape(values.shape[0], -1, 8)[..., ORDER].long()
    return to_int32((eights << _SHIFTS.to(values.device)).sum(-1))


def unpack_nibbles(words: torch.Tensor) -> torch.Tensor:
    """Inverse of `pack_nibbles`."""
    nibbles = ((words.long()[..., None] >> _SHIFTS.to(words.device)) & 15).to(torch.uint8)
    values = torch.empty_like(nibbles)
    values[..., ORDER] = nibbles
    return values.reshape(words.shape[0], -1)


class AWQFormat:
    method = "awq"
    parts = ("qweight", "qzeros", "scales")
    optional: tuple[str, ...] = ()

    def refuses(self, *, out_features: int, in_features: int, scheme: WeightScheme) -> str | None:
        if out_features % 8:
            return f"{out_features} outputs do not fill whole 32-bit words (a multiple of 8 does)"
        if scheme.group_size != -1 and in_features % scheme.group_size:
            return f"group size {scheme.group_size} does not divide its {in_features} inputs"
        return None

    def pack(self, linear: QuantizedLinear, *, bits: int) -> dict[str, torch.Tensor]:
        if bits != 4:
            raise ValueError(f"the AWQ GEMM format holds 4 bits, not {bits}")
        if bool((linear.groups.diff() < 0).any()):
            raise ValueError("the AWQ GEMM format needs groups of consecutive inputs")
        return {
            "qweight": pack_nibbles(linear.codes.T),
            "qzeros": pack_nibbles(linear.zeros.T),
            "scales": linear.scales.T.contiguous(),
        }

    def unpack(self, tensors: Mapping[str, torch.Tensor], *, config: Mapping[str, Any]) -> QuantizedLinear:
        codes, zeros, scales = unpack_nibbles(tensors["qweight"]).T, unpack_nibbles(tensors["qzeros"]).T, tensors["scales"].T
        inputs, groups = codes.shape[1], scales.shape[1]
        if codes.shape[0] != scales.shape[0] or zeros.shape != scales.shape or inputs % groups:
            raise ValueError(f"qweight, qzeros and scales do not fit together: {[tuple(t.shape) for t in tensors.values()]}")
        index = torch.arange(inputs, dtype=torch.int32, device=codes.device) // (inputs // groups)
        return QuantizedLinear(codes=codes, scales=scales, zeros=zeros, groups=index)

    def config(self, scheme: WeightScheme) -> dict[str, Any]:
        return {
            "quant_method": self.method,
            "version": "gemm",
            "bits": scheme.bits,
            "group_size": scheme.group_size,
            "zero_point": True,
            "modules_to_not_convert": ["lm_head"],
        }
