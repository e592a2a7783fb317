"""Loading model folders: base, GPTQ, AWQ and bitsandbytes; complete, finite, or an error that names the tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from quant_action.checkpoints.formats import format_of
from quant_action.checkpoints.load import load_model, load_tokenizer
from quant_action.checkpoints.source import Source
from quant_action.engines.native.streaming import quantize_model
from quant_action.errors import ModelError
from quant_action.records import WeightScheme
from tests.unit.tiny_models import DECODERS, blocks, random_model, save, scheme, silent

IDS = torch.tensor(blocks(samples=2, seed=5))

SCHEMES = [
    scheme(bits=2, symmetric=False, static_groups=False),
    scheme(bits=3, symmetric=False, scales="awq"),
    scheme(bits=4),
    scheme(bits=8, group_size=-1),
    scheme(method="awq", bits=4, symmetric=False, scales="awq"),
]


def edit(model: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(model / "model.safetensors")
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    save(random_model("llama"), tmp_path / "model")
    (tmp_path / "packed").mkdir()
    quantize_model(tmp_path / "model", tmp_path / "packed", scheme(), blocks=blocks(), device="cpu", progress=silent)
    return tmp_path / "packed"


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_base_model_is_what_transformers_makes_of_it(architecture: str, tmp_path: Path) -> None:
    original = random_model(architecture)
    save(original, tmp_path, dtype=torch.float32)
    model = load_model(tmp_path, device="cpu", dtype=torch.float32)
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, original(IDS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wanted", SCHEMES, ids=lambda wanted: f"{wanted.method}-w{wanted.bits}")
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_packed_model_is_the_base_with_its_weights_dequantized(architecture: str, wanted: WeightScheme, tmp_path: Path) -> None:
    base = save(random_model(architecture), tmp_path / "model")
    output = tmp_path / "output"
    output.mkdir()
    quantized = quantize_model(base, output, wanted, blocks=blocks(), device="cpu", progress=silent)
    source, format = Source(output), format_of(wanted)
    model = load_model(base, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module = name.removesuffix(".weight")
            if module in quantized:
                tensors = {part: source.read(f"{module}.{part}") for part in format.parts}
                parameter.copy_(format.unpack(tensors, config=format.config(wanted)).dequantize())
            elif name in source:
                parameter.copy_(source.read(name))
        expected = model(IDS).logits
        assert torch.equal(load_model(output, device="cpu", dtype=torch.float32)(IDS).logits, expected)


def test_the_dtype_is_the_one_asked_for(packed: Path) -> None:
    model = load_model(packed, device="cpu", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    base = save(random_model("gemma3"), tmp_path / "model")
    (tmp_path / "output").mkdir()
    quantize_model(base, tmp_path / "output", scheme(), blocks=blocks(), device="cpu", progress=silent)
    model = load_model(tmp_path / "output", device="cpu", dtype=torch.float32)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_bitsandbytes_model_loads_as_it_was_saved(tmp_path: Path) -> None:
    base = save(random_model("llama", intermediate_size=128), tmp_path / "model")  # bitsandbytes' CPU kernels need whole blocks of 64
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(base, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"})
    original.save_pretrained(tmp_path / "output")
    with torch.no_grad():
        expected = original(IDS).logits
        assert torch.equal(load_model(tmp_path / "output", device="cpu", dtype=torch.float32)(IDS).logits, expected)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.scales"])
def test_a_missing_tensor_of_a_packed_model_is_named(packed: Path, name: str) -> None:
    edit(packed, name, None)
    with pytest.raises(ModelError, match=f"has no tensor {name}"):
        load_model(packed, device="cpu", dtype=torch.float32)


def test_a_missing_tensor_of_a_base_model_is_named(tmp_path: Path) -> None:
    save(random_model("llama"), tmp_path)
    edit(tmp_path, "model.layers.1.mlp.up_proj.weight", None)
    with pytest.raises(ModelError, match=r"has no tensor model.layers.1.mlp.up_proj.weight"):
        load_model(tmp_path, device="cpu", dtype=torch.float32)


def test_scales_that_are_not_finite_are_named(packed: Path) -> None:
    name = "model.layers.0.mlp.up_proj.scales"
    scales = Source(packed).read(name)
    scales[0, 3] = float("inf")
    edit(packed, name, scales)
    with pytest.raises(ModelError, match=f"{name} holds NaN or infinite values"):
        load_model(packed, device="cpu", dtype=torch.float32)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    save(random_model("llama"), tmp_path)
    edit(tmp_path, "model.norm.weight", torch.full((64,), float("nan"), dtype=torch.bfloat16))
    with pytest.raises(ModelError, match=r"model.norm.weight holds NaN"):
        load_model(tmp_path, device="cpu", dtype=torch.float32)


def test_packed_shapes_that_do_not_fit_name_the_layer(packed: Path) -> None:
    name = "model.layers.0.mlp.up_proj"
    edit(packed, f"{name}.qzeros", Source(packed).read(f"{name}.qzeros")[:1])
    with pytest.raises(ModelError, match=f"{name} is not a valid gptq layer"):
        load_model(packed, device="cpu", dtype=torch.float32)


def test_a_config_that_does_not_fit_the_weights_is_refused(packed: Path) -> None:
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    with pytest.raises(ModelError, match=r"has shape \(96, 64\), the config asks for \(128, 64\)"):
        load_model(packed, device="cpu", dtype=torch.float32)


def test_an_unknown_quantization_is_refused(packed: Path) -> None:
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "magic"}}))
    with pytest.raises(ModelError, match="quantized by 'magic'"):
        load_model(packed, device="cpu", dtype=torch.float32)


def test_a_folder_without_a_tokenizer_is_refused(packed: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer that loads"):
        load_tokenizer(packed)
