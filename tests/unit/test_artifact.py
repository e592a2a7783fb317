from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from quant_action.artifact import check_artifact
from quant_action.errors import EngineError
from quant_action.model_files import ModelFiles, open_model
from quant_action.records import WeightScheme

from .conftest import CONFIG

SCHEME = WeightScheme(method="gptq", bits=4, group_size=32, symmetric=True, clip=False, scales=None)


@pytest.fixture
def base(workspace: Path) -> ModelFiles:
    (workspace / "model/generation_config.json").write_text("{}")
    return open_model(workspace / "model")


@pytest.fixture
def artifact(base: ModelFiles, tmp_path: Path) -> Path:
    """What a sound engine would write: every matrix packed, everything else kept."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_config(folder, {"bits": 4, "group_size": 32})
    for name in ("tokenizer.json", "generation_config.json"):
        (folder / name).write_text("{}")
    tensors = {name: tensor for name, tensor in load_file(base.folder / "model.safetensors").items() if "layers" not in name}
    for layer, (rows, columns) in base.linear_layers.items():
        tensors[f"{layer}.qweight"] = np.zeros((columns // 8, rows), np.int32)
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_config(folder: Path, quantization: dict[str, Any] | None) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | ({"quantization_config": quantization} if quantization else {})))


def edit(folder: Path, **changes: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".").replace("qweight!", "weight")] = tensor
    save_file(tensors, folder / "model.safetensors")


def faults(folder: Path, base: ModelFiles) -> str:
    with pytest.raises(EngineError) as caught:
        check_artifact(folder, base=base, scheme=SCHEME, candidate="a")
    return str(caught.value)


def test_sound_artifact_passes(artifact: Path, base: ModelFiles) -> None:
    assert check_artifact(artifact, base=base, scheme=SCHEME, candidate="a") == sorted(base.linear_layers)


def test_layer_that_was_not_quantized(artifact: Path, base: ModelFiles) -> None:
    edit(artifact, **{"model__layers__1__mlp__up_proj__qweight": None, "model.layers.1.mlp.up_proj.weight": np.zeros((96, 64), np.float16)})
    assert "model.layers.1.mlp.up_proj was not quantized (F16)" in faults(artifact, base)


def test_layer_at_other_bits(artifact: Path, base: ModelFiles) -> None:
    edit(artifact, **{"model.layers.0.mlp.up_proj.qweight": np.zeros((64 // 4, 96), np.int32)})
    assert "model.layers.0.mlp.up_proj is stored at 8.00 bits, not 4" in faults(artifact, base)


def test_lost_layer_and_lost_tensor(artifact: Path, base: ModelFiles) -> None:
    edit(artifact, **{"model.layers.0.mlp.up_proj.qweight": None, "model.norm.weight": None})
    message = faults(artifact, base)
    assert "model.layers.0.mlp.up_proj is missing" in message
    assert "tensor model.norm.weight was lost" in message


def test_wrong_or_missing_quantization_config(artifact: Path, base: ModelFiles) -> None:
    write_config(artifact, {"bits": 8, "group_size": 32})
    assert "quantization_config.bits is 8, not 4" in faults(artifact, base)
    write_config(artifact, None)
    assert "config.json has no quantization_config" in faults(artifact, base)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": {"weights": {"num_bits": 8, "strategy": "group", "group_size": 32}}}, "quantization_config.bits is 8, not 4"),
        ({"a": {"weights": {"num_bits": 4, "strategy": "channel", "group_size": None}}}, "quantization_config.group_size is -1, not 32"),
        ({"a": {"weights": None}}, "quantization_config.bits is null, not 4"),
        ({"a": 3}, "quantization_config.bits is null, not 4"),
    ],
)
def test_settings_of_compressed_tensors(artifact: Path, base: ModelFiles, groups: dict[str, Any], message: str) -> None:
    write_config(artifact, {"config_groups": groups})
    assert message in faults(artifact, base)
    write_config(artifact, {"config_groups": {"a": {"weights": {"num_bits": 4, "strategy": "group", "group_size": 32}}}})
    assert check_artifact(artifact, base=base, scheme=SCHEME, candidate="a") == sorted(base.linear_layers)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "modeling_evil.py", ".tmp12345", "model.safetensors.part", "more.safetensors", "sub/model.safetensors"]
)
def test_unexpected_files(artifact: Path, base: ModelFiles, name: str) -> None:
    (artifact / name).parent.mkdir(exist_ok=True)
    (artifact / name).write_text("")
    assert f"unexpected file {name}" in faults(artifact, base)


def test_lost_companions(artifact: Path, base: ModelFiles) -> None:
    (artifact / "generation_config.json").unlink()
    (artifact / "tokenizer.json").unlink()
    message = faults(artifact, base)
    assert "generation_config.json was lost" in message
    assert "tokenizer.json was lost" in message


def test_artifact_that_is_not_smaller(artifact: Path, base: ModelFiles) -> None:
    edit(artifact, padding=np.zeros(100_000, np.float32))
    assert "its weights take" in faults(artifact, base)


def test_folder_that_is_no_model(tmp_path: Path, base: ModelFiles) -> None:
    (tmp_path / "empty").mkdir()
    assert "the artifact is not a model" in faults(tmp_path / "empty", base)
