"""Base model folders: what is read, and what is refused with the file and the tensor named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant_action.checkpoints.source import INDEX, WEIGHTS, Source, read_config
from quant_action.errors import ModelError


def shards(folder: Path, **files: dict[str, torch.Tensor]) -> Path:
    """An index and its shards, file name -> tensors."""
    weight_map = {}
    for file, tensors in files.items():
        save_file(tensors, folder / f"{file}.safetensors")
        weight_map |= dict.fromkeys(tensors, f"{file}.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_tensors_come_from_all_shards_in_their_own_dtype(tmp_path: Path) -> None:
    source = Source(shards(tmp_path, one={"a": torch.ones(2, dtype=torch.bfloat16)}, two={"b": torch.arange(3)}))
    assert source.names == ["a", "b"]
    assert source.read("a").dtype == torch.bfloat16
    assert source.read("b").tolist() == [0, 1, 2]


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match=r"pickle only \(pytorch_model.bin\)"):
        Source(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no weights"):
        Source(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated or damaged") as caught:
        Source(tmp_path)
    assert caught.value.where == str(tmp_path / WEIGHTS)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path, one={"a": torch.ones(2)}, two={"b": torch.ones(2)})
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        Source(tmp_path)
    assert caught.value.where == str(tmp_path / "two.safetensors")


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds a, which one\.safetensors holds too"):
        Source(shards(tmp_path, one={"a": torch.ones(2), "c": torch.ones(2)}, two={"a": torch.ones(2), "b": torch.ones(2)}))


def test_an_index_cannot_point_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ModelError, match="outside the folder"):
        Source(tmp_path)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, poison: float) -> None:
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, poison])}, tmp_path / WEIGHTS)
    source = Source(tmp_path)
    assert source.read("good").tolist() == [1, 1]
    with pytest.raises(ModelError, match="bad holds NaN or infinite values"):
        source.read("bad")


def test_a_config_that_brings_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Evil"}}))
    with pytest.raises(ModelError, match="auto_map"):
        read_config(tmp_path)
