"""What a checkpoint format is: how one quantized linear layer lies on disk, and what config.json says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from quant_action.records import WeightScheme


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """Integer codes and their grids: weight[o, i] = (codes[o, i] - zeros[o, g]) * scales[o, g] with g = groups[i]."""

    codes: torch.Tensor
    """uint8 [out, in], each in [0, 2**bits)."""
    scales: torch.Tensor
    """[out, groups], in the type in which they are stored: float16 in GPTQ and AWQ checkpoints."""
    zeros: torch.Tensor
    """uint8 [out, groups]."""
    groups: torch.Tensor
    """int32 [in]: the group of each input (GPTQ calls it g_idx)."""

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weight [out, in], computed in float32 and then rounded to `dtype`."""
        group = self.groups.long()
        return ((self.codes.float() - self.zeros.float()[:, group]) * self.scales.float()[:, group]).to(dtype)


class StoredFormat(Protocol):
    """One that can be read."""

    @property
    def method(self) -> str:
        """`quant_method` in config.json."""
        ...

    @property
    def parts(self) -> tuple[str, ...]:
        """Suffixes of the tensors that stand for one weight, the packed codes first."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """Suffixes of tensors that some weights have."""
        ...

    def unpack(self, tensors: Mapping[str, torch.Tensor], *, config: Mapping[str, Any]) -> QuantizedLinear:
        """The stored layer; `config` is the folder's `quantization_config`. Raises ValueError for shapes that do not fit together."""
        ...


class Format(StoredFormat, Protocol):
    """One that the native engine writes, too."""

    def refuses(self, *, out_features: int, in_features: int, scheme: WeightScheme) -> str | None:
        """Why a layer of this shape cannot be stored, or None."""
        ...

    def pack(self, linear: QuantizedLinear, *, bits: int) -> dict[str, torch.Tensor]:
        """Suffix -> tensor; the inverse of `unpack`."""
        ...

    def config(self, scheme: WeightScheme) -> dict[str, Any]:
        """`quantization_config` of config.json."""
        ...
