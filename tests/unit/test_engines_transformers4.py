from __future__ import annotations

import json
from pathlib import Path

import pytest

from quant_action.engines.transformers4 import translated, translated_config, translated_tokenizer
from quant_action.errors import EngineError
from tests.unit.conftest import write_model


def test_the_rotary_base_is_given_under_its_old_name() -> None:
    new = {"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}, "dtype": "bfloat16", "hidden_size": 8}
    assert translated_config(new) == {"rope_theta": 1e5, "torch_dtype": "bfloat16", "hidden_size": 8}


def test_scaled_rotary_embeddings_keep_their_settings() -> None:
    rope = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "partial_rotary_factor": 0.5}
    assert translated_config({"rope_parameters": rope}) == {
        "rope_theta": 5e5,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
    }


def test_a_config_of_release_4_stays_as_it_is() -> None:
    old = {"rope_theta": 1e4, "rope_scaling": None, "torch_dtype": "float16"}
    assert translated_config(old) == old


def test_rotary_embeddings_per_kind_of_layer_are_refused() -> None:
    rope = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    with pytest.raises(EngineError, match="differ from layer to layer"):
        translated_config({"rope_parameters": rope})


def test_a_tokenizer_class_of_release_5_gets_the_name_that_release_4_has() -> None:
    new = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "eos_token": "</s>"}
    assert translated_tokenizer(new) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "eos_token": "</s>",
    }
    old = {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image": "<i>"}}
    assert translated_tokenizer(old) == old


def test_weights_are_linked_and_the_original_is_left_alone(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    (tmp_path / "base/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))
    before = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    (tmp_path / "view").mkdir()
    view = translated(tmp_path / "base", tmp_path / "view")
    assert {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()} == before
    assert (view / "model.safetensors").resolve() == (tmp_path / "base/model.safetensors").resolve()
    assert json.loads((view / "tokenizer_config.json").read_text()) == {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert {path.name for path in view.iterdir()} == set(before)
