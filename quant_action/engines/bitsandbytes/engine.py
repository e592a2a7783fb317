"""Description of the engine `bitsandbytes`."""

from __future__ import annotations

from quant_action import costs
from quant_action.engines.interface import EVERY_DEVICE, Engine

ENGINE = Engine(
    name="bitsandbytes",
    methods={"bitsandbytes": EVERY_DEVICE},
    environment="host",
    worker="quant_action.engines.bitsandbytes.worker",
    writes=("bitsandbytes",),
    deterministic=("cpu",),
    requires=("torch", "transformers", "accelerate", "bitsandbytes", "safetensors"),
    sources=("quant_action.engines.bitsandbytes", "quant_action.checkpoints", "quant_action.model_files"),
    needs_calibration=lambda scheme: False,
    refuses=lambda scheme, device: None,
    why="the library of this method",
    estimate=costs.bitsandbytes,
)
