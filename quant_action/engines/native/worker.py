"""The native engine's process: `python -m quant_action.engines.native.worker CONTROL` (see `workers/protocol.py`)."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from quant_action.engines.calibration import requested_blocks
from quant_action.engines.native.engine import ENGINE
from quant_action.engines.native.streaming import quantize_model
from quant_action.records import WeightScheme
from quant_action.workers.protocol import Progress, serve


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Answer a request as `engines/interface.py` describes it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a workspace of fixed size
    torch.use_deterministic_algorithms(True)
    scheme = TypeAdapter(WeightScheme).validate_python(request["scheme"])
    model = Path(request["model"])
    blocks = requested_blocks(request) if request["calibration"] and ENGINE.needs_calibration(scheme) else None
    quantized = quantize_model(model, Path(request["output"]), scheme, blocks=blocks, device=request["device"], progress=progress)
    return {
        "quantized": quantized,
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if request["device"] == "cuda" else None,
        "versions": {name: version(name) for name in ENGINE.requires},
    }


if __name__ == "__main__":
    serve(quantize)
