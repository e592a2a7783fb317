"""The config of a model's twin: the same architecture and widths, with two decoder layers. Pure; loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYERS = 2
COUNT = "num_hidden_layers"
NOT_PER_LAYER = ("architectures", "_token_id", "_token_ids")
"""Endings of lists that may by chance be as long as the model is deep."""


def twin_config(config: Mapping[str, Any], resolved: Mapping[str, Any], *, count_key: str = COUNT) -> dict[str, Any]:
    """`config`, as config.json has it, for `LAYERS` layers.

    `resolved` is the same config with the library's defaults filled in, among them lists with an entry per layer (`layer_types`), which
    are cut to the layers that the twin keeps; `count_key` is what the architecture calls the number of layers. Nested configs, of text and
    vision, are cut likewise.
    """
    twin = dict(config)
    for name, nested in config.items():
        if isinstance(nested, dict) and isinstance(other := resolved.get(name), Mapping) and COUNT in other:
            twin[name] = twin_config(nested, other)
    depth = resolved.get(count_key)
    if not isinstance(depth, int) or depth <= LAYERS:
        return twin
    lists = {
        name: value
        for name, value in resolved.items()
        if isinstance(value, list) and len(value) == depth and not name.endswith(NOT_PER_LAYER)
    }
    kept = kept_layers([tuple(map(repr, kinds)) for kinds in zip(*lists.values(), strict=True)], depth)
    return twin | {count_key: LAYERS} | {name: [value[layer] for layer in kept] for name, value in lists.items()}


def kept_layers(kinds: list[tuple[str, ...]], depth: int) -> list[int]:
    """The first layer, and the first of another kind; the second where all are of one kind. `kinds` is empty, or has one per layer."""
    other = next((layer for layer, kind in enumerate(kinds) if kind != kinds[0]), 1)
    return [layer for layer in (0, other) if layer < depth]
