"""A base model's folder as the host sees it: configuration and safetensors headers, no weights and no torch.

Only what is safe is accepted: safetensors (never pickle), and no code that comes with the model.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quant_action.errors import ModelError
from quant_action.manifest import Manifest

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
"""What makes weights and a config a usable model. Nothing else is read or copied: no code, no pickle, no stray file."""


def companions(folder: Path) -> list[Path]:
    """The files of a model folder that stand in `COMPANIONS`."""
    return [path for pattern in COMPANIONS for path in sorted(folder.glob(pattern)) if path.is_file()]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    file: str
    dtype: str
    """As safetensors spells it: BF16, F32, I32, U8, ..."""
    shape: tuple[int, ...]


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder. Raises `ModelError`, also for a config that would load code from the folder."""
    if not (folder / "config.json").exists():
        raise ModelError("has no config.json", where=str(folder), remedy="Point model.source at a transformers model folder.")
    return _read_safe(folder / "config.json")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor, from the headers of the folder's safetensors files. Raises `ModelError` naming the file at fault.

    The files are those that the index names, else `model.safetensors`, as transformers has it; others beside them are not looked at.
    """
    from safetensors import SafetensorError, safe_open

    placed = _weight_map(folder)
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder, placed):
        try:
            with safe_open(path, framework="np") as file:
                found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
                header = {
                    name: Tensor(file=path.name, dtype=part.get_dtype(), shape=tuple(part.get_shape())) for name, part in found.items()
                }
        except (SafetensorError, OSError) as error:
            raise ModelError(f"is truncated or damaged: {error}", where=str(path), remedy="Fetch the model again.") from error
        twice = next((name for name in header if name in tensors), None)
        if twice is not None:
            raise ModelError(f"tensor {twice} also stands in {tensors[twice].file}", where=str(path), remedy="Fetch the model again.")
        tensors |= header
    for name, file in placed.items():
        if name not in tensors or tensors[name].file != file:
            raise ModelError(f"says that {name} is in {file}; it is not there", where=str(folder / INDEX), remedy="Fetch the model again.")
    return tensors


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file as the index has it; empty where there is none."""
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        placed = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"is not a weight index: {error}", where=str(path), remedy="Fetch the model again.") from error
    for file in placed.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(f"names a file outside the folder: {file!r}", where=str(path), remedy="Fetch the model again.")
    return placed


def _weight_files(folder: Path, placed: dict[str, str]) -> list[Path]:
    files = [folder / file for file in sorted(set(placed.values()))] or [folder / WEIGHTS]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is None:
        return files
    if placed:
        raise ModelError(f"names {missing.name}, which is missing", where=str(folder / INDEX), remedy="Fetch the model again.")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise ModelError(
            f"has pickled weights only ({', '.join(pickles[:3])}), which can run code when they are loaded",
            where=str(folder),
            remedy="Convert them to safetensors on a machine that you can spare, and point model.source at the result.",
        )
    raise ModelError(f"has no weights ({WEIGHTS} or {INDEX})", where=str(folder), remedy="Point model.source at a complete model folder.")


@dataclass(frozen=True)
class ModelFiles:
    """A base model that may be quantized: checked on the way in by `open_model`."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [self.config.get("model_type", "unknown")])[0])

    @cached_property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Module -> (outputs, inputs) of every weight matrix inside a numbered layer: what has to be quantized."""
        return {
            name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
            for name, tensor in self.tensors.items()
            if name.endswith(".weight") and len(tensor.shape) == 2 and re.search(r"\.\d+\.", name)
        }

    @property
    def files(self) -> list[Path]:
        """All that is read of the folder."""
        described = [path for path in (self.folder / "config.json", self.folder / INDEX) if path.is_file()]
        return [*self.weight_files, *described, *companions(self.folder)]

    @property
    def weight_files(self) -> list[Path]:
        return [self.folder / name for name in sorted({tensor.file for tensor in self.tensors.values()})]

    @property
    def size(self) -> int:
        """Bytes of the weight files."""
        return sum(path.stat().st_size for path in self.weight_files)

    def manifest(self) -> Manifest:
        """Of the files that are read, so that a new README is not a new model."""
        return Manifest.of(self.folder, self.files)


def open_model(folder: Path) -> ModelFiles:
    """Check a base model's folder without reading a weight. Raises `ModelError`."""
    if not folder.is_dir():
        raise ModelError("no such folder", where=str(folder), remedy="Check model.source; a Hub id needs model.revision beside it.")
    config = read_config(folder)
    if (folder / "tokenizer_config.json").exists():
        _read_safe(folder / "tokenizer_config.json")
    if "quantization_config" in config:
        raise ModelError("is already quantized", where=str(folder / "config.json"), remedy="Point model.source at the original weights.")
    model = ModelFiles(folder, config, read_tensors(folder))
    _refuse_links_out(model)
    if not model.linear_layers:
        raise ModelError("has no weight matrices inside numbered layers: not a decoder that can be quantized", where=str(folder))
    if not (folder / "tokenizer.json").exists() and not (folder / "tokenizer.model").exists():
        raise ModelError("has no tokenizer (tokenizer.json or tokenizer.model)", where=str(folder))
    return model


def _refuse_links_out(model: ModelFiles) -> None:
    """A link in a model that came with a pull request could carry any file of the runner into what is published.

    The Hub's cache keeps files as links into `blobs`, two folders above a snapshot; those are meant.
    """
    folder = model.folder.resolve()
    homes = (folder, folder.parent.parent / "blobs")
    for path in model.files:
        if not any(path.resolve().is_relative_to(home) for home in homes):
            raise ModelError("is a link to a file outside the model's folder", where=str(path), remedy="Put the file itself there.")


def _read_safe(path: Path) -> dict[str, Any]:
    """A configuration that asks for no code. Raises `ModelError` naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"is not readable: {error}", where=str(path), remedy="Fetch the model again.") from error
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object", where=str(path), remedy="Fetch the model again.")
    if _asks_for_code(value):
        raise ModelError(
            "asks for code that comes with the model (auto_map); quant_action never runs such code",
            where=str(path),
            remedy="Use a revision of the model whose architecture transformers itself has.",
        )
    return value


def _asks_for_code(config: dict[str, Any]) -> bool:
    """`auto_map`, at any depth: transformers honours it in nested configurations too."""
    values: list[Any] = [config]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if "auto_map" in value:
                return True
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return False
