"""A transformers model without weights, where its decoder layers are, and how weights get in.

Nothing here knows an architecture: layers are the module list that has as many entries as the config has hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from quant_action.checkpoints.source import Source
from quant_action.errors import ModelError
from quant_action.model_files import read_config


def model_config(folder: Path) -> Any:
    """The transformers config of a folder. Raises `ModelError` for one that transformers does not know, or that brings its own code."""
    read_config(folder)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelError(
            f"is not a config that transformers understands ({str(error).strip().splitlines()[0]})",
            where=str(folder / "config.json"),
            remedy="Check model_type; the architecture must be one that the installed transformers has.",
        ) from error


def attention_of(config: Any) -> str:
    """The attention that computes what the model was trained with: the fused one leaves out a cap on the logits (Gemma 2)."""
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else "sdpa"


def empty_model(config: Any) -> nn.Module:
    """The causal language model of a config, in eval mode, all parameters on the meta device; buffers that init computes are real."""
    try:
        with init_empty_weights(include_buffers=False):
            model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation=attention_of(config), trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"cannot be built as a causal language model ({str(error).strip().splitlines()[0]})",
            remedy="Check config.json: it must describe a decoder-only language model that the installed transformers has.",
        ) from error
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The part of a causal language model that owns the decoder layers."""

    inner: nn.Module
    """Called with token ids, it runs embedding, layers and final norm."""
    layers: nn.ModuleList
    name: str
    """Of `inner` in the whole model, such as `model`."""
    layers_name: str
    """Such as `model.layers`."""


def decoder_of(model: Any) -> Decoder:
    """Raises `ModelError` when no module list fits the config's number of layers."""
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        for child, layers in module.named_children():
            if isinstance(layers, nn.ModuleList) and len(layers) == count:
                return Decoder(inner=module, layers=layers, name=name, layers_name=f"{name}.{child}" if name else child)
    raise ModelError(
        f"{type(model).__name__} has no list of {count} decoder layers", remedy="Only decoder-only language models can be quantized here."
    )


def stored_name(name: str, *, base_prefix: str, contains: Callable[[str], bool]) -> str:
    """The name under which a checkpoint has a parameter: its own, or without the base model's prefix where only the base was saved."""
    short = name.removeprefix(f"{base_prefix}.")
    return short if not contains(name) and contains(short) else name


def fill(module: nn.Module, read: Callable[[str], torch.Tensor], names: Iterable[str], *, prefix: str = "") -> None:
    """Put `read(prefix + name)` in place of each of the module's parameters and buffers `names`. Raises `ModelError` for another shape."""
    for name in names:
        owner_name, _, attribute = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        old, tensor = getattr(owner, attribute), read(prefix + name)
        if tensor.shape != old.shape:
            raise ModelError(
                f"{prefix}{name} has shape {tuple(tensor.shape)}, the config asks for {tuple(old.shape)}",
                remedy="config.json does not fit the weights: fetch the model again.",
            )
        if attribute in owner._parameters:
            setattr(owner, attribute, nn.Parameter(tensor, requires_grad=False))
        else:
            owner._buffers[attribute] = tensor


def source_reader(source: Source, model: Any, *, device: str, dtype: torch.dtype) -> Callable[[str], torch.Tensor]:
    """Reads a model's parameter from a folder, onto `device`, floating point as `dtype`."""

    def read(name: str) -> torch.Tensor:
        tensor = source.read(stored_name(name, base_prefix=model.base_model_prefix, contains=source.__contains__))
        return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

    return read
