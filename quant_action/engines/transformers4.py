"""A model folder as transformers 4 reads it, for libraries that stopped there.

Release 5 writes names that release 4 passes over in silence: rotary embeddings in `rope_parameters` (release 4 would take its default
base frequency, and calibrate on a model that is not the one asked for), the data type in `dtype`, and a tokenizer class that release 4
does not have. Only names are translated; weights are linked to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quant_action.errors import EngineError
from quant_action.model_files import open_model, read_config

TOKENIZER = "tokenizer_config.json"


def translated(base: Path, folder: Path) -> Path:
    """Fill the empty `folder` with `base` in the spelling of transformers 4. Raises `EngineError` for what release 4 cannot express."""
    for path in open_model(base).files:
        if path.name == "config.json":
            continue  # a link would lead what is written below into the base
        target = folder / path.relative_to(base)
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(path.resolve())
    _write(folder / "config.json", translated_config(read_config(base)))
    if (base / TOKENIZER).exists():
        settings = json.loads((base / TOKENIZER).read_text(encoding="utf-8"))
        (folder / TOKENIZER).unlink()
        _write(folder / TOKENIZER, translated_tokenizer(settings))
    return folder


def translated_config(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_parameters` as `rope_theta` and `rope_scaling`, `dtype` as `torch_dtype`; what has the old names keeps them."""
    new = dict(config)
    if "dtype" in new:
        new.setdefault("torch_dtype", new.pop("dtype"))
    rope = new.pop("rope_parameters", None)
    if rope is None:
        return new
    if any(isinstance(value, dict) for value in rope.values()):
        raise EngineError(
            "has rotary embeddings that differ from layer to layer, which transformers 4 spells differently for every architecture",
            where="config.json",
            remedy="Use engine native or gptqmodel for this model.",
        )
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    new |= {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    if scaling.get("rope_type", "default") != "default":
        new["rope_scaling"] = scaling
    return new


def translated_tokenizer(settings: dict[str, Any]) -> dict[str, Any]:
    """With the class under which transformers 4 reads a `tokenizer.json`, and its name for further special tokens."""
    new = dict(settings)
    if new.get("tokenizer_class") == "TokenizersBackend":
        new["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(extra := new.pop("extra_special_tokens", None), list):
        new.setdefault("additional_special_tokens", extra)
    elif extra is not None:
        new["extra_special_tokens"] = extra
    return new


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
