"""One forward pass in which every linear layer is quantized after all calibration data has reached it and before any has passed it.

GPTQ wants the inputs that a layer will see when everything before it is already quantized ("true sequential"). Libraries run the decoder
layer again for each of its linears, or know each architecture's stages by name. Here the forward pass of each chunk of calibration data
runs in a greenlet, a function call that can be suspended anywhere: a hook on the first linear of each site hands the linear's input to the
caller and suspends. When all chunks have arrived, their Gram matrix is complete, the site is quantized, and the chunks go on through
the new weights. It costs one forward pass, works for any module, and what comes out is the next decoder layer's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]
from torch import nn

from quant_action.engines.native.structure import Call, Site, first_output
from quant_action.errors import EngineError

ROWS = 65536
"""Tokens in one product; longer float32 sums on tensor cores lose digits."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What quantization needs to know of all tokens that reach a site."""

    gram: torch.Tensor
    """X^T X / tokens, float32 [in, in]."""
    mean_magnitude: torch.Tensor
    """Mean of |x|, float32 [in]."""


class _Accumulator:
    def __init__(self, features: int, device: torch.device) -> None:
        self._gram = torch.zeros(features, features, device=device)
        self._magnitude = torch.zeros(features, device=device)
        self._tokens = 0

    def add(self, x: torch.Tensor) -> None:
        for rows in x.reshape(-1, x.shape[-1]).split(ROWS):
            rows = rows.float()
            self._gram.addmm_(rows.T, rows)
            self._magnitude += rows.abs().sum(0)
            self._tokens += len(rows)

    def inputs(self) -> Inputs:
        gram, magnitude = self._gram.div_(self._tokens), self._magnitude.div_(self._tokens)
        if not bool(torch.isfinite(gram.diagonal()).all()):
            raise EngineError(
                "the inputs are not finite on the calibration data",
                remedy="The base model overflows on this text: check the model, or shorten calibration.tokens.",
            )
        return Inputs(gram=gram, mean_magnitude=magnitude)


def run_in_lockstep(
    layer: nn.Module, hidden: Sequence[torch.Tensor], call: Call, sites: Sequence[Site], quantize: Callable[[Site, Inputs], None]
) -> list[torch.Tensor]:
    """Run all chunks of hidden states, each [batch, tokens, features], through `layer`; returns what comes out, in order.

    `quantize` is called once per site, in the order of the forward pass, and replaces the weights of the site's linears in place. Raises
    `EngineError` when the chunks do not meet the sites in that order or a site's linears do not all read the same tensor.
    """
    caller = getcurrent()
    site_of = {name: site for site in sites for name in site.linears}
    arrived: dict[tuple[Any, str], torch.Tensor] = {}

    def arrive(name: str, x: torch.Tensor) -> None:
        site, chunk = site_of[name], getcurrent()
        if name == site.leader:
            arrived[chunk, name] = x
            caller.switch(name, x)
        elif arrived.get((chunk, site.leader)) is not x:
            raise EngineError("does not read the same input for every chunk of the calibration data", where=name)
        if name == site.linears[-1]:
            del arrived[chunk, site.leader]

    def forward(states: torch.Tensor) -> torch.Tensor:
        return first_output(layer(states, *call.args, **call.kwargs))

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, args: arrive(name, args[0])

    hooks = [layer.get_submodule(name).register_forward_pre_hook(hook_for(name)) for name in site_of]
    chunks = [greenlet(forward) for _ in hidden]
    try:
        for step, site in enumerate(sites):
            linear = layer.get_submodule(site.leader)
            accumulator = _Accumulator(int(linear.in_features), hidden[0].device)
            for chunk, states in zip(chunks, hidden, strict=True):
                event = chunk.switch(states) if step == 0 else chunk.switch()
                if chunk.dead or event[0] != site.leader:
                    raise EngineError("is not reached in the same order by every chunk of the calibration data", where=site.leader)
                accumulator.add(event[1])
            try:
                quantize(site, accumulator.inputs())
            except EngineError as error:
                raise EngineError(error.args[0], where=error.where or site.leader, remedy=error.remedy) from error
        outputs = [chunk.switch() for chunk in chunks]
    finally:
        for hook in hooks:
            hook.remove()
    if not all(chunk.dead for chunk in chunks):
        raise EngineError("runs some of its linears more than once")
    return outputs
