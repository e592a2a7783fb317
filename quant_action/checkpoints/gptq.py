"""The GPTQ checkpoint format, version 1, as AutoGPTQ introduced it and GPTQModel, transformers, vLLM and SGLang read it.

    qweight  int32   [in * bits / 32, out]         codes, packed along the inputs
    qzeros   int32   [groups, out * bits / 32]     zero points MINUS ONE, packed along the outputs
    scales   float16 [groups, out]
    g_idx    int32   [in]                          the group of each input

Version 1 stores zero - 1 and its readers add the one to the packed word: a zero point of 0 would carry into its neighbour, so zero points
of what we write lie in [1, 2**bits - 1]. Version 2 (`gptq_v2`, read only) stores the zero point itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from quant_action.checkpoints import bits as bitstream
from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.records import WeightScheme


class GPTQFormat:
    method = "gptq"
    parts = ("qweight", "qzeros", "scales", "g_idx")
    optional: tuple[str, ...] = ()

    def refuses(self, *, out_features: int, in_features: int, scheme: WeightScheme) -> str | None:
        for name, features in (("outputs", out_features), ("inputs", in_features)):
            if features % bitstream.WORD:
                return f"{features} {name} do not fill whole 32-bit words (a multiple of 32 does)"
        if scheme.group_size != -1 and in_features % scheme.group_size:
            return f"group size {scheme.group_size} does not divide its {in_features} inputs"
        return None

    def pack(self, linear: QuantizedLinear, *, bits: int) -> dict[str, torch.Tensor]:
        if int(linear.zeros.min()) < 1:
            raise ValueError("the GPTQ format cannot hold a zero point of 0")
        return {
            "qweight": bitstream.pack(linear.codes.T, bits),
            "qzeros": bitstream.pack(linear.zeros - 1, bits).T.contiguous(),
            "scales": linear.scales.T.contiguous(),
            "g_idx": linear.groups.clone(),  # linears of one site share it in memory, but not on disk
        }

    def unpack(self, tensors: Mapping[str, torch.Tensor], *, config: Mapping[str, Any]) -> QuantizedLinear:
        bits = int(config["bits"])
        offset = 0 if "gptq_v2" in (config.get("checkpoint_format"), config.get("format")) else 1
        codes = bitstream.unpack(tensors["qweight"], bits).T
        zeros = bitstream.unpack(tensors["qzeros"].T, bits)
        scales, groups = tensors["scales"], tensors["g_idx"]
        fits = codes.shape == (scales.shape[1], len(groups)) and zeros.T.shape == scales.shape
        if not fits or not 0 <= int(groups.min()) <= int(groups.max()) < len(scales):
            raise ValueError(f"qweight, qzeros, scales and g_idx do not fit together: {[tuple(t.shape) for t in tensors.values()]}")
        return QuantizedLinear(codes=codes, scales=scales.T, zeros=((zeros.int() + offset) % 2**bits).to(torch.uint8), groups=groups)

    def config(self, scheme: WeightScheme) -> dict[str, Any]:
        return {
            "quant_method": self.method,
            "checkpoint_format": "gptq",
            "bits": scheme.bits,
            "group_size": scheme.group_size,
            "sym": scheme.symmetric,
            "desc_act": scheme.act_order and not scheme.static_groups,
            "static_groups": scheme.static_groups,
            "true_sequential": True,
            "damp_percent": scheme.damping,
            "lm_head": False,
            "pack_dtype": "int32",
            # GPTQModel reads asymmetric version-1 checkpoints only when `gptqmodel` 0.9 or newer stands here: older tools let zero points
            # of 0 overflow. Ours never do, so the statement holds.
            "meta": {"quantizer": ["quant_action:1", "gptqmodel:0.9.0"]},
        }
