"""The engine's process: quantize every linear layer of a model by itself and write a GPTQ checkpoint.

The scale s of a group of weights w minimises |w - s q|^2. With the integers q fixed, the best scale is <q, w> / <q, q>; with the scale
fixed, the best integers are the nearest. The two steps in turn never raise the error; they are run from several shares of the full range,
since where they end depends on where they begin.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from least_squares_engine.engine import ENGINE
from quant_action.checkpoints.gptq import GPTQFormat
from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import ModelWriter
from quant_action.errors import EngineError
from quant_action.model_files import open_model
from quant_action.records import WeightScheme
from quant_action.workers.protocol import Progress, serve

SHARES = (1.0, 0.9, 0.8, 0.7)
"""Of the full range, to begin with."""

STEPS = 8


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `quant_action/engines/interface.py` for request and answer. Raises `EngineError` naming a layer that cannot be stored."""
    scheme = TypeAdapter(WeightScheme).validate_python(request["scheme"])
    base, output = Path(request["model"]), Path(request["output"])
    layers, source, writer, format = open_model(base).linear_layers, Source(base), ModelWriter(output), GPTQFormat()
    for number, name in enumerate(source.names):
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module in layers:
            outputs, inputs = layers[module]
            if reason := format.refuses(out_features=outputs, in_features=inputs, scheme=scheme):
                raise EngineError(reason, where=module)
            for part, tensor in format.pack(round_to_fitted(source.read(name).float(), scheme), bits=scheme.bits).items():
                writer.add(f"{module}.{part}", tensor)
        else:
            writer.add(name, source.read(name))
        progress("quantize", number + 1, len(source.names))
    writer.finish(base, quantization_config=format.config(scheme))
    return {
        "quantized": sorted(layers),
        "peak_gpu_memory": None,
        "versions": {name: version(name) for name in ENGINE.requires},
    }


def round_to_fitted(weight: torch.Tensor, scheme: WeightScheme) -> QuantizedLinear:
    """The float32 weight [out, in] on a grid whose scales fit it."""
    outputs, inputs = weight.shape
    size = inputs if scheme.group_size == -1 else scheme.group_size
    groups = weight.view(outputs, inputs // size, size)
    top = 2**scheme.bits - 1
    low, high = groups.amin(-1, keepdim=True).clamp_max(0), groups.amax(-1, keepdim=True).clamp_min(0)
    if scheme.symmetric:
        span, zeros = 2 * torch.maximum(-low, high), torch.full_like(low, 2 ** (scheme.bits - 1))
    else:
        span = high - low
        zeros = torch.round(-low / span * top).nan_to_num(1.0).clamp(1, top)  # the GPTQ format has no zero point of 0
    fitted = [fit(groups, span * share / top, zeros, top) for share in SHARES]
    errors = torch.stack([(groups - (nearest(groups, scales, zeros, top) - zeros) * scales).square().sum(-1) for scales in fitted])
    best = torch.stack(fitted).gather(0, errors.argmin(0)[None, ..., None])[0]
    return QuantizedLinear(
        codes=nearest(groups, best, zeros, top).view(outputs, inputs).to(torch.uint8),
        scales=best.squeeze(-1).half(),
        zeros=zeros.squeeze(-1).to(torch.uint8),
        groups=torch.arange(inputs, dtype=torch.int32) // size,
    )


def fit(groups: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, top: int) -> torch.Tensor:
    """Scales [out, groups, 1], rounded to the float16 in which they are stored; a group of zeros gets 1."""
    scales = torch.where(scales > 0, scales, 1.0)
    for _ in range(STEPS):
        steps = nearest(groups, scales, zeros, top) - zeros
        squares = steps.square().sum(-1, keepdim=True)
        scales = torch.where(squares > 0, (steps * groups).sum(-1, keepdim=True) / squares.clamp_min(1), scales)
    return scales.half().float().clamp_min(2.0**-24)


def nearest(groups: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, top: int) -> torch.Tensor:
    """The nearest codes, as floats."""
    return (torch.round(groups / scales) + zeros).clamp(0, top)


if __name__ == "__main__":
    serve(quantize)
