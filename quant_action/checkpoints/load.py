"""Loads a model folder for evaluation: a base model, or one in the GPTQ, AWQ or bitsandbytes format.

GPTQ and AWQ weights are computed here from the stored integers, so that what is measured is what is stored, on any device, and not the
rounding of one inference kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from quant_action.checkpoints.formats import FORMATS
from quant_action.checkpoints.interface import QuantizedLinear, StoredFormat
from quant_action.checkpoints.skeleton import attention_of, empty_model, fill, model_config, stored_name
from quant_action.checkpoints.source import Source
from quant_action.errors import ModelError
from quant_action.model_files import read_config


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer. Raises `ModelError` when there is none, or it would need code from the folder."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers, tokenizers (Rust) and sentencepiece raise what they like for a bad file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"has no tokenizer that loads ({reason})", where=str(folder), remedy="Check tokenizer.json and tokenizer_config.json."
        ) from error


def load_model(folder: Path, *, device: str, dtype: torch.dtype) -> nn.Module:
    """A causal language model ready for inference on `device`: eval mode, no gradients, every weight finite, floating point as `dtype`.

    Raises `ModelError` naming the tensor or file that is missing, damaged, not finite or of another shape than the config says.
    """
    config = read_config(folder)
    quantization: dict[str, Any] = config.get("quantization_config") or {}
    method = quantization.get("quant_method")
    if method in FORMATS:
        model = _load_packed(folder, FORMATS[method], quantization, device=device, dtype=dtype)
    elif method in (None, "bitsandbytes"):
        model = _load_pretrained(folder, device=device, dtype=dtype)
    else:
        raise ModelError(f"is quantized by {method!r}, which cannot be loaded here", where=str(folder / "config.json"))
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"{name} holds NaN or infinite values in {dtype}", where=str(folder), remedy="The model is damaged: use another revision."
            )
    return model.eval().requires_grad_(False)


def _load_pretrained(folder: Path, *, device: str, dtype: torch.dtype) -> nn.Module:
    Source(folder)  # damaged files get their own message, before transformers gives a longer one
    config = model_config(folder)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map={"": device},
            attn_implementation=attention_of(config),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"cannot be loaded ({str(error).strip().splitlines()[0]})", where=str(folder)) from error
    for problem, names in (
        ("has no tensor", report["missing_keys"]),
        ("has another shape than the config says for", report["mismatched_keys"]),
    ):
        if names:
            raise ModelError(f"{problem} {min(map(str, names))}", where=str(folder), remedy="The config does not fit the weights.")
    loaded: nn.Module = model
    return loaded


def _load_packed(folder: Path, format: StoredFormat, quantization: dict[str, Any], *, device: str, dtype: torch.dtype) -> nn.Module:
    source = Source(folder)
    config = model_config(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model: Any = empty_model(config)
    read = packed_reader(source, model, format, quantization, device=device, dtype=dtype)
    wanted = dict(model.state_dict(keep_vars=True))
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    fill(model, read, [name for name in wanted if name not in tied])
    model.tie_weights()
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    placed: nn.Module = model.to(device)
    return placed


def packed_linear(source: Source, module: str, format: StoredFormat, quantization: dict[str, Any], *, device: str) -> QuantizedLinear:
    """The integers and grids of one stored layer. Raises `ModelError` where its tensors do not fit together."""
    try:
        parts = [*format.parts, *(part for part in format.optional if f"{module}.{part}" in source)]
        tensors = {part: source.read(f"{module}.{part}").to(device) for part in parts}
        return format.unpack(tensors, config=quantization)
    except (ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{module} is not a valid {format.method} layer ({error})", where=str(source.folder)) from error


def packed_reader(
    source: Source, model: Any, format: StoredFormat, quantization: dict[str, Any], *, device: str, dtype: torch.dtype
) -> Callable[[str], torch.Tensor]:
    """Reads a model's parameter from a quantized folder: weights that are stored as integers are computed, the rest is read as it is."""

    def contains(name: str) -> bool:
        return name in source or f"{name.removesuffix('weight')}{format.parts[0]}" in source

    def read(name: str) -> torch.Tensor:
        stored = stored_name(name, base_prefix=model.base_model_prefix, contains=contains)
        if stored in source:
            tensor = source.read(stored)
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        module = stored.removesuffix(".weight")
        if f"{module}.{format.parts[0]}" not in source:
            return source.read(stored)  # raises: neither packed nor plain
        return packed_linear(source, module, format, quantization, device=device).dequantize(dtype)

    return read
