"""What enters the first decoder layer, and what the model passes to each layer beside it.

Every decoder layer is replaced by a recorder, and the model's own forward is run: it embeds (and scales, and normalises) as it always
does, and computes each layer's masks and position embeddings, without this code knowing how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from quant_action.checkpoints.skeleton import Decoder
from quant_action.engines.native.structure import Call
from quant_action.errors import EngineError


class _TupleExpectedError(Exception):
    """The model takes the first element of what a layer returns."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    hidden: list[torch.Tensor]
    """Per chunk of sequences, [batch, tokens, features]."""
    calls: list[Call]
    """Per layer; the same for every chunk."""


def embed(decoder: Decoder, chunks: Sequence[torch.Tensor]) -> Embedded:
    """`chunks` are token ids of one shape, [batch, tokens], without padding.

    Raises `EngineError` when a layer is given something, beside the hidden states, that depends on the tokens.
    """
    try:
        return _embed(decoder, chunks, as_tuple=False)
    except _TupleExpectedError:
        return _embed(decoder, chunks, as_tuple=True)


def _embed(decoder: Decoder, chunks: Sequence[torch.Tensor], *, as_tuple: bool) -> Embedded:
    hidden: list[torch.Tensor] = []
    calls: list[Call] = []

    def record(number: int, chunk: int, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if number == 0:
            hidden.append(states)
        elif states.shape != hidden[-1].shape:
            raise _TupleExpectedError
        if chunk == 0:
            calls.append(Call(args=args, kwargs=kwargs))
        elif not _equal([*args, kwargs], [*calls[number].args, calls[number].kwargs]):
            raise EngineError(
                "is given inputs, beside the hidden states, that depend on the tokens",
                where=f"{decoder.layers_name}.{number}",
                remedy="Use another engine for this architecture.",
            )
        return (states,) if as_tuple else states

    layers: list[Any] = list(decoder.layers)
    try:
        for chunk, ids in enumerate(chunks):
            for number, layer in enumerate(layers):
                layer.forward = partial(record, number, chunk)
            decoder.inner(input_ids=ids, use_cache=False)
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
    return Embedded(hidden=hidden, calls=calls)


def cast(call: Call, dtype: torch.dtype) -> Call:
    """`call` with its floating-point tensors as `dtype`."""
    return Call(args=_cast(call.args, dtype), kwargs=_cast(call.kwargs, dtype))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {key: _cast(item, dtype) for key, item in value.items()}
    return value


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (int, float, str)):
        return bool(one == other)
    return type(one) is type(other)  # an object, such as an empty cache: nothing to compare
