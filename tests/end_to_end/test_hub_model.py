"""A model on the Hub, through huggingface_hub and real HTTP: planned from its listing and headers, fetched only for work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from quant_action.model_files import open_model
from tests.doubles.hub import Hub

from .conftest import EXAMPLE, Ended, quant_action

pytestmark = pytest.mark.end_to_end
SECRET = "hf_thisIsNobodysBusiness"
ID = "acme/tiny"

SPEC = """\
version: 1
name: tiny
model: {{source: {id}, revision: {commit}}}
candidates:
  nf4: {{method: bitsandbytes, type: nf4}}
  rtn-w4: {{method: rtn, bits: 4, group_size: 64}}
evaluation:
  text: {{data: heldout.jsonl, window: 128}}
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@dataclass(frozen=True)
class Team:
    """A folder with a spec, and a Hub cache of its own."""

    folder: Path
    hub: Hub

    def calls(self, *arguments: str, **env: str) -> Ended:
        clean = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "hf"), "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": ""}
        return quant_action(*arguments, cwd=self.folder, env=clean | {"HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"} | env)

    def checks(self, **env: str) -> tuple[int, str]:
        """Exit code, and everything that is found."""
        ended = self.calls("check", "--json", **env)
        assert "Traceback" not in ended.err
        findings = json.loads(ended.out)["findings"]
        return ended.code, "\n".join(f"{found['where']}: {found['message']} | {found['remedy']}" for found in findings)

    def plan(self, **env: str) -> dict[str, Any]:
        ended = self.calls("plan", "--json", **env)
        assert ended.code == 0, ended.err
        return dict(json.loads(ended.out))

    def writes(self, commit: str, id: str = ID) -> None:
        (self.folder / "quant.yml").write_text(SPEC.format(id=id, commit=commit))

    @property
    def fetched_weights(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("hf/hub/*/snapshots/*/*.safetensors"))


@pytest.fixture
def team(hub: Hub, tmp_path: Path) -> Team:
    shutil.copy(EXAMPLE / "data/heldout.jsonl", tmp_path)
    team = Team(tmp_path, hub)
    team.writes("f" * 40)
    return team


def model_copy(folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE / "model", folder))


def test_a_plan_without_the_weights_is_the_plan_with_them(team: Team) -> None:
    team.writes(team.hub.add(ID, EXAMPLE / "model"))
    before = team.plan()
    assert before["model"]["digest"] == open_model(EXAMPLE / "model").manifest().digest
    assert before["model"]["size"] == (EXAMPLE / "model/model.safetensors").stat().st_size
    assert team.fetched_weights == []
    assert 0 < team.hub.sent("/large/") < 110_000  # of 1.3 MB

    code, found = team.checks()
    assert code == 0
    assert f"1.3 MB still on the Hub; the first run fetches them | To have them before: hf download {ID}" in found
    assert team.fetched_weights == []

    offline = team.calls("quantize", "--candidate", "nf4", HF_HUB_OFFLINE="1")
    assert offline.code == 5
    assert "HF_HUB_OFFLINE forbids to fetch the rest" in offline.err

    made = team.calls("quantize", "--candidate", "nf4")
    assert made.code == 0, made.err
    assert team.fetched_weights == ["model.safetensors"]
    asked = len(team.hub.requests)
    after = team.plan(HF_HUB_OFFLINE="1")
    assert after.pop("cached") == {"nf4": True, "rtn-w4": False}
    assert after.pop("estimates")["jobs"]["nf4"]["quantize"]["earlier_runs"] == 1
    assert before.pop("estimates")["jobs"]["nf4"]["quantize"]["earlier_runs"] == 0
    assert before.pop("cached") == {"nf4": False, "rtn-w4": False}
    assert after == before
    assert len(team.hub.requests) == asked


def test_shards_by_any_name_and_weights_that_lie_in_git(team: Team, tmp_path: Path) -> None:
    folder = model_copy(tmp_path / "sharded")
    tensors = _zeros_like(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = len(tensors) // 2
    shards = {"part[00001-of-00002].safetensors": list(tensors)[:half], "part[00002-of-00002].safetensors": list(tensors)[half:]}
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    team.writes(team.hub.add(ID, folder, large=("00002-of-00002].safetensors",)))
    assert team.plan()["model"]["digest"] == open_model(folder).manifest().digest
    assert team.fetched_weights == ["part[00001-of-00002].safetensors"]


def _zeros_like(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with safe_open(path, framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 -- not a mapping
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("", "is gated, and was asked for without a token"),
        (SECRET, "is gated, and was asked for with the token in HF_TOKEN"),
        ("hf_wrong" + SECRET, "is refused by the Hub (401); it was asked for with the token in HF_TOKEN"),
    ],
)
def test_a_gated_model_says_which_token_was_used_and_where_to_ask(team: Team, token: str, expected: str) -> None:
    commit = team.hub.add(ID, EXAMPLE / "model", gated=True)
    team.hub.tokens.add(SECRET)
    team.writes(commit)
    code, found = team.checks(HF_TOKEN=token)
    assert code == 2
    assert f"{ID}@{commit[:12]}: {expected}" in found
    assert f"{team.hub.url}/{ID}" in found or "valid" in found
    assert SECRET not in found
    ended = team.calls("plan", HF_TOKEN=token)
    assert (ended.code, f"{ID}@{commit[:12]}: {expected}" in ended.err) == (2, True)
    assert SECRET not in ended.out + ended.err


def test_a_gated_model_with_access(team: Team) -> None:
    team.writes(team.hub.add(ID, EXAMPLE / "model", gated=True))
    team.hub.tokens.add(SECRET)
    team.hub.repositories[ID].readers.add(SECRET)
    assert team.plan(HF_TOKEN=SECRET)["model"]["digest"] == open_model(EXAMPLE / "model").manifest().digest


def test_models_that_the_hub_does_not_have(team: Team) -> None:
    code, found = team.checks()
    assert (code, "is not on the Hub, or is private; it was asked for without a token" in found) == (2, True)
    team.hub.add(ID, EXAMPLE / "model")
    code, found = team.checks()
    assert (code, "is a revision that the Hub does not have" in found) == (2, True)
    team.writes("f" * 40, id="a--b/c..d")
    code, found = team.checks()
    assert (code, "is not a Hub id" in found) == (2, True)


def test_no_network_and_no_cache(team: Team) -> None:
    code, found = team.checks(HF_ENDPOINT="http://127.0.0.1:9")
    assert code == 5
    assert f"{ID}@ffffffffffff: could not be fetched" in found
    code, found = team.checks(HF_HUB_OFFLINE="1")
    assert code == 5
    assert "HF_HUB_OFFLINE forbids to fetch the rest" in found
    assert "Unset HF_HUB_OFFLINE" in found


def test_a_login_page_in_place_of_the_hub(team: Team) -> None:
    team.hub.garbled = True
    code, found = team.checks()
    assert code == 5
    assert f"{ID}@ffffffffffff: got an answer that is not the Hub's" in found


def test_bytes_that_are_not_those_listed(team: Team) -> None:
    team.writes(team.hub.add(ID, EXAMPLE / "model"))
    digest = team.hub.repositories[ID].pointer("model.safetensors")["oid"]
    content = team.hub.repositories[ID].files["model.safetensors"]
    team.hub.altered[digest] = content[:-1] + bytes([content[-1] ^ 1])
    ended = team.calls("quantize", "--candidate", "rtn-w4")
    assert ended.code == 6
    assert "/model.safetensors: what was fetched is not what the Hub lists" in ended.err
    assert team.fetched_weights == []
    assert not [path for path in team.folder.glob("hf/hub/*/blobs/*") if path.stat().st_size == len(content)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no header here", "has no readable safetensors header"),
        ((2).to_bytes(8, "little") + b"[]", "has no readable safetensors header"),
        ((57).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[40],"data_offsets":[0,160]}}', "is truncated"),
    ],
)
def test_weights_with_a_bad_header(team: Team, tmp_path: Path, content: bytes, expected: str) -> None:
    folder = model_copy(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    team.writes(team.hub.add(ID, folder))
    ended = team.calls("plan")
    assert ended.code == 2
    assert "/model.safetensors: " + expected in ended.err


def test_pickled_weights_are_refused_before_anything_is_fetched(team: Team, tmp_path: Path) -> None:
    folder = model_copy(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    team.writes(team.hub.add(ID, folder))
    code, found = team.checks()
    assert code == 2
    assert "has pickled weights only (pytorch_model.bin)" in found
    assert team.hub.sent("/large/") == 0
