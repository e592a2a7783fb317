"""Random models of several architectures, small enough to quantize in a unit test, and what to calibrate them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from quant_action.records import WeightScheme

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama-mha": lambda: LlamaConfig(**{**SIZES, "num_key_value_heads": 4}),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=16),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=16),
    "gemma2": lambda: Gemma2Config(**SIZES, head_dim=16, sliding_window=16, query_pre_attn_scalar=16),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, head_dim=16, sliding_window=16, query_pre_attn_scalar=16),
    "gpt-neox": lambda: GPTNeoXConfig(**{key: value for key, value in SIZES.items() if key != "num_key_value_heads"}),
    "phi": lambda: PhiConfig(**SIZES),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=2),
}

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")


def random_model(architecture: str, *, seed: int = 0, **changes: Any) -> Any:
    """In eval mode, float32; norms and biases are random too, so that nothing is trivially right."""
    torch.manual_seed(seed)
    config = CONFIGS[architecture]()
    config.update(changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.3)
        elif "embed" not in name:
            parameter.mul_(3)
    return model


def save(model: Any, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> Path:
    model.to(dtype).save_pretrained(folder)
    return folder


def blocks(*, samples: int = 8, tokens: int = 48, seed: int = 0) -> list[list[int]]:
    ids: list[list[int]] = torch.randint(3, SIZES["vocab_size"], (samples, tokens), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def scheme(**changes: Any) -> WeightScheme:
    """GPTQ 4-bit in groups of 32, symmetric, with static activation order, unless changed."""
    settings: dict[str, Any] = {
        "method": "gptq",
        "bits": 4,
        "group_size": 32,
        "symmetric": True,
        "clip": False,
        "scales": None,
        "act_order": True,
        "static_groups": True,
    }
    if changes.get("method", "gptq") != "gptq":
        settings |= {"act_order": False, "static_groups": False}
    return WeightScheme(**(settings | changes))


def silent(step: str, done: int, total: int) -> None:
    """Progress for nobody."""
