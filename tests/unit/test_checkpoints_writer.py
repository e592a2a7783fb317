"""Writing model folders: shards, index, companions and nothing else."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import ModelWriter, copy_companions
from quant_action.model_files import INDEX, WEIGHTS


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "additional_chat_templates/tools.jinja"):
        (folder / name).write_text(f"content of {name}")
    for name in ("pytorch_model.bin", "modeling_evil.py", "model.safetensors", "README.md"):
        (folder / name).write_text("not to be copied")
    return folder


def written(base: Path, output: Path, **options: int) -> Path:
    output.mkdir()
    writer = ModelWriter(output, **options)
    writer.add("a", torch.arange(4, dtype=torch.bfloat16))
    writer.add("b", torch.arange(8, dtype=torch.int32))
    writer.add("c", torch.ones(2, 3).T)
    writer.finish(base, quantization_config={"quant_method": "gptq"})
    return output


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


COMPANIONS = {"config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json", "additional_chat_templates/tools.jinja"}


def test_one_shard_needs_no_index_and_only_companions_are_copied(base: Path, tmp_path: Path) -> None:
    output = written(base, tmp_path / "output")
    assert names(output) == COMPANIONS | {WEIGHTS}
    assert (output / "tokenizer.json").read_text() == "content of tokenizer.json"
    assert json.loads((output / "config.json").read_text()) == {
        "model_type": "llama",
        "hidden_size": 8,
        "quantization_config": {"quant_method": "gptq"},
    }


def test_shards_are_cut_by_size_and_indexed(base: Path, tmp_path: Path) -> None:
    output = written(base, tmp_path / "output", shard=40)
    assert names(output) - COMPANIONS == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX}
    assert json.loads((output / INDEX).read_text()) == {
        "metadata": {"total_size": 8 + 32 + 24},
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00001-of-00002.safetensors",
            "c": "model-00002-of-00002.safetensors",
        },
    }
    assert Source(output).read("b").tolist() == list(range(8))


def test_files_are_readable_by_all_and_marked_as_torch(base: Path, tmp_path: Path) -> None:
    output = written(base, tmp_path / "output")
    assert {stat.S_IMODE((output / name).stat().st_mode) for name in names(output)} == {0o644}
    with safe_open(output / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_companions_replace_what_an_engine_made_of_them(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "tokenizer.json").write_text("rewritten")
    (output / "special_tokens_map.json").write_text("the base has none")
    copy_companions(base, output)
    assert names(output) == COMPANIONS - {"config.json"}
    assert (output / "tokenizer.json").read_text() == "content of tokenizer.json"
