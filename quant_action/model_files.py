"""A base model's folder as the host sees it: configuration and safetensors headers, no weights and no torch.

Only what is safe is accepted: safetensors (never pickle), and no code that comes with the model. Weight files may still be elsewhere
(`RemoteWeights`): to plan, it is enough to know their headers, sizes and digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from quant_action.errors import ModelError
from quant_action.manifest import FileEntry, Manifest

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DESCRIBING = ("config.json", INDEX, "quantize_config.json", "quant_config.json")
"""Of the weights; the last two are how older loaders learn of the quantization."""
TOKENIZER = (
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
"""What decides the tokens of a text."""

COMPANIONS = ("generation_config.json", *TOKENIZER)
"""What makes weights and a config a usable model. Nothing else is read or copied: no code, no pickle, no stray file."""


def companions(folder: Path) -> list[Path]:
    """The files of a model folder that stand in `COMPANIONS`."""
    return _present(folder, COMPANIONS)


def _present(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    file: str
    dtype: str
    """As safetensors spells it: BF16, F32, I32, U8, ..."""
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RemoteWeights:
    """A weight file that is not in the folder yet, as whoever has it describes it."""

    entry: FileEntry
    tensors: Mapping[str, Tensor]


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder. Raises `ModelError`, also for a config that would load code from the folder."""
    if not (folder / "config.json").exists():
        raise ModelError("has no config.json", where=str(folder), remedy="Point model.source at a transformers model folder.")
    return _read_safe(folder / "config.json")


def read_tensors(folder: Path, remote: Mapping[str, RemoteWeights] | None = None) -> dict[str, Tensor]:
    """Name -> tensor, from the headers of the folder's safetensors files. Raises `ModelError` naming the file at fault.

    The files are those that the index names, else `model.safetensors`, as transformers has it; others beside them are not looked at.
    Headers of the files in `remote` are taken from there.
    """
    remote = remote or {}
    placed = _weight_map(folder)
    names = weight_names(folder)
    _refuse_missing_weights(folder, [name for name in names if name not in remote and not (folder / name).is_file()], placed)
    tensors: dict[str, Tensor] = {}
    for name in names:
        header = remote[name].tensors if name in remote else _read_header(folder / name)
        twice = next((tensor for tensor in header if tensor in tensors), None)
        if twice is not None:
            where = str(folder / name)
            raise ModelError(f"tensor {twice} also stands in {tensors[twice].file}", where=where, remedy="Fetch the model again.")
        tensors |= header
    for tensor, file in placed.items():
        if tensor not in tensors or tensors[tensor].file != file:
            raise ModelError(
                f"says that {tensor} is in {file}; it is not there", where=str(folder / INDEX), remedy="Fetch the model again."
            )
    return tensors


def _read_header(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
            return {name: Tensor(file=path.name, dtype=part.get_dtype(), shape=tuple(part.get_shape())) for name, part in found.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"is truncated or damaged: {error}", where=str(path), remedy="Fetch the model again.") from error


def weight_names(folder: Path) -> list[str]:
    """Files that should hold the weights, in order, whether they are in the folder or not. Raises `ModelError` for a broken index."""
    return sorted(set(_weight_map(folder).values())) or [WEIGHTS]


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


def _refuse_missing_weights(folder: Path, missing: list[str], placed: dict[str, str]) -> None:
    if not missing:
        return
    if placed:
        raise ModelError(f"names {missing[0]}, which is missing", where=str(folder / INDEX), remedy="Fetch the model again.")
    refuse_pickles(str(folder), [path.name for path in folder.iterdir()])
    raise ModelError(f"has no weights ({WEIGHTS} or {INDEX})", where=str(folder), remedy="Point model.source at a complete model folder.")


def refuse_pickles(where: str, files: Sequence[str]) -> None:
    """Of a model without safetensors: raise `ModelError` when its weights are there, but pickled."""
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    if pickles:
        raise ModelError(
            f"has pickled weights only ({', '.join(pickles[:3])}), which can run code when they are loaded",
            where=where,
            remedy="Convert them to safetensors on a machine that you can spare, and point model.source at the result.",
        )


@dataclass(frozen=True)
class ModelFiles:
    """A model to quantize, or one that was released: checked on the way in by `open_model`."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    remote: Mapping[str, RemoteWeights] = field(default_factory=dict)
    """Weight files that are not in the folder yet, by name."""

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
        """All that is read, or will be, of the folder."""
        described = [path for name in DESCRIBING if (path := self.folder / name).is_file()]
        return [*self.weight_files, *described, *companions(self.folder)]

    @property
    def weight_files(self) -> list[Path]:
        return [self.folder / name for name in sorted({tensor.file for tensor in self.tensors.values()})]

    @property
    def size(self) -> int:
        """Bytes of the weight files."""
        here = sum(path.stat().st_size for path in self.weight_files if path.name not in self.remote)
        return here + sum(weights.entry.size for weights in self.remote.values())

    @property
    def tokenizer_digest(self) -> str:
        """Of the files that stand in `TOKENIZER`."""
        return Manifest.of(self.folder, _present(self.folder, TOKENIZER)).digest

    @property
    def context(self) -> int | None:
        """Positions that the model was made for, where its config says so."""
        text = self.config.get("text_config")
        found = (text if isinstance(text, dict) else self.config).get("max_position_embeddings")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def manifest(self) -> Manifest:
        """Of the files that are read, so that a new README is not a new model."""
        here = Manifest.of(self.folder, [path for path in self.files if path.name not in self.remote])
        entries = [*here.files, *(weights.entry for weights in self.remote.values())]
        return Manifest(files=tuple(sorted(entries, key=lambda entry: entry.path)))


def open_model(folder: Path, remote: Mapping[str, RemoteWeights] | None = None, *, quantized: bool = False) -> ModelFiles:
    """Check a base model's folder, and what is known of weight files that are not in it yet, without reading a weight.

    `quantized`: it may be. Raises `ModelError`.
    """
    if not folder.is_dir():
        raise ModelError("no such folder", where=str(folder), remedy="Check model.source; a Hub id needs model.revision beside it.")
    config = read_config(folder)
    if (folder / "tokenizer_config.json").exists():
        _read_safe(folder / "tokenizer_config.json")
    if "quantization_config" in config and not quantized:
        raise ModelError("is already quantized", where=str(folder / "config.json"), remedy="Point model.source at the original weights.")
    model = ModelFiles(folder, config, read_tensors(folder, remote), remote or {})
    _refuse_links_out(model)
    if not model.linear_layers and not quantized:
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
