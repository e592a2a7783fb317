"""Quantizes one decoder layer, site by site: scales, grids, rounding, and the parameters that absorb the scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.engines.native.awq import search_scales
from quant_action.engines.native.gptq import Rounded, gptq, round_to_nearest
from quant_action.engines.native.grid import Grid
from quant_action.engines.native.lockstep import Inputs
from quant_action.engines.native.structure import LinearFold, NormFold, Site
from quant_action.errors import EngineError
from quant_action.records import WeightScheme


@dataclass(kw_only=True)
class LayerQuantizer:
    """Quantizes the sites of `layer` one after the other; what is to be stored gathers in `linears` and `parameters`."""

    scheme: WeightScheme
    layer: nn.Module
    weights: Mapping[str, torch.Tensor]
    """Original weights of the linears, float32 [out, in]."""
    vectors: Mapping[str, torch.Tensor]
    """Norm weights and biases as the base model stores them; what absorbs scales keeps its dtype."""
    linears: dict[str, QuantizedLinear] = field(default_factory=dict)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    """Norm weights and biases that changed."""

    def quantize(self, site: Site, inputs: Inputs | None) -> None:
        """Replace the weights of the site's linears by what their quantized form computes for the unscaled input."""
        weight = torch.cat([self.weights[name] for name in site.linears])
        grid = Grid(bits=self.scheme.bits, symmetric=self.scheme.symmetric, clip=self.scheme.clip)
        gram = inputs.gram if inputs else None
        scales = None
        if self.scheme.scales == "awq" and site.fold and inputs:
            wanted = search_scales(weight, inputs.gram, inputs.mean_magnitude, grid=grid, group_size=self.scheme.group_size)
            scales = self._absorb(site.fold, wanted)
            weight, gram = weight * scales, inputs.gram / torch.outer(scales, scales)
        rounded = self._round(weight, gram, grid)
        del weight, gram
        first = 0
        for name in site.linears:
            rows = slice(first, first + self.weights[name].shape[0])
            first = rows.stop
            linear = QuantizedLinear(
                codes=rounded.codes[rows],
                scales=rounded.scales[rows].half(),
                zeros=rounded.zeros[rows].to(torch.uint8),
                groups=rounded.groups,
            )
            if not bool(torch.isfinite(linear.scales).all()):
                raise EngineError("has weights too large for float16 scales", where=name, remedy="Use a smaller group size.")
            self.linears[name] = linear
            effective = linear.dequantize()
            if scales is not None:
                effective /= scales
            module = self.layer.get_submodule(name)
            module.weight = nn.Parameter(effective.to(module.weight.dtype), requires_grad=False)

    def _round(self, weight: torch.Tensor, gram: torch.Tensor | None, grid: Grid) -> Rounded:
        scheme = self.scheme
        if scheme.method != "gptq":
            return round_to_nearest(weight, gram, grid=grid, group_size=scheme.group_size)
        assert gram is not None
        return gptq(
            weight,
            gram,
            grid=grid,
            group_size=scheme.group_size,
            act_order=scheme.act_order,
            static_groups=scheme.static_groups,
            damping=scheme.damping,
        )

    def _absorb(self, fold: NormFold | LinearFold, scales: torch.Tensor) -> torch.Tensor:
        """Divide by `scales` what stands before the site; returns the scales that this amounts to in the precision that is stored."""
        parameters = {name: vector.float() for name, vector in self.vectors.items()}
        if isinstance(fold, LinearFold):
            # Already quantized (sites come in the order of the forward pass): its codes stay, its float16 steps take the factor.
            linear = self.linears[fold.name]
            steps = (linear.scales.float() / scales[:, None]).half()
            if not bool(torch.isfinite(steps).all()):
                return torch.ones_like(scales)
            self.linears[fold.name] = QuantizedLinear(codes=linear.codes, scales=steps, zeros=linear.zeros, groups=linear.groups)
            if f"{fold.name}.bias" in parameters:
                bias = f"{fold.name}.bias"
                self.parameters[bias] = (parameters[bias] / scales).to(self.vectors[bias].dtype)
            return scales
        changed = {name: value.to(self.vectors[name].dtype) for name, value in fold.scaled(parameters, scales).items()}
        before = parameters[f"{fold.name}.weight"] + fold.offset
        after = changed[f"{fold.name}.weight"].float() + fold.offset
        ratio = before / after
        self.parameters |= changed
        return torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, scales)
