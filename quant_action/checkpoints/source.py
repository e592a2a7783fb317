"""A model folder's tensors, read one at a time.

Only safetensors: a pickle can run code when it is read, and so can a config that names Python files (`auto_map`); both are refused. So is
what would poison everything after it: truncated files, a tensor that two files claim, a NaN or an infinity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from quant_action.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `ModelError` that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "the file is missing", where=str(path), remedy="Point model.source at a complete Hugging Face model folder."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"is not readable JSON ({error})", where=str(path), remedy="Fetch the model again.") from error
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object", where=str(path), remedy="Fetch the model again.")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """config.json; refuses one that would load code from the folder."""
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError(
            "asks to run Python code that comes with the model (auto_map)",
            where=str(folder / "config.json"),
            remedy="Use an architecture that transformers itself has; remote code is never run here.",
        )
    return config


class Source:
    """The safetensors of a folder, opened lazily; tensors come in the dtype in which they are stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        self._file_of: dict[str, str] = {}
        for name in self._shards():
            self._open(name)

    def _shards(self) -> list[str]:
        if (self.folder / WEIGHTS).exists():
            return [WEIGHTS]
        if (self.folder / INDEX).exists():
            weight_map = read_json(self.folder / INDEX).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise ModelError("has no weight_map", where=str(self.folder / INDEX), remedy="Fetch the model again.")
            return sorted(set(weight_map.values()))
        pickles = sorted(path.name for pattern in PICKLES for path in self.folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"has its weights as pickle only ({pickles[0]}), which can run code when it is read",
                where=str(self.folder),
                remedy="Convert the model to safetensors, or use a revision that has them.",
            )
        raise ModelError(
            f"has no weights ({WEIGHTS} or {INDEX})", where=str(self.folder), remedy="Point model.source at a complete model folder."
        )

    def _open(self, name: str) -> None:
        path = self.folder / name
        if Path(name).name != name:
            raise ModelError(f"names a file outside the folder: {name!r}", where=str(self.folder / INDEX), remedy="Fetch the model again.")
        try:
            file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelError(f"is truncated or damaged ({error})", where=str(path), remedy="Fetch the model again.") from error
        self._files[name] = file
        names: list[str] = file.keys()
        for tensor in names:
            if tensor in self._file_of:
                raise ModelError(
                    f"holds {tensor}, which {self._file_of[tensor]} holds too", where=str(path), remedy="Fetch the model again."
                )
            self._file_of[tensor] = name

    @property
    def names(self) -> list[str]:
        """All tensors, sorted."""
        return sorted(self._file_of)

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def read(self, name: str) -> torch.Tensor:
        """One tensor, finite, in a copy of its own. Raises `ModelError` that names it and its file."""
        if name not in self:
            raise ModelError(
                f"has no tensor {name}", where=str(self.folder), remedy="The config does not fit the weights: fetch the model again."
            )
        path = self.folder / self._file_of[name]
        try:
            tensor: torch.Tensor = self._files[self._file_of[name]].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {name} ({error})", where=str(path), remedy="Fetch the model again.") from error
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} holds NaN or infinite values", where=str(path), remedy="The model is damaged: use another revision.")
        return tensor
