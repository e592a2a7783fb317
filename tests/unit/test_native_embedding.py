"""What is recorded of a model's own forward, up to its decoder layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quant_action.checkpoints.skeleton import Decoder, decoder_of
from quant_action.engines.native.embedding import cast, embed
from quant_action.engines.native.structure import Call, first_output
from quant_action.errors import EngineError
from tests.unit.tiny_models import DECODERS, blocks, random_model

IDS = torch.tensor(blocks(samples=4, tokens=24))


class Inner(nn.Module):
    """A decoder whose layers are asked for a tuple, or are told something of the tokens."""

    def __init__(self, *, takes_first: bool = False, tells_tokens: bool = False) -> None:
        super().__init__()
        self.takes_first, self.tells_tokens = takes_first, tells_tokens
        self.embedding = nn.Embedding(64, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> torch.Tensor:
        hidden = self.embedding(input_ids)
        for layer in self.layers:
            output = layer(hidden, tokens=input_ids) if self.tells_tokens else layer(hidden, scale=2.0)
            hidden = output[0] if self.takes_first else output
        return hidden

    def decoder(self) -> Decoder:
        return Decoder(inner=self, layers=self.layers, name="", layers_name="layers")


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_the_layers_run_one_by_one_give_what_the_model_gives(architecture: str) -> None:
    model = random_model(architecture)
    decoder = decoder_of(model)
    embedded = embed(decoder, IDS.split(2))
    hidden = torch.cat(embedded.hidden)
    for layer, call in zip(decoder.layers, embedded.calls, strict=True):
        hidden = torch.cat([first_output(layer(part, *call.args, **call.kwargs)) for part in hidden.split(2)])
    torch.testing.assert_close(decoder.inner.norm(hidden), decoder.inner(input_ids=IDS, use_cache=False).last_hidden_state)


@pytest.mark.parametrize("takes_first", [False, True])
@torch.no_grad()
def test_both_ways_of_taking_a_layers_output_are_understood(takes_first: bool) -> None:
    inner = Inner(takes_first=takes_first)
    embedded = embed(inner.decoder(), IDS.split(2))
    assert torch.equal(torch.cat(embedded.hidden), inner.embedding(IDS))
    assert [call.kwargs for call in embedded.calls] == [{"scale": 2.0}] * 3


@torch.no_grad()
def test_a_layer_that_is_told_something_of_the_tokens_is_refused() -> None:
    with pytest.raises(EngineError, match="depend on the tokens") as caught:
        embed(Inner(tells_tokens=True).decoder(), IDS.split(2))
    assert caught.value.where == "layers.0"


@torch.no_grad()
def test_the_model_is_as_it_was_afterwards() -> None:
    model = random_model("llama")
    before = model(IDS).logits
    embed(decoder_of(model), IDS.split(2))
    assert torch.equal(model(IDS).logits, before)


def test_casting_reaches_nested_tensors_and_leaves_integers_alone() -> None:
    call = Call(
        args=(torch.ones(1),), kwargs={"rope": (torch.ones(1), torch.ones(1)), "position": torch.ones(1, dtype=torch.int64), "flag": True}
    )
    half: Any = cast(call, torch.bfloat16)
    assert [half.args[0].dtype, half.kwargs["rope"][1].dtype, half.kwargs["position"].dtype] == [
        torch.bfloat16,
        torch.bfloat16,
        torch.int64,
    ]
    assert half.kwargs["flag"] is True
