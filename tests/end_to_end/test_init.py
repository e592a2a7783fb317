"""`quant-action init` as a newcomer meets it: on a terminal, on the example's model and data, on a model of the Hub."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from quant_action.spec import load_spec
from tests.doubles.hub import Hub

from .conftest import COMMAND, EXAMPLE, quant_action

pytestmark = pytest.mark.end_to_end


def test_a_terminal_is_asked_and_stubs_give_way_to_data(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "model", tmp_path / "model")
    typed = ["nowhere", "model", "fastest", "accurate", "cpu", "", "my-model"]
    out, asked = at_a_terminal("init", lines=typed, cwd=tmp_path)
    assert "--model: 'nowhere' is neither a folder nor a Hub id" in asked
    assert "--goal: 'fastest' is not one of smallest, accurate, easy" in asked
    assert out.splitlines()[0] == "wrote     quant.yml"
    assert out.splitlines()[-1].endswith("then quant-action check")
    assert load_spec(tmp_path / "quant.yml").spec.name == "my-model"

    refused = quant_action("plan", cwd=tmp_path)
    assert refused.code == 2
    assert "data/calibration.jsonl:1: still has an example row" in refused.err

    for name in ("calibration", "heldout", "choice"):
        shutil.copy(EXAMPLE / f"data/{name}.jsonl", tmp_path / f"data/{name}.jsonl")
    planned = quant_action("plan", "--json", cwd=tmp_path)
    assert planned.code == 0, planned.err
    jobs = json.loads(planned.out)["jobs"]
    assert [(job["id"], job["scheme"].get("group_size")) for job in jobs] == [("int8", None), ("best-w4", 128)]


def at_a_terminal(*arguments: str, lines: list[str], cwd: Path) -> tuple[str, str]:
    """What a command prints on stdout, and what stands on the terminal, when somebody types these lines."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, "".join(f"{line}\n" for line in lines).encode())
        process = subprocess.Popen([*COMMAND, *arguments], cwd=cwd, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return out, os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_hub_model_is_pinned_to_a_commit_and_its_headers_give_the_group_size(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EXAMPLE / "model", folder)
    flags = ["--goal", "smallest", "--calibration", "none", "--hardware", "cpu"]
    offline = {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "", "HF_HUB_OFFLINE": "1"}
    with Hub() as hub:
        commit = hub.add("acme/Tiny-Llama", folder)
        online = offline | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost"}
        done = quant_action("init", "a", "--model", "acme/Tiny-Llama", *flags, cwd=tmp_path, env=online)
        assert done.code == 0, done.err
        spec = load_spec(tmp_path / "a/quant.yml").spec
        assert (spec.name, spec.model.source, spec.model.revision) == ("tiny-llama", "acme/Tiny-Llama", commit)
        assert "window: 256" in (tmp_path / "a/quant.yml").read_text()  # the model's own limit
        assert not list(tmp_path.glob("hf/**/*.safetensors"))

    needs = quant_action("init", "b", "--model", "acme/Other", *flags, cwd=tmp_path, env=offline)
    assert needs.code == 2
    assert "--revision is needed: acme/Other@main" in needs.err
    guessed = quant_action("init", "b", "--model", "acme/Other", "--revision", commit, *flags, cwd=tmp_path, env=offline)
    assert guessed.code == 0, guessed.err
    assert "acme/Other could not be looked at" in guessed.out
