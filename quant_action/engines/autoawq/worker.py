"""Quantize with AutoAWQ; runs in the environment `legacy`."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import copy_companions, keep_weights, write_config
from quant_action.engines.autoawq.engine import ENGINE
from quant_action.engines.calibration import requested_blocks
from quant_action.engines.transformers4 import translated
from quant_action.model_files import read_config, read_tensors
from quant_action.workers.protocol import Progress, serve

PARALLEL_TOKENS = 16384
"""Calibration tokens that it sends through a layer at once; all of them, its default, needs tens of gigabytes at 128 x 2048."""


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `engines/interface.py` for request and answer. Raises `ModelError` for weights that are not finite."""
    import torch
    from awq import AutoAWQForCausalLM

    scheme, base, output = request["scheme"], Path(request["model"]), Path(request["output"])
    Source(base).check(progress)
    with tempfile.TemporaryDirectory() as scratch:
        source = translated(base, Path(scratch))
        blocks = requested_blocks({**request, "model": str(source)})
        progress("quantize", 1, 2)
        model = AutoAWQForCausalLM.from_pretrained(str(source), trust_remote_code=False, safetensors=True, device_map="cpu")
        model.quantize(
            None,  # the tokenizer: the calibration samples are token ids already
            quant_config={"zero_point": not scheme["symmetric"], "q_group_size": scheme["group_size"], "w_bit": 4, "version": "GEMM"},
            calib_data=blocks,
            max_calib_samples=len(blocks),
            max_calib_seq_len=len(blocks[0]),
            n_parallel_calib_samples=max(1, PARALLEL_TOKENS // len(blocks[0])),
            apply_clip=scheme["clip"],
        )
        model.save_quantized(str(output), safetensors=True)
    progress("quantize", 2, 2)
    write_config(base, output, quantization_config=read_config(output)["quantization_config"])
    keep_weights(output)
    copy_companions(base, output)
    return {
        "quantized": sorted(name.removesuffix(".qweight") for name in read_tensors(output) if name.endswith(".qweight")),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if request["device"] == "cuda" else None,
        "versions": {name: version(name) for name in ENGINE.requires},
    }


if __name__ == "__main__":
    serve(quantize)
