"""Base model folders: what is read, and what is refused with the file and the tensor named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant_action.checkpoints.source import Source
from quant_action.errors import ModelError
from quant_action.model_files import INDEX, WEIGHTS


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


def test_what_the_headers_show_is_refused_here_too(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / WEIGHTS)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated or damaged") as caught:
        Source(tmp_path)
    assert caught.value.where == str(tmp_path / WEIGHTS)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, poison: float) -> None:
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, poison])}, tmp_path / WEIGHTS)
    source = Source(tmp_path)
    assert source.read("good").tolist() == [1, 1]
    with pytest.raises(ModelError, match="bad holds NaN or infinite values"):
        source.read("bad")
