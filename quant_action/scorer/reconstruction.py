"""Does each decoder layer of a candidate still compute what the original's does?

An artifact can be whole, of the right shape and at the right bits, and yet be broken: scales that do not belong to their weights, or a norm
that was folded into one side only. Headers do not show it, and a bad perplexity does not say why. Here every layer of the original is run
on the very inputs that the candidate's layer gets, and their outputs are compared as

    error = |candidate(x) - original(x)| / |original(x) - x|      (Frobenius norms; x is the residual stream)

What is too much depends on bits and model, so the ruler is the error that plain rounding of the original's weights makes on the same
input. On SmolLM2-135M and tiny-llama, 4-bit GPTQ, AWQ and NF4 are at 0.7 to 1.3 times that error, GPTQ at 2 bits with little calibration
data at up to 1.9. What AutoAWQ writes without a GPU is at up to 80 times (SmolLM2: perplexity 4e5), and at 3.2 times on tiny-llama, whose
perplexity it raises by a mere 17%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant_action.checkpoints.skeleton import decoder_of, empty_model, fill, model_config, source_reader
from quant_action.checkpoints.source import Source
from quant_action.errors import EngineError

TOKENS = 128
"""Of the first window; a layer's error hardly depends on the text."""

LIMIT = 2.5
"""Times the error of plain rounding."""

RULER_BITS = 4
"""Of the rounding to compare with, for more bits too: LLM.int8 rounds activations as well, and is above plain 8-bit rounding."""


@dataclass(frozen=True, kw_only=True)
class LayerError:
    layer: str
    candidate: float
    rounding: float
    """Of plain rounding of the original's weights to the same bits, on the same input."""


def check_layers(
    decoder: Any,
    base: Path,
    ids: torch.Tensor,
    *,
    bits: int,
    group_size: int,
    dtype: torch.dtype,
    device: str,
    progress: Callable[[str, int, int], None],
) -> list[LayerError]:
    """Compare each layer of a loaded candidate's `decoder`, on token ids [1, length]; one layer of the folder `base` in memory at a time.

    `bits` and `group_size` are those of the candidate; a `group_size` of -1 is a whole row.

    Raises `EngineError` naming the first layer that rounding cannot explain, or whose numbers are not finite.
    """
    source, bits = Source(base), min(bits, RULER_BITS)
    original: Any = empty_model(model_config(base))
    originals = decoder_of(original)
    read = source_reader(source, original, device=device, dtype=dtype)
    calls = _calls(decoder, ids[:, :TOKENS])
    errors: list[LayerError] = []
    for number, (layer, (states, others, theirs)) in enumerate(zip(originals.layers, calls, strict=True)):
        name = f"{originals.layers_name}.{number}"
        fill(layer, read, layer.state_dict(), prefix=f"{name}.")
        layer.to(device)
        ours = _states(layer(states, **others))
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = rounded(module.weight.data, bits=bits, group_size=group_size)
        plain = _states(layer(states, **others))
        layer.to("meta")
        added = (ours - states).float().norm()
        error = LayerError(
            layer=name, candidate=float((theirs - ours).float().norm() / added), rounding=float((plain - ours).float().norm() / added)
        )
        if not error.candidate <= LIMIT * error.rounding:  # also when it is not a number
            raise EngineError(
                f"its output is off by {error.candidate:.3f} of what the layer adds, where plain rounding to {bits} bits is off by"
                f" {error.rounding:.3f}: it does not compute the layer that it was made from",
                where=name,
                remedy="The engine wrote a broken artifact: use another engine, or another version of it.",
            )
        errors.append(error)
        progress("check layers", number + 1, len(originals.layers))
    return errors


def rounded(weight: torch.Tensor, *, bits: int, group_size: int) -> torch.Tensor:
    """`weight` [out, in] rounded to the nearest of `2**bits` evenly spaced values between each group's least and largest."""
    groups = weight.float().reshape(weight.shape[0], -1, weight.shape[1] if group_size == -1 else group_size)
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
    return ((((groups - low) / step).round() * step) + low).reshape(weight.shape).to(weight.dtype)


def _calls(decoder: Any, ids: torch.Tensor) -> list[tuple[torch.Tensor, dict[str, Any], torch.Tensor]]:
    """Of each layer in one forward pass: its input, its other arguments, its output."""
    calls: list[tuple[torch.Tensor, dict[str, Any], torch.Tensor]] = []

    def remember(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        others = dict(kwargs)
        states = args[0] if args else others.pop("hidden_states")
        calls.append((states, others, _states(output)))

    hooks = [layer.register_forward_hook(remember, with_kwargs=True) for layer in decoder_of(decoder).layers]
    try:
        decoder(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _states(output: Any) -> torch.Tensor:
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states
