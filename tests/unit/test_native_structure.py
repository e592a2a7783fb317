"""What a decoder layer is found to be made of, for several architectures, and that folding leaves the function as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from quant_action.checkpoints.skeleton import decoder_of
from quant_action.engines.native.embedding import embed
from quant_action.engines.native.structure import Call, LinearFold, NormFold, Site, find_sites, first_output, folded, linears_of
from quant_action.errors import EngineError
from tests.unit.tiny_models import blocks, random_model

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


def layers_of(architecture: str) -> list[tuple[nn.Module, torch.Tensor, Any]]:
    """Each decoder layer with hidden states and the call that the model would make."""
    model = random_model(architecture)
    decoder = decoder_of(model)
    with torch.no_grad():
        embedded = embed(decoder, [torch.tensor(blocks(samples=1, tokens=32))])
        hidden, found = embedded.hidden[0], []
        for layer, call in zip(decoder.layers, embedded.calls, strict=True):
            found.append((layer, hidden, call))
            hidden = first_output(layer(hidden, *call.args, **call.kwargs))
    return found


def llama_like(*, norm: str, offset: float, o_proj: LinearFold | None = None) -> tuple[Site, ...]:
    return (
        Site(linears=QKV, fold=NormFold(name="input_layernorm", offset=offset)),
        Site(linears=("self_attn.o_proj",), fold=o_proj),
        Site(linears=GATE_UP, fold=NormFold(name=norm, offset=offset)),
        Site(linears=("mlp.down_proj",), fold=LinearFold(name="mlp.up_proj")),
    )


EXPECTED = {
    "llama": llama_like(norm="post_attention_layernorm", offset=0),
    "llama-mha": llama_like(norm="post_attention_layernorm", offset=0, o_proj=LinearFold(name="self_attn.v_proj")),
    "mistral": llama_like(norm="post_attention_layernorm", offset=0),
    "qwen2": llama_like(norm="post_attention_layernorm", offset=0),
    "qwen3": llama_like(norm="post_attention_layernorm", offset=0),
    "gemma2": llama_like(norm="pre_feedforward_layernorm", offset=1),
    "gemma3": llama_like(norm="pre_feedforward_layernorm", offset=1),
    # One norm feeds attention and MLP side by side, and a LayerNorm has a bias.
    "phi": (
        Site(linears=(*QKV, "mlp.fc1"), fold=NormFold(name="input_layernorm", offset=0)),
        Site(linears=("self_attn.dense",)),
        Site(linears=("mlp.fc2",)),
    ),
    # Query, key and value are one linear; GELU stands between the two of the MLP.
    "gpt-neox": (
        Site(linears=("attention.query_key_value",), fold=NormFold(name="input_layernorm", offset=0)),
        Site(linears=("attention.dense",)),
        Site(linears=("mlp.dense_h_to_4h",), fold=NormFold(name="post_attention_layernorm", offset=0)),
        Site(linears=("mlp.dense_4h_to_h",)),
    ),
}


@pytest.mark.parametrize("architecture", EXPECTED)
def test_sites_and_folds(architecture: str) -> None:
    for layer, hidden, call in layers_of(architecture):
        with torch.no_grad():
            assert find_sites(layer, hidden, call, folds=True) == EXPECTED[architecture]


@pytest.mark.parametrize("architecture", EXPECTED)
def test_folding_leaves_the_layer_as_it_was(architecture: str) -> None:
    generator = torch.Generator().manual_seed(1)
    for layer, hidden, call in layers_of(architecture):
        with torch.no_grad():
            before = first_output(layer(hidden, *call.args, **call.kwargs))
            parameters = dict(layer.named_parameters())
            for site in EXPECTED[architecture]:
                if site.fold:
                    scales = torch.exp(torch.randn(layer.get_submodule(site.leader).in_features, generator=generator) / 2)
                    parameters |= folded(parameters, site, scales)
            after = first_output(functional_call(layer, parameters, (hidden, *call.args), call.kwargs))
        assert float((after - before).norm() / before.norm()) < 1e-5


def test_a_norm_whose_output_something_else_reads_is_not_folded() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.one, self.two = nn.RMSNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            x = self.norm(hidden)
            return hidden + self.two(torch.tanh(self.one(x))) + x

    torch.manual_seed(0)
    with torch.no_grad():
        sites = find_sites(Layer(), torch.randn(1, 5, 8), Call(args=(), kwargs={}), folds=True)
    assert sites == (Site(linears=("one",)), Site(linears=("two",)))


def test_experts_in_one_tensor_are_refused_by_name() -> None:
    layer = decoder_of(random_model("mixtral")).layers[0]
    with pytest.raises(EngineError, match="would stay unquantized") as caught:
        linears_of(layer)
    assert "mlp" in str(caught.value.where)


def test_a_linear_that_is_never_reached_is_refused_by_name() -> None:
    layer, hidden, call = layers_of("llama")[0]
    layer.mlp.spare = nn.Linear(64, 64)
    with torch.no_grad(), pytest.raises(EngineError, match="does not reach it") as caught:
        find_sites(layer, hidden, call, folds=False)
    assert caught.value.where == "mlp.spare"
