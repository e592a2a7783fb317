"""The two-layer twin of several families: widths kept, each kind of layer there, and a model that loads and computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma3TextConfig, GPT2Config, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config

from quant_action.checkpoints.load import load_model
from quant_action.errors import ModelError
from quant_action.model_files import read_tensors
from quant_action.rehearsal.twin import kept_layers, twin_config
from quant_action.rehearsal.worker import shorten, write_twin
from quant_action.scorer.prompt import Encoder

from .conftest import write_rows

WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SLIDING, FULL = "sliding_attention", "full_attention"

FAMILIES: dict[str, tuple[Any, str, list[str] | None]] = {
    "llama": (lambda: LlamaConfig(**WIDE), "LlamaForCausalLM", None),
    "mistral": (lambda: MistralConfig(**WIDE, sliding_window=16), "MistralForCausalLM", None),
    "qwen2": (lambda: Qwen2Config(**WIDE), "Qwen2ForCausalLM", [FULL, FULL]),
    "qwen2 with a sliding window": (
        lambda: Qwen2Config(**WIDE, use_sliding_window=True, sliding_window=16, max_window_layers=8),
        "Qwen2ForCausalLM",
        [FULL, SLIDING],
    ),
    "qwen3": (lambda: Qwen3Config(**WIDE), "Qwen3ForCausalLM", [FULL, FULL]),
    "gemma2": (lambda: Gemma2Config(**WIDE, sliding_window=16, query_pre_attn_scalar=16), "Gemma2ForCausalLM", [SLIDING, FULL]),
    "gemma3": (lambda: Gemma3TextConfig(**WIDE, sliding_window=16, query_pre_attn_scalar=16), "Gemma3ForCausalLM", [SLIDING, FULL]),
    "phi3": (lambda: Phi3Config(**{key: value for key, value in WIDE.items() if key != "head_dim"}), "Phi3ForCausalLM", None),
}


def save_base(folder: Path, config: Any, architecture: str) -> dict[str, Any]:
    """A folder with config.json alone: a twin needs no weights. Returns what config.json says."""
    config.architectures = [architecture]
    config.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    value: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return value


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_has_two_layers_of_the_same_widths_and_each_kind(family: str, tmp_path: Path) -> None:
    make, architecture, kinds = FAMILIES[family]
    base = save_base(tmp_path / "base", make(), architecture)
    write_twin(tmp_path / "base", tmp_path / "twin", dtype=torch.bfloat16)
    twin = json.loads((tmp_path / "twin/config.json").read_text())
    assert twin["num_hidden_layers"] == 2
    assert twin.get("layer_types") == kinds
    changed = {name for name in base.keys() | twin.keys() if base.get(name) != twin.get(name)}
    assert changed <= {"num_hidden_layers", "layer_types"}
    tensors = read_tensors(tmp_path / "twin")
    assert {name.split(".")[2] for name in tensors if ".layers." in name} == {"0", "1"}
    assert tensors["model.embed_tokens.weight"].shape == (64, 64)
    assert tensors["model.layers.1.mlp.down_proj.weight"].shape == (64, 96)
    assert {tensor.dtype for tensor in tensors.values()} == {"BF16"}
    model: Any = load_model(tmp_path / "twin", device="cpu", dtype=torch.float32)
    with torch.inference_mode():
        logits = model(input_ids=torch.arange(40)[None]).logits
    assert torch.isfinite(logits).all()
    assert float(logits.std()) > 0


def test_a_pattern_of_layers_that_config_json_leaves_to_the_library_is_covered(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", Gemma3TextConfig(**WIDE, query_pre_attn_scalar=16), "Gemma3ForCausalLM")
    del base["layer_types"]  # as the first Gemma 3 checkpoints had it: every sixth layer is full
    (tmp_path / "base/config.json").write_text(json.dumps(base | {"sliding_window_pattern": 6}))
    write_twin(tmp_path / "base", tmp_path / "twin", dtype=torch.float32)
    assert json.loads((tmp_path / "twin/config.json").read_text())["layer_types"] == [SLIDING, FULL]


def test_an_architecture_with_a_name_of_its_own_for_the_number_of_layers(tmp_path: Path) -> None:
    save_base(tmp_path / "base", GPT2Config(n_layer=5, n_embd=32, n_head=2, vocab_size=64, n_positions=64), "GPT2LMHeadModel")
    write_twin(tmp_path / "base", tmp_path / "twin", dtype=torch.float32)
    assert {name.split(".h.")[1][0] for name in read_tensors(tmp_path / "twin") if ".h." in name} == {"0", "1"}


def test_the_same_twin_each_time(tmp_path: Path) -> None:
    save_base(tmp_path / "base", LlamaConfig(**WIDE), "LlamaForCausalLM")
    for name in ("a", "b"):
        write_twin(tmp_path / "base", tmp_path / name, dtype=torch.bfloat16)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_config_that_no_model_fits_is_named(tmp_path: Path) -> None:
    save_base(tmp_path / "base", LlamaConfig(**WIDE), "LlamaForCausalLM")
    config = json.loads((tmp_path / "base/config.json").read_text()) | {"hidden_act": "nothing"}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be built with two layers"):
        write_twin(tmp_path / "base", tmp_path / "twin", dtype=torch.float32)


def test_nested_configs_and_unrelated_lists() -> None:
    config = {"model_type": "pair", "text_config": {"num_hidden_layers": 3}, "vision_config": {"num_hidden_layers": 1}}
    resolved = {
        "model_type": "pair",
        "text_config": {"num_hidden_layers": 3, "layer_types": ["a", "a", "b"], "eos_token_id": [7, 8, 9], "sections": [1, 2]},
        "vision_config": {"num_hidden_layers": 1, "layer_types": ["a"]},
    }
    assert twin_config(config, resolved) == {
        "model_type": "pair",
        "text_config": {"num_hidden_layers": 2, "layer_types": ["a", "b"]},
        "vision_config": {"num_hidden_layers": 1},
    }


@pytest.mark.parametrize(
    ("kinds", "depth", "kept"),
    [("", 5, [0, 1]), ("aaaa", 4, [0, 1]), ("aabc", 4, [0, 2]), ("abab", 4, [0, 1]), ("", 1, [0])],
)
def test_the_layers_that_are_kept(kinds: str, depth: int, kept: list[int]) -> None:
    assert kept_layers([(kind,) for kind in kinds], depth) == kept


class Words:
    """A tokenizer of one token a word."""

    bos_token_id = None

    def __call__(self, text: str, **options: Any) -> Any:
        return type("Encoding", (), {"input_ids": text.split()})


def test_a_short_text_is_the_first_rows_that_give_the_tokens(tmp_path: Path) -> None:
    write_rows(tmp_path / "long.jsonl", [{"text": f"row {number} with five words"} for number in range(9)])
    shorten(tmp_path / "long.jsonl", tmp_path / "short.jsonl", Encoder(Words()), tokens=11)
    assert [json.loads(line)["text"][4] for line in (tmp_path / "short.jsonl").read_text().splitlines()] == ["0", "1", "2"]
    shorten(tmp_path / "long.jsonl", tmp_path / "short.jsonl", Encoder(Words()), tokens=1000)
    assert len((tmp_path / "short.jsonl").read_text().splitlines()) == 9


def test_a_rehearsal_s_text_is_of_no_slice(tmp_path: Path) -> None:
    write_rows(tmp_path / "long.jsonl", [{"text": "one two", "slice": "ja"}, {"text": "three four"}])
    shorten(tmp_path / "long.jsonl", tmp_path / "short.jsonl", Encoder(Words()), tokens=4)
    assert [json.loads(line) for line in (tmp_path / "short.jsonl").read_text().splitlines()] == [
        {"text": "one two"},
        {"text": "three four"},
    ]
