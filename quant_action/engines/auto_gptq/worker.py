"""Quantize with AutoGPTQ; runs in the environment `legacy`."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import copy_companions, keep_weights, write_config
from quant_action.engines.auto_gptq.engine import ENGINE
from quant_action.engines.calibration import requested_blocks
from quant_action.engines.transformers4 import translated
from quant_action.model_files import read_tensors
from quant_action.workers.protocol import Progress, serve


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `engines/interface.py` for request and answer. Raises `ModelError` for weights that are not finite."""
    import torch
    from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig

    scheme, base, output = request["scheme"], Path(request["model"]), Path(request["output"])
    Source(base).check(progress)
    config = BaseQuantizeConfig(
        bits=scheme["bits"],
        group_size=scheme["group_size"],
        sym=scheme["symmetric"],
        desc_act=scheme["act_order"],
        static_groups=scheme["static_groups"],
        damp_percent=scheme["damping"],
        model_file_base_name="model",
    )
    with tempfile.TemporaryDirectory() as scratch:
        source = translated(base, Path(scratch))
        blocks = requested_blocks({**request, "model": str(source)})
        progress("quantize", 1, 2)
        model = AutoGPTQForCausalLM.from_pretrained(str(source), config, trust_remote_code=False, use_safetensors=True)
        model.quantize([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in blocks], batch_size=1, use_triton=False)
        model.save_quantized(str(output), use_safetensors=True)
    progress("quantize", 2, 2)
    write_config(base, output, quantization_config=_config(scheme))
    keep_weights(output)
    copy_companions(base, output)
    return {
        "quantized": sorted(name.removesuffix(".qweight") for name in read_tensors(output) if name.endswith(".qweight")),
        "peak_gpu_memory": torch.cuda.max_memory_allocated(),
        "versions": {name: version(name) for name in ENGINE.requires},
    }


def _config(scheme: dict[str, Any]) -> dict[str, Any]:
    """As GPTQModel and transformers read it: the library's own lacks the format's name."""
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": scheme["bits"],
        "group_size": scheme["group_size"],
        "sym": scheme["symmetric"],
        "desc_act": scheme["act_order"],
        "static_groups": scheme["static_groups"],
        "damp_percent": scheme["damping"],
        "true_sequential": True,
        "lm_head": False,
        "meta": {"quantizer": [f"auto_gptq:{version('auto-gptq')}"]},
    }


if __name__ == "__main__":
    serve(quantize)
