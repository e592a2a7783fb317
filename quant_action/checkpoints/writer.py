"""Writes a quantized model folder while the layers come in, so that no more than a shard of it is ever in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from quant_action.model_files import INDEX, WEIGHTS, companions, read_config, read_tensors

SHARD = 2 * 1000**3
"""Bytes after which a weights file is full."""


class ModelWriter:
    """Collects tensors and writes them as safetensors shards; `finish` names them and adds config, tokenizer and templates."""

    def __init__(self, folder: Path, *, shard: int = SHARD) -> None:
        self._folder = folder
        self._shard = shard
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        tensor = tensor.detach().to("cpu").contiguous()
        if self._pending and self._pending_bytes + tensor.nbytes > self._shard:
            self._flush()
        self._pending[name] = tensor
        self._pending_bytes += tensor.nbytes
        self._total += tensor.nbytes

    def _flush(self) -> None:
        save_file(self._pending, self._folder / f"{len(self._shards)}.safetensors", metadata={"format": "pt"})
        self._shards.append(sorted(self._pending))
        self._pending, self._pending_bytes = {}, 0

    def finish(self, base: Path, *, quantization_config: dict[str, Any]) -> None:
        """Complete the folder: shards under their final names, the index where there is more than one, and what `base` gives."""
        self._flush()
        count = len(self._shards)
        weight_map: dict[str, str] = {}
        for number, tensors in enumerate(self._shards):
            name = WEIGHTS if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            (self._folder / f"{number}.safetensors").rename(self._folder / name)
            weight_map |= dict.fromkeys(tensors, name)
        if count > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(weight_map.items()))}
            _write_json(self._folder / INDEX, index)
        write_config(base, self._folder, quantization_config=quantization_config)
        copy_companions(base, self._folder)


def write_config(base: Path, folder: Path, *, quantization_config: dict[str, Any]) -> None:
    """The base's config.json, and how its weights are quantized now."""
    _write_json(folder / "config.json", {**read_config(base), "quantization_config": quantization_config})


def keep_weights(folder: Path) -> None:
    """Delete what a library left beside weights and config: logs, recipes, its own copies of what the base gives."""
    kept = {*(tensor.file for tensor in read_tensors(folder).values()), INDEX, "config.json"}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


def copy_companions(base: Path, folder: Path) -> None:
    """Tokenizer, chat templates and generation settings, byte for byte; what else an engine left under their names goes."""
    for path in companions(folder):
        path.unlink()
    for path in companions(base):
        target = folder / path.relative_to(base)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
