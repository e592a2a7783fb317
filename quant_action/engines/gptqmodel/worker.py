"""Quantize with GPTQModel; runs in the environment `modern`.

Its own files say where it kept temporary data and how many threads it had; only what a loader needs is left of them, so that the same
weights are the same artifact.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import copy_companions, keep_weights, write_config
from quant_action.engines.calibration import requested_blocks
from quant_action.engines.gptqmodel.engine import ENGINE
from quant_action.model_files import read_config, read_tensors
from quant_action.workers.protocol import Progress, serve

KEPT = (
    *("quant_method", "bits", "group_size", "sym", "desc_act", "lm_head", "format", "checkpoint_format", "pack_dtype"),
    *("version", "zero_point"),  # of AWQ
)


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `engines/interface.py` for request and answer. Raises `ModelError` for weights that are not finite."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # on two cores its default leaves no worker
    import torch
    from gptqmodel import GPTQModel

    scheme, base, output = request["scheme"], Path(request["model"]), Path(request["output"])
    Source(base).check(progress)
    blocks = requested_blocks(request)
    progress("quantize", 1, 2)
    model = GPTQModel.load(str(base), _settings(scheme), device=request["device"], trust_remote_code=False)
    model.quantize([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in blocks], batch_size=1)
    model.save(str(output))
    progress("quantize", 2, 2)
    quantized = _tidy(base, output)
    return {
        "quantized": quantized,
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if request["device"] == "cuda" else None,
        "versions": {name: version(name) for name in ENGINE.requires},
    }


def _settings(scheme: dict[str, Any]) -> Any:
    from gptqmodel.quantization.config import FORMAT, METHOD, QuantizeConfig

    what = {"bits": scheme["bits"], "group_size": scheme["group_size"], "sym": scheme["symmetric"]}
    if scheme["method"] == "awq":
        return QuantizeConfig(**what, method=METHOD.AWQ, format=FORMAT.GEMM)
    # Its own default reorders inputs within their groups whatever desc_act says, so it is always told; one group is always in order.
    group_aware = scheme["act_order"] and scheme["static_groups"] and scheme["group_size"] != -1
    reordered = scheme["act_order"] and not group_aware
    return QuantizeConfig(**what, desc_act=reordered, act_group_aware=group_aware, damp_percent=scheme["damping"])


def _tidy(base: Path, output: Path) -> list[str]:
    """Leave weights, the base's config with the quantization beside it, and the base's companions; returns the quantized layers."""
    written = read_config(output)["quantization_config"]
    tensors = read_tensors(output)
    quantizer = {"quantizer": [f"gptqmodel:{version('gptqmodel')}"]}
    write_config(base, output, quantization_config={key: written[key] for key in KEPT if key in written} | {"meta": quantizer})
    keep_weights(output)
    copy_companions(base, output)
    return sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))


if __name__ == "__main__":
    serve(quantize)
