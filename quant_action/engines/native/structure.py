"""What a decoder layer is made of, found out by running it: which linears share an input, and what can absorb a scaling of that input.

No architecture is known by name. A *site* is all linears that are given the same tensor. Its input can be scaled by 1/s when something
before it can take over the factor: a norm whose output the input is, or a linear whose outputs the input is proportional to (up_proj before
down_proj; v_proj before o_proj unless heads are shared). Each such claim is tested on the layer itself, in float32, with random scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from quant_action.errors import EngineError

TOLERANCE = 1e-3
"""Relative change, per token, of what a layer adds to its input that still counts as float32 rounding; a wrong fold gives about 1."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the model passes to a decoder layer besides the hidden states: masks, position embeddings, ..."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NormFold:
    """Scale a norm's gain, which is its weight plus `offset` (1 for Gemma, which stores gain - 1)."""

    name: str
    offset: float

    def scaled(self, parameters: Mapping[str, torch.Tensor], scales: torch.Tensor) -> dict[str, torch.Tensor]:
        """The norm's parameters after its outputs are divided by `scales`."""
        changed = {f"{self.name}.weight": (parameters[f"{self.name}.weight"] + self.offset) / scales - self.offset}
        if f"{self.name}.bias" in parameters:
            changed[f"{self.name}.bias"] = parameters[f"{self.name}.bias"] / scales
        return changed


@dataclass(frozen=True, kw_only=True)
class LinearFold:
    """Scale the rows of the linear `name`."""

    name: str

    def scaled(self, parameters: Mapping[str, torch.Tensor], scales: torch.Tensor) -> dict[str, torch.Tensor]:
        """The linear's parameters after its outputs are divided by `scales`."""
        changed = {f"{self.name}.weight": parameters[f"{self.name}.weight"] / scales[:, None]}
        if f"{self.name}.bias" in parameters:
            changed[f"{self.name}.bias"] = parameters[f"{self.name}.bias"] / scales
        return changed


@dataclass(frozen=True, kw_only=True)
class Site:
    """Linears of a decoder layer that read the same tensor, in the order of the forward pass."""

    linears: tuple[str, ...]
    fold: NormFold | LinearFold | None = None

    @property
    def leader(self) -> str:
        return self.linears[0]


@dataclass
class _Trace:
    """One forward pass: inputs of linears, inputs and outputs of what has a gain per feature, and the layer's output."""

    linears: dict[str, torch.Tensor] = field(default_factory=dict)
    gains: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    output: torch.Tensor = field(default_factory=lambda: torch.empty(0))


def first_output(output: Any) -> torch.Tensor:
    """A decoder layer's hidden states: its output, or the first of its outputs."""
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states


def linears_of(layer: nn.Module) -> dict[str, nn.Linear]:
    """The layer's linears by name. Raises `EngineError` for any other matrix of weights: it would stay unquantized."""
    linears = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    for name, parameter in layer.named_parameters():
        if parameter.dim() > 1 and name.rpartition(".")[0] not in linears:
            raise EngineError(
                f"would stay unquantized: a weight of shape {tuple(parameter.shape)} that is not a linear layer's",
                where=name,
                remedy="This architecture (experts in one tensor, convolutions) needs another engine.",
            )
    return linears


def find_sites(layer: nn.Module, hidden: torch.Tensor, call: Call, *, folds: bool) -> tuple[Site, ...]:
    """The layer's sites, in the order of the forward pass; with `folds`, how the input of each can be scaled, where it can.

    `layer` and `hidden` [1, tokens, features] are float32. Raises `EngineError` for a linear that the forward pass does not reach.
    """
    linears = linears_of(layer)
    base = _trace(layer, hidden, call)
    for name in linears.keys() - base.linears.keys():
        raise EngineError(
            "would stay unquantized: the forward pass does not reach it", where=name, remedy="Use another engine for this architecture."
        )
    sites: list[Site] = []
    for name, x in base.linears.items():
        known = next((number for number, site in enumerate(sites) if base.linears[site.leader] is x), None)
        if known is None:
            sites.append(Site(linears=(name,)))
        else:
            sites[known] = replace(sites[known], linears=(*sites[known].linears, name))
    return tuple(replace(site, fold=_find_fold(layer, hidden, call, base, site)) for site in sites) if folds else tuple(sites)


def folded(parameters: Mapping[str, torch.Tensor], site: Site, scales: torch.Tensor) -> dict[str, torch.Tensor]:
    """The layer's parameters that change when the site's input is divided by `scales` and its weights are multiplied by them."""
    assert site.fold is not None
    changed = {f"{name}.weight": parameters[f"{name}.weight"] * scales for name in site.linears}
    return changed | site.fold.scaled(parameters, scales)


def _find_fold(layer: nn.Module, hidden: torch.Tensor, call: Call, base: _Trace, site: Site) -> NormFold | LinearFold | None:
    x = base.linears[site.leader]
    shuffled = torch.randperm(x.shape[-1], generator=torch.Generator().manual_seed(0))
    scales = torch.exp(torch.linspace(-1, 1, x.shape[-1])[shuffled]).to(x.device)
    parameters = dict(layer.named_parameters())
    candidates: list[NormFold | LinearFold] = [*_norms(layer, base, x), *_proportional(layer, hidden, call, base, site, scales)]
    for fold in candidates:
        output = _trace(layer, hidden, call, folded(parameters, replace(site, fold=fold), scales)).output
        if _relative_error(output, base.output, base.output - hidden) < TOLERANCE:
            return fold
    return None


def _norms(layer: nn.Module, base: _Trace, x: torch.Tensor) -> list[NormFold]:
    found = []
    for name, (gain_input, output) in base.gains.items():
        if output is x:
            norm = layer.get_submodule(name)
            nothing = functional_call(norm, {key: torch.zeros_like(value) for key, value in norm.named_parameters()}, (gain_input,))
            found.append(NormFold(name=name, offset=0.0 if not bool(nothing.any()) else 1.0))
    return found


def _proportional(layer: nn.Module, hidden: torch.Tensor, call: Call, base: _Trace, site: Site, scales: torch.Tensor) -> list[LinearFold]:
    """Earlier linears such that multiplying their outputs by `scales` multiplies the site's input by `scales`; the latest first."""
    x = base.linears[site.leader]
    names = list(base.linears)
    parameters = dict(layer.named_parameters())
    found = []
    for name in reversed(names[: names.index(site.leader)]):
        if layer.get_submodule(name).out_features == x.shape[-1]:
            scaled = _trace(layer, hidden, call, LinearFold(name=name).scaled(parameters, 1 / scales)).linears[site.leader]
            if _relative_error(scaled, x * scales, x * scales) < TOLERANCE:
                found.append(LinearFold(name=name))
    return found


def _relative_error(value: torch.Tensor, expected: torch.Tensor, reference: torch.Tensor) -> float:
    """Greatest over tokens of |value - expected| / |reference|; infinite where it is not a number."""
    error = (value - expected).norm(dim=-1) / reference.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(torch.nan_to_num(error, nan=torch.inf).max())


def _trace(layer: nn.Module, hidden: torch.Tensor, call: Call, parameters: dict[str, torch.Tensor] | None = None) -> _Trace:
    trace = _Trace()

    def note_linear(name: str, x: torch.Tensor) -> None:
        if name in trace.linears:
            raise EngineError("runs more than once in one forward pass", where=name, remedy="Use another engine for this architecture.")
        trace.linears[name] = x

    hooks = []
    for name, module in layer.named_modules():
        gain = module._parameters.get("weight")
        if isinstance(module, nn.Linear):
            hooks.append(module.register_forward_pre_hook(lambda _, args, name=name: note_linear(name, args[0])))
        elif gain is not None and gain.dim() == 1:
            hooks.append(module.register_forward_hook(lambda _, args, output, name=name: trace.gains.update({name: (args[0], output)})))
    try:
        trace.output = first_output(functional_call(layer, parameters or {}, (hidden, *call.args), call.kwargs))
    finally:
        for hook in hooks:
            hook.remove()
    return trace
