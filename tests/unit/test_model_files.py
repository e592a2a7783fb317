from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from quant_action.errors import ModelError
from quant_action.model_files import open_model

from .conftest import CONFIG


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "model"


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(folder)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "").replace(str(folder), "model")


def test_layers_are_the_matrices_inside_numbered_layers(folder: Path) -> None:
    model = open_model(folder)
    assert model.architecture == "LlamaForCausalLM"
    assert model.linear_layers["model.layers.1.mlp.down_proj"] == (64, 96)
    assert len(model.linear_layers) == 6
    assert model.size == (folder / "model.safetensors").stat().st_size


def test_readme_is_not_part_of_the_identity_but_the_tokenizer_is(folder: Path) -> None:
    digest = open_model(folder).manifest().digest
    (folder / "README.md").write_text("new")
    assert open_model(folder).manifest().digest == digest
    (folder / "tokenizer.json").write_text('{"a": 1}')
    assert open_model(folder).manifest().digest != digest


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == "model: has no weights (model.safetensors or model.safetensors.index.json)"


def test_pickled_weights_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refusal(folder).startswith("model: has pickled weights only (pytorch_model.bin)")


@pytest.mark.parametrize("keep", [3, 300, -1, -4000])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(folder).startswith("model.safetensors: is ")


def test_appended_bytes(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert refusal(folder).startswith("model.safetensors: is truncated or damaged")


@pytest.mark.parametrize(
    "config", [{"auto_map": {"AutoModel": "evil.Model"}}, {"text_config": {"auto_map": {}}}, {"parts": [{"auto_map": {}}]}]
)
def test_remote_code(folder: Path, config: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    assert "never runs such code" in refusal(folder)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_config_that_is_nested_too_deep_is_no_bug_of_ours(folder: Path, depth: int) -> None:
    (folder / "config.json").write_text('{"a": ' * depth + '{"auto_map": {}}' + "}" * depth)
    assert refusal(folder).startswith("config.json: ")


def test_remote_code_of_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.T", None]}}))
    assert "never runs such code" in refusal(folder)


def test_already_quantized(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"bits": 4}}))
    assert refusal(folder) == "config.json: is already quantized"


def index(folder: Path, **weight_map: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_index_that_names_a_missing_shard(folder: Path) -> None:
    index(folder, a="model-00002-of-00002.safetensors")
    assert refusal(folder) == "model.safetensors.index.json: names model-00002-of-00002.safetensors, which is missing"


def test_index_that_names_a_tensor_which_is_not_there(folder: Path) -> None:
    index(folder, a="model.safetensors")
    assert refusal(folder) == "model.safetensors.index.json: says that a is in model.safetensors; it is not there"


@pytest.mark.parametrize("file", ["../elsewhere.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_index_that_points_out_of_the_folder(folder: Path, file: str) -> None:
    index(folder, a=file)
    assert refusal(folder) == f"model.safetensors.index.json: names a file outside the folder: {file!r}"


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"weight_map": 3}'])
def test_index_that_is_none(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    assert refusal(folder).startswith("model.safetensors.index.json: is not a weight index")


def test_tensor_that_stands_twice(folder: Path) -> None:
    save_file({"model.norm.weight": np.ones(64, np.float32), "more": np.ones(1)}, folder / "more.safetensors")
    index(folder, more="more.safetensors", **{"model.norm.weight": "model.safetensors"})
    assert refusal(folder) == "more.safetensors: tensor model.norm.weight also stands in model.safetensors"


def test_weights_in_another_layout_beside_the_model_are_not_part_of_it(folder: Path) -> None:
    before = open_model(folder)
    save_file({"layers.0.attention.wq.weight": np.ones((4, 4), np.float32)}, folder / "consolidated.safetensors")
    assert open_model(folder).tensors == before.tensors
    assert open_model(folder).manifest().digest == before.manifest().digest


def test_no_decoder(folder: Path) -> None:
    save_file({"embeddings.weight": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
    assert "no weight matrices inside numbered layers" in refusal(folder)


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert refusal(folder) == "model: has no tokenizer (tokenizer.json or tokenizer.model)"


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "model") == "model: no such folder"


@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.json", "model.safetensors"])
def test_link_to_a_file_outside(folder: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    assert refusal(folder) == f"{name}: is a link to a file outside the model's folder"


def test_links_of_the_hub_s_cache_are_meant(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    blobs = tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert len(open_model(snapshot).linear_layers) == 6
