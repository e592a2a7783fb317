"""Quantize with bitsandbytes and save so that `from_pretrained` of the folder gives the quantized model back."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import copy_companions
from quant_action.workers.protocol import Progress, serve


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `engines/interface.py` for request and answer. Raises `ModelError` for weights that are not finite."""
    scheme, device = request["scheme"], request["device"]
    base, output = Path(request["model"]), Path(request["output"])
    Source(base).check(progress)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        quantization_config=_config(scheme, device),
        dtype=torch.bfloat16,
        device_map={"": device},
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.save_pretrained(output)
    copy_companions(base, output)
    return {
        "quantized": sorted(name for name, module in model.named_modules() if type(module).__module__.startswith("bitsandbytes")),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")},
    }


def _config(scheme: dict[str, Any], device: str) -> BitsAndBytesConfig:
    if scheme["type"] == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=scheme["type"],
        bnb_4bit_use_double_quant=scheme["double_quant"],
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


if __name__ == "__main__":
    serve(quantize)
