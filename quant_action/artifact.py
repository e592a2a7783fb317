"""Is this folder really the quantized model that was asked for? Asked of every engine's output, from headers, before it is scored."""

from __future__ import annotations

import json
from pathlib import Path

from quant_action.errors import EngineError, ModelError
from quant_action.model_files import DESCRIBING, ModelFiles, Tensor, companions, read_config, read_tensors
from quant_action.records import BitsandbytesScheme, Scheme, WeightScheme

PACKED = ("qweight", "weight_packed", "weight")
"""Where a layer's codes lie: in GPTQ and AWQ, in compressed-tensors, in bitsandbytes checkpoints."""

INTEGER_DTYPES = {"I8", "U8", "I32"}


def check_artifact(folder: Path, *, base: ModelFiles, scheme: Scheme, candidate: str) -> list[str]:
    """Names of the quantized layers. Raises `EngineError` naming the file, layer or setting at fault.

    Checked: only expected files (no pickle, no code, no leftovers); every weight matrix of every decoder layer is stored as integers at
    the bits that were asked for; all other tensors are there; tokenizer, chat template and generation config are kept; it is smaller.
    """
    try:
        config, tensors = read_config(folder), read_tensors(folder)
    except ModelError as error:
        raise EngineError(f"candidate {candidate}: the artifact is not a model: {error}", where=str(folder)) from error
    faults = [
        *_unexpected_files(folder, tensors),
        *_lost_files(folder, base),
        *_wrong_config(config.get("quantization_config"), scheme),
        *_unquantized(tensors, base, scheme),
        *_lost_tensors(tensors, base),
    ]
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if size >= base.size:
        faults.append(f"its weights take {size:,} bytes, the original's {base.size:,}")
    if faults:
        raise EngineError(f"candidate {candidate}: the artifact does not pass its checks: {'; '.join(faults)}", where=str(folder))
    return sorted(base.linear_layers)


def _unexpected_files(folder: Path, tensors: dict[str, Tensor]) -> list[str]:
    expected = {*DESCRIBING, *(tensor.file for tensor in tensors.values()), *_names(companions(folder), folder)}
    found = _names([path for path in sorted(folder.rglob("*")) if not path.is_dir()], folder)
    return [f"unexpected file {name}" for name in found if name not in expected]


def _lost_files(folder: Path, base: ModelFiles) -> list[str]:
    """What the base model has, the artifact must have: without it the model answers differently, whatever its weights."""
    return [f"{name} was lost" for name in _names(companions(base.folder), base.folder) if not (folder / name).exists()]


def _names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _wrong_config(config: object, scheme: Scheme) -> list[str]:
    if not isinstance(config, dict):
        return ["config.json has no quantization_config"]
    config = _flattened(config)
    return [
        f"quantization_config.{key} is {json.dumps(config.get(key))}, not {json.dumps(value)}"
        for key, value in _wanted_config(scheme).items()
        if config.get(key) != value
    ]


def _flattened(config: dict[str, object]) -> dict[str, object]:
    """With bits and group size where GPTQ and AWQ have them; compressed-tensors has them for groups of layers."""
    groups = config.get("config_groups")
    match list(groups.values()) if isinstance(groups, dict) else []:
        case [{"weights": {"num_bits": bits, "strategy": strategy, "group_size": size}}]:
            return config | {"bits": bits, "group_size": size if strategy == "group" else -1}
        case _:
            return config


def _wanted_config(scheme: Scheme) -> dict[str, object]:
    match scheme:
        case WeightScheme():
            return {"bits": scheme.bits, "group_size": scheme.group_size}
        case BitsandbytesScheme():
            return {"load_in_8bit": True} if scheme.type == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": scheme.type}


def _unquantized(tensors: dict[str, Tensor], base: ModelFiles, scheme: Scheme) -> list[str]:
    bad = []
    for layer, (outputs, inputs) in base.linear_layers.items():
        packed = next((tensors[name] for part in PACKED if (name := f"{layer}.{part}") in tensors), None)
        if packed is None:
            bad.append(f"{layer} is missing")
            continue
        width = {"I8": 8, "U8": 8, "I32": 32}.get(packed.dtype, 0)
        stored = width * _elements(packed.shape) / (outputs * inputs)
        if packed.dtype not in INTEGER_DTYPES:
            bad.append(f"{layer} was not quantized ({packed.dtype})")
        elif abs(stored - scheme.bits) > 0.01 * scheme.bits:
            bad.append(f"{layer} is stored at {stored:.2f} bits, not {scheme.bits}")
    return [*bad[:3], *([f"and {len(bad) - 3} more layers"] if len(bad) > 3 else [])]


def _lost_tensors(tensors: dict[str, Tensor], base: ModelFiles) -> list[str]:
    weights = {f"{layer}.weight" for layer in base.linear_layers}
    return [f"tensor {name} was lost" for name in base.tensors if name not in weights and name not in tensors][:3]


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
