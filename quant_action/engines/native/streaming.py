"""The whole pass: a base model's folder in, a quantized one out, one decoder layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant_action.checkpoints.formats import format_of
from quant_action.checkpoints.interface import Format
from quant_action.checkpoints.skeleton import Decoder, decoder_of, empty_model, fill, model_config, source_reader, stored_name
from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import ModelWriter
from quant_action.engines.native.embedding import Embedded, cast, embed
from quant_action.engines.native.layer import LayerQuantizer
from quant_action.engines.native.lockstep import run_in_lockstep
from quant_action.engines.native.structure import Site, find_sites, linears_of
from quant_action.errors import EngineError, ModelError
from quant_action.model_files import read_config
from quant_action.records import WeightScheme

CHUNK = 4096
"""Tokens that go through a layer together; enough to keep its products efficient."""

PROBE = 32
"""Tokens of the sample on which a layer's structure is found out."""


def quantize_model(
    model_folder: Path,
    output: Path,
    scheme: WeightScheme,
    *,
    blocks: Sequence[Sequence[int]] | None,
    device: str,
    progress: Callable[[str, int, int], None],
) -> list[str]:
    """Write the quantized model to the empty folder `output`; returns the names of the linears that are quantized.

    `blocks` are calibration samples of one length, or None for a scheme that needs none. The forward pass runs in float32 on a CPU and in
    bfloat16 on a GPU; Gram matrices and rounding are float32 on both. Raises `ModelError` for the base model, `EngineError` for what
    cannot be quantized, each naming the layer.
    """
    with torch.inference_mode():
        if "quantization_config" in read_config(model_folder):
            raise ModelError(
                "is quantized already", where=str(model_folder), remedy="Point model.source at the original, unquantized model."
            )
        source = Source(model_folder)
        model: Any = empty_model(model_config(model_folder))
        decoder = decoder_of(model)
        format = format_of(scheme)
        _check_layers(decoder, format, scheme)
        stored_layers = _stored_prefix(decoder.layers_name, model, source)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16

        writer = ModelWriter(output)
        for name in source.names:
            if not name.startswith(f"{stored_layers}."):
                writer.add(name, source.read(name))
        embedded = probe = None
        if blocks is not None:
            _fill_around_layers(model, decoder, source, device=device, dtype=dtype)
            ids = torch.tensor(blocks, device=device)
            rows = model.config.get_text_config().vocab_size
            if int(ids.max()) >= rows:
                raise ModelError(f"has {rows} embeddings, its tokenizer uses id {int(ids.max())}", where=str(model_folder))
            embedded = embed(decoder, ids.split(_batch(*ids.shape)))
            probe = embed(decoder, [ids[:1, :PROBE]])
            for _, child in decoder.inner.named_children():
                if child is not decoder.layers:
                    child.to("meta")

        quantized = []
        for number, layer in enumerate(decoder.layers):
            prefix = f"{decoder.layers_name}.{number}."
            fill(layer, source_reader(source, model, device=device, dtype=torch.float32), layer.state_dict(), prefix=prefix)
            layer.to(device)
            try:
                done = _quantize_layer(layer, number, embedded, probe, scheme, dtype, _stored_vectors(layer, prefix, model, source, device))
            except EngineError as error:
                raise EngineError(error.args[0], where=prefix + (error.where or ""), remedy=error.remedy) from error
            quantized += _write_layer(writer, source, format, scheme, f"{stored_layers}.{number}.", done)
            layer.to("meta")
            progress("quantize", number + 1, len(decoder.layers))
        writer.finish(model_folder, quantization_config=format.config(scheme))
        return quantized


def _quantize_layer(
    layer: nn.Module,
    number: int,
    embedded: Embedded | None,
    probe: Embedded | None,
    scheme: WeightScheme,
    dtype: torch.dtype,
    vectors: dict[str, torch.Tensor],
) -> LayerQuantizer:
    """Quantize a float32 layer; with calibration data, take `embedded.hidden` through it."""
    weights = {name: linear.weight.detach() for name, linear in linears_of(layer).items()}
    quantizer = LayerQuantizer(scheme=scheme, layer=layer, weights=weights, vectors=vectors)
    if embedded is None or probe is None:
        for name in weights:
            quantizer.quantize(Site(linears=(name,)), None)
        return quantizer
    sample = embedded.hidden[0][:1, :PROBE].float()
    sites = find_sites(layer, sample, cast(probe.calls[number], torch.float32), folds=scheme.scales is not None)
    layer.to(dtype)
    embedded.hidden[:] = run_in_lockstep(layer, embedded.hidden, embedded.calls[number], sites, quantizer.quantize)
    if not all(bool(torch.isfinite(states).all()) for states in embedded.hidden):
        raise EngineError(
            "the outputs are not finite on the calibration data", remedy="Check the base model, or shorten calibration.tokens."
        )
    return quantizer


def _write_layer(writer: ModelWriter, source: Source, format: Format, scheme: WeightScheme, prefix: str, done: LayerQuantizer) -> list[str]:
    """Everything that the base stores for this layer, quantized, changed or as it was; returns the quantized linears."""
    for stored in source.names:
        if not stored.startswith(prefix):
            continue
        name = stored.removeprefix(prefix)
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module in done.linears:
            for part, tensor in format.pack(done.linears[module], bits=scheme.bits).items():
                writer.add(f"{prefix}{module}.{part}", tensor)
        else:
            writer.add(stored, done.parameters[name] if name in done.parameters else source.read(stored))
    return [prefix + name for name in done.linears]


def _check_layers(decoder: Decoder, format: Format, scheme: WeightScheme) -> None:
    """Refuse, before any work, a layer that cannot be quantized or stored."""
    for number, layer in enumerate(decoder.layers):
        for name, linear in linears_of(layer).items():
            reason = format.refuses(out_features=linear.out_features, in_features=linear.in_features, scheme=scheme)
            if reason:
                raise EngineError(reason, where=f"{decoder.layers_name}.{number}.{name}", remedy="Choose another group size or bits.")


def _fill_around_layers(model: Any, decoder: Decoder, source: Source, *, device: str, dtype: torch.dtype) -> None:
    """Load what of the decoder is not a layer: the embedding, and a norm or two."""
    layers = decoder.layers_name.removeprefix(f"{decoder.name}.") + "."
    prefix = f"{decoder.name}." if decoder.name else ""
    names = [name for name in decoder.inner.state_dict() if not name.startswith(layers)]
    fill(decoder.inner, source_reader(source, model, device=device, dtype=dtype), names, prefix=prefix)
    for name, module in decoder.inner.named_modules():
        if not f"{name}.".startswith(layers):
            for key, buffer in module._buffers.items():
                module._buffers[key] = None if buffer is None else buffer.to(device)


def _stored_vectors(layer: nn.Module, prefix: str, model: Any, source: Source, device: str) -> dict[str, torch.Tensor]:
    """The layer's norm weights and biases in the dtype of the files."""
    contains = source.__contains__
    return {
        name: source.read(stored_name(prefix + name, base_prefix=model.base_model_prefix, contains=contains)).to(device)
        for name, parameter in layer.named_parameters()
        if parameter.dim() == 1
    }


def _stored_prefix(layers_name: str, model: Any, source: Source) -> str:
    """The layers' name in the files: with or without the base model's prefix."""
    return stored_name(
        layers_name,
        base_prefix=model.base_model_prefix,
        contains=lambda name: any(stored.startswith(f"{name}.") for stored in source.names),
    )


def _batch(samples: int, tokens: int) -> int:
    """Sequences per chunk: the most that divide `samples` evenly (all chunks then have one shape) within `CHUNK` tokens."""
    return max(size for size in range(1, samples + 1) if samples % size == 0 and (size == 1 or size * tokens <= CHUNK))
