"""The whole pass on tiny models of each architecture, against a plain reference that runs the whole model again for every site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant_action.checkpoints.formats import FORMATS
from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.checkpoints.load import load_model
from quant_action.checkpoints.skeleton import decoder_of
from quant_action.checkpoints.source import Source
from quant_action.engines.native.gptq import gptq
from quant_action.engines.native.grid import Grid
from quant_action.engines.native.streaming import quantize_model
from quant_action.errors import EngineError, ModelError
from quant_action.records import WeightScheme
from tests.unit.tiny_models import DECODERS, blocks, random_model, save, scheme, silent

PER_LAYER = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def run(model: Path, output: Path, wanted: WeightScheme, *, ids: list[list[int]] | None = None) -> list[str]:
    output.mkdir()
    return quantize_model(model, output, wanted, blocks=blocks() if ids is None else ids, device="cpu", progress=silent)


def stored(folder: Path, module: str) -> QuantizedLinear:
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    source, format = Source(folder), FORMATS[config["quant_method"]]
    return format.unpack({part: source.read(f"{module}.{part}") for part in format.parts}, config=config)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor(blocks(samples=2, seed=9))).logits.float()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def reference(model: Any, sites: list[tuple[str, ...]]) -> dict[str, torch.Tensor]:
    """True-sequential 4-bit symmetric GPTQ with static activation order: for each site, the model runs on all data again."""
    found = {}
    for names in sites:
        seen: list[torch.Tensor] = []
        hook = model.get_submodule(names[0]).register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[0].double().flatten(0, 1))
        )
        model(torch.tensor(blocks()))
        hook.remove()
        gram = seen[0].T @ seen[0] / len(seen[0])
        for name in names:
            linear = model.get_submodule(name)
            grid = Grid(bits=4, symmetric=True, clip=False)
            done = gptq(linear.weight.double(), gram, grid=grid, group_size=32, act_order=True, static_groups=True, damping=0.01)
            group = done.groups.long()
            linear.weight.copy_((done.codes - done.zeros[:, group]) * done.scales[:, group])
            found[name] = done.codes
    return found


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_streamed_pass_is_true_sequential_gptq(architecture: str, tmp_path: Path) -> None:
    model = save(random_model(architecture), tmp_path / "model")
    quantized = run(model, tmp_path / "output", scheme())
    sites = [
        tuple(f"model.layers.{number}.{name}" for name in names)
        for number in range(2)
        for names in (PER_LAYER[:3], PER_LAYER[3:4], PER_LAYER[4:6], PER_LAYER[6:])
    ]
    whole = load_model(model, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        codes = reference(whole, sites)
    assert sorted(quantized) == sorted(codes)
    for name in quantized:
        # float32 sums in another order may move a weight that lies between two codes
        assert (stored(tmp_path / "output", name).codes == codes[name]).float().mean() > 0.995, name
    assert distance(logits(load_model(tmp_path / "output", device="cpu", dtype=torch.float32)), logits(whole)) < 0.02


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize(
    "wanted",
    [
        scheme(bits=8, clip=True),
        scheme(method="awq", symmetric=False, bits=8, scales="awq", clip=True),
        scheme(bits=8, symmetric=False, scales="awq", static_groups=False),
    ],
    ids=["gptq", "awq", "gptq with awq scales"],
)
def test_eight_bits_reproduce_the_model(architecture: str, wanted: WeightScheme, tmp_path: Path) -> None:
    original = random_model(architecture)
    model = save(original, tmp_path / "model", dtype=torch.float32)
    quantized = run(model, tmp_path / "output", wanted)
    assert sorted(quantized) == sorted(f"model.layers.{number}.{name}" for number in range(2) for name in PER_LAYER)
    assert distance(logits(load_model(tmp_path / "output", device="cpu", dtype=torch.float32)), logits(original)) < 0.02


def test_what_is_not_quantized_is_kept_bit_by_bit(tmp_path: Path) -> None:
    model = save(random_model("qwen2"), tmp_path / "model")
    run(model, tmp_path / "output", scheme())
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "output/model.safetensors")
    kept = {name for name in before if not any(name.endswith(f"{module}.weight") for module in PER_LAYER)}
    assert {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"} <= kept
    assert kept == {name for name in after if name.rpartition(".")[2] in ("weight", "bias")}
    for name in kept:
        assert before[name].dtype == after[name].dtype == torch.bfloat16
        assert torch.equal(before[name], after[name])


def test_a_norm_that_absorbs_scales_keeps_its_dtype_and_the_weights_know_its_rounding(tmp_path: Path) -> None:
    original = random_model("gemma2")
    model = save(original, tmp_path / "model")  # bfloat16: three digits
    run(model, tmp_path / "output", scheme(method="awq", bits=8, symmetric=False, scales="awq"))
    norm = "model.layers.0.input_layernorm.weight"
    before, after = Source(model).read(norm), Source(tmp_path / "output").read(norm)
    assert after.dtype == torch.bfloat16
    assert not torch.equal(before, after)
    scales = (before.float() + 1) / (after.float() + 1)
    weight = Source(model).read("model.layers.0.self_attn.q_proj.weight").float()
    quantized = stored(tmp_path / "output", "model.layers.0.self_attn.q_proj")
    step = quantized.scales.float()[:, quantized.groups.long()]
    assert bool(((quantized.dequantize() - weight * scales).abs() <= 1.01 * step).all())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    wanted = scheme(symmetric=False, clip=True, scales="awq")
    run(model, tmp_path / "one", wanted)
    run(model, tmp_path / "two", wanted)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["config.json", "generation_config.json", "model.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_rounding_to_nearest_needs_no_calibration(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    (tmp_path / "output").mkdir()
    quantize_model(model, tmp_path / "output", scheme(method="rtn", symmetric=False, bits=3), blocks=None, device="cpu", progress=silent)
    name = "model.layers.1.mlp.down_proj"
    weight = Source(model).read(f"{name}.weight").float()
    low, high = (bound.float() for bound in weight.unflatten(1, (-1, 32)).aminmax(dim=-1))
    linear = stored(tmp_path / "output", name)
    assert torch.equal(linear.scales, ((high - low) / 7).half())
    assert bool(((linear.dequantize() - weight).abs() <= 0.51 * linear.scales.float().repeat_interleave(32, 1)).all())


def test_gptq_is_closer_to_the_model_than_rounding_to_nearest(tmp_path: Path) -> None:
    original = random_model("llama")
    model = save(original, tmp_path / "model", dtype=torch.float32)
    ids = blocks(samples=32)
    run(model, tmp_path / "gptq", scheme(bits=3), ids=ids)
    run(model, tmp_path / "rtn", scheme(method="rtn", bits=3), ids=ids)
    losses = {
        name: distance(logits(load_model(tmp_path / name, device="cpu", dtype=torch.float32)), logits(original)) for name in ("gptq", "rtn")
    }
    assert losses["gptq"] < losses["rtn"]


def test_progress_counts_layers(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    (tmp_path / "output").mkdir()
    model = save(random_model("llama"), tmp_path / "model")
    quantize_model(model, tmp_path / "output", scheme(), blocks=blocks(), device="cpu", progress=lambda *args: seen.append(args))
    assert seen == [("quantize", 1, 2), ("quantize", 2, 2)]


def change_config(model: Path, **changes: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


def test_a_group_size_that_does_not_divide_names_the_layer(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    with pytest.raises(EngineError, match="group size 64 does not divide its 96 inputs") as caught:
        run(model, tmp_path / "output", scheme(group_size=64))
    assert caught.value.where == "model.layers.0.mlp.down_proj"


def test_activations_that_overflow_name_the_layer(tmp_path: Path) -> None:
    original = random_model("llama")
    original.model.layers[1].post_attention_layernorm.weight.mul_(1e25)
    model = save(original, tmp_path / "model")
    with pytest.raises(EngineError, match="not finite") as caught:
        run(model, tmp_path / "output", scheme(method="awq", scales=None, clip=True))
    assert caught.value.where == "model.layers.1.mlp.gate_proj"


def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    change_config(model, quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="quantized already"):
        run(model, tmp_path / "output", scheme())


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    change_config(model, model_type="quantum-llama")
    with pytest.raises(ModelError, match="not a config that transformers understands"):
        run(model, tmp_path / "output", scheme())


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no tensor model.layers.1.self_attn.k_proj.weight"):
        run(model, tmp_path / "output", scheme())


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    with pytest.raises(ModelError, match="has 64 embeddings, its tokenizer uses id 64"):
        run(model, tmp_path / "output", scheme(), ids=[[1, 2, 64]])


def test_a_base_saved_without_its_head_and_prefix_is_read(tmp_path: Path) -> None:
    original = random_model("qwen2")
    model = save(original, tmp_path / "model", dtype=torch.float32)
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert run(model, tmp_path / "output", scheme(bits=8))[0] == "layers.0.self_attn.q_proj"
    change_config(tmp_path / "output", tie_word_embeddings=True)
    assert load_model(tmp_path / "output", device="cpu", dtype=torch.float32) is not None


def test_decoder_layers_are_found_by_their_number() -> None:
    decoder = decoder_of(random_model("gpt-neox"))
    assert (decoder.name, decoder.layers_name) == ("gpt_neox", "gpt_neox.layers")
