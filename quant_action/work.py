"""The size of a piece of work: what the cost of quantizing or scoring a model depends on, read from headers and the spec alone."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from quant_action.model_files import ModelFiles, Tensor
from quant_action.portions import items_at
from quant_action.records import Protocol, Scheme, WeightScheme

LAYER = re.compile(r"^.*?\.\d+(?=\.)")
"""The numbered layer in a module's name, such as `model.layers.0`."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model as its safetensors headers show it."""

    size: int
    """Bytes of the weight files."""
    parameters: int
    linear_parameters: int
    """Of the weights that are quantized."""
    layers: int
    layer: tuple[tuple[int, int], ...]
    """(outputs, inputs) of each linear in the layer that has most weights."""
    vocabulary: int
    hidden: int

    @property
    def widest(self) -> int:
        """Most inputs that a linear has."""
        return max(inputs for _, inputs in self.layer)

    @property
    def layer_parameters(self) -> int:
        return sum(outputs * inputs for outputs, inputs in self.layer)

    @property
    def embedding(self) -> int:
        """Parameters of one embedding (or of the head)."""
        return self.vocabulary * self.hidden

    @classmethod
    def of(cls, model: ModelFiles) -> Shape:
        layers: dict[str, list[tuple[int, int]]] = {}
        for name, shape in model.linear_layers.items():
            found = LAYER.match(name)
            layers.setdefault(found[0] if found else name, []).append(shape)
        outside = [tensor for name, tensor in model.tensors.items() if len(tensor.shape) == 2 and not LAYER.match(name)]
        embedding = max(outside, key=_parameters).shape if outside else (1, max(inputs for _, inputs in model.linear_layers.values()))
        return cls(
            size=model.size,
            parameters=sum(_parameters(tensor) for tensor in model.tensors.values()),
            linear_parameters=sum(rows * columns for rows, columns in model.linear_layers.values()),
            layers=len(layers),
            layer=tuple(max(layers.values(), key=lambda linears: sum(rows * columns for rows, columns in linears))),
            vocabulary=embedding[0],
            hidden=embedding[1],
        )


def _parameters(tensor: Tensor) -> int:
    return math.prod(tensor.shape)


def artifact_bytes(shape: Shape, scheme: Scheme) -> int:
    """Bytes of the weight files that a scheme leaves: packed weights, a scale and a zero point per group, everything else as it was.

    Groups have a float16 scale and a zero point of `bits` bits. bitsandbytes' 4 bits have a float32 (or, with double quantization, 8-bit)
    scale per 64 weights, its int8 one float32 per output.
    """
    average = shape.size / shape.parameters
    kept = (shape.parameters - shape.linear_parameters) * average
    per_weight = scheme.bits / 8
    if isinstance(scheme, WeightScheme):
        inputs = shape.layer_parameters / sum(outputs for outputs, _ in shape.layer)
        per_weight += (2 + scheme.bits / 8) / (inputs if scheme.group_size == -1 else scheme.group_size)
    elif scheme.bits == 4:
        per_weight += (1 if scheme.double_quant else 4) / 64
    return int(kept + shape.linear_parameters * per_weight)


@dataclass(frozen=True, kw_only=True)
class QuantizeWork:
    shape: Shape
    scheme: Scheme
    samples: int
    """Of calibration; 0 where the engine needs none."""
    tokens: int
    """In all samples together."""
    gpu: str | None
    """Its name; None on a CPU."""
    cores: int
    """Of the processor."""


@dataclass(frozen=True, kw_only=True)
class ScoreWork:
    shape: Shape
    scheme: Scheme | None
    """None for unquantized weights."""
    compared: bool
    """With the baseline's distributions."""
    checked: bool
    """Layer by layer against the original."""
    text_tokens: int
    """In all windows together."""
    long_documents: int
    long_tokens: int
    """Read of each of them."""
    long_scored: int
    """Scored of each of them."""
    task_tokens: int
    """Read for task items, choices and padding included."""
    written_tokens: int
    """Decoding steps times the sequences in them."""
    steps: int
    """Decoding steps: each reads all weights once."""
    batch_tokens: int
    """In one forward pass, unless one sequence is longer."""
    gpu: str | None
    cores: int


CHOICE_READS = 2
"""How often the text of a choice item is read: with a prompt and four endings of like length every sequence is two fifths of it, which
makes 1.6, and padding."""


@dataclass(frozen=True, kw_only=True)
class DataSize:
    bytes: int
    rows: int


def score_work(
    shape: Shape,
    scheme: Scheme | None,
    protocol: Protocol,
    *,
    compared: bool,
    checked: bool,
    after: float,
    upto: float,
    text: DataSize | None,
    long_documents: int,
    tasks: dict[str, DataSize],
    gpu: str | None,
    cores: int,
) -> ScoreWork:
    """How much there is to score between two shares of the items, the text being part of the first; it is counted in bytes of its file,
    since counting tokens would need the tokenizer.
    """
    per_token = bytes_per_token(shape.vocabulary)
    read = written = steps = 0.0
    for task in protocol.tasks:
        data = tasks[task.id]
        limited = min(task.limit or data.rows, data.rows)
        items = items_at(upto, limited) - items_at(after, limited)
        length = data.bytes / data.rows / per_token
        if task.kind == "choice":
            read += items * CHOICE_READS * length
        else:
            together = max(protocol.batch_tokens / (length + task.max_tokens), 1)
            read += items * length
            written += items * task.max_tokens
            steps += math.ceil(items / together) * task.max_tokens
    return ScoreWork(
        shape=shape,
        scheme=scheme,
        compared=compared,
        checked=checked,
        text_tokens=int(text.bytes / per_token) if text and protocol.text and after == 0 else 0,
        long_documents=long_documents if after == 0 else 0,
        long_tokens=protocol.long_text.tokens if protocol.long_text and after == 0 else 0,
        long_scored=protocol.long_text.scored if protocol.long_text and after == 0 else 0,
        task_tokens=int(read),
        written_tokens=int(written),
        steps=int(steps),
        batch_tokens=protocol.batch_tokens,
        gpu=gpu,
        cores=cores,
    )


def bytes_per_token(vocabulary: int) -> float:
    """Of English JSON Lines: 2.1 with a vocabulary of 512 (examples/tiny-llama), 4.5 with 49,152 (examples/smollm2), between them by its
    logarithm. Other languages have fewer bytes to a token, up to a factor of two; the correction by earlier runs takes that up.
    """
    return min(max(2.1 + 0.36 * (math.log2(max(vocabulary, 2)) - 9), 1.5), 5.0)
