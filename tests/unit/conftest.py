"""Unit tests start no process and open no connection: both are made impossible here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread costs more than it gives

SPEC = """\
version: 1
name: tiny
model: {source: model}
calibration: {data: data/calibration.jsonl, samples: 4, tokens: 16, seed: 0}
candidates:
  gptq-w4: {method: gptq, bits: 4, group_size: 32}
  bnb-nf4: {method: bitsandbytes, type: nf4}
evaluation:
  text: {data: data/heldout.jsonl, window: 16}
  tasks:
    facts: {data: data/choice.jsonl, kind: choice}
gates:
  perplexity_ratio: {vs: baseline, max: 1.05}
"""

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}


@pytest.fixture(autouse=True)
def _no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a unit test reached for the outside world")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_model(folder: Path) -> None:
    """A model folder that passes the host's checks; its weights mean nothing."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    shapes = {"self_attn.q_proj": (64, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96)}
    tensors = {"model.embed_tokens.weight": np.zeros((50, 64), np.float32), "model.norm.weight": np.ones(64, np.float32)}
    for layer in range(2):
        for name, shape in shapes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = np.full(shape, 0.5, np.float32)
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with a model, data and the spec `quant.yml`."""
    write_model(tmp_path / "model")
    write_rows(tmp_path / "data/calibration.jsonl", [{"text": f"calibration row {number} about apples"} for number in range(8)])
    write_rows(tmp_path / "data/heldout.jsonl", [{"text": f"held-out row {number} about pears"} for number in range(8)])
    write_rows(tmp_path / "data/choice.jsonl", [{"prompt": f"What is {n}?", "choices": [f" {n}", " no"], "answer": 0} for n in range(5)])
    (tmp_path / "quant.yml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def edit_spec(workspace: Path) -> Callable[[str, str], Path]:
    """Replace text in the spec, which must stand there; gives the spec's path."""

    def edit(old: str, new: str) -> Path:
        path = workspace / "quant.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return path

    return edit
