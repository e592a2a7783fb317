"""Which modules of a loaded model do the work of its quantized layers; a layer that none of them took is a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from quant_action.checkpoints.skeleton import stored_name
from quant_action.errors import EngineError

FALLBACKS = frozenset({"TorchLinear", "AwqTorchLinear"})
"""GPTQModel's last resort: it takes every scheme and unpacks the weights anew in every call. On a GPU that is many times slower."""

KERNEL_HOMES = ("gptqmodel.", "bitsandbytes.")
"""Packages whose linear layers compute from packed weights."""


def quantized_modules(model: Any, layers: Iterable[str]) -> dict[str, Any]:
    """Layer -> the module that runs it, under the name that the checkpoint has for it.

    Raises `EngineError` for a layer that no module has, or whose module holds ordinary weights.
    """
    wanted = set(layers)
    modules = {
        stored_name(name, base_prefix=model.base_model_prefix, contains=wanted.__contains__): module
        for name, module in model.named_modules()
    }
    plain = sorted(layer for layer in wanted if layer not in modules or _kernel(modules[layer]) is None)
    if plain:
        module = modules.get(plain[0])
        raise EngineError(
            f"{len(plain)} of {len(wanted)} layers are not run from quantized weights, the first as "
            f"{'no module at all' if module is None else type(module).__name__}",
            where=plain[0],
            remedy="What is loaded is not what was made: look at quantization_config in the artifact's config.json and at the log.",
        )
    return {layer: modules[layer] for layer in sorted(wanted)}


def count_kernels(modules: Mapping[str, Any], *, device: str) -> dict[str, int]:
    """Kernel -> number of layers. Raises `EngineError` where a GPU got the kernel that is for want of a better one."""
    kernels = kernels_of(modules)
    slow = {name: count for name, count in kernels.items() if name in FALLBACKS}
    if device == "cuda" and slow:
        raise EngineError(
            f"GPTQModel runs {sum(slow.values())} of {len(modules)} layers on plain torch ({', '.join(slow)}): none of its GPU kernels "
            "could be built, or none takes these bits and groups",
            remedy="The log says why. Its kernels need nvcc and a C++ compiler; they take 4 and 8 bits in groups of 32, 64 or 128.",
        )
    return kernels


def kernels_of(modules: Mapping[str, Any]) -> dict[str, int]:
    """Kernel -> number of layers, whichever they are."""
    return dict(sorted(Counter(str(_kernel(module)) for module in modules.values()).items()))


def _kernel(module: Any) -> str | None:
    """The class that computes, or None for one that has ordinary weights."""
    kind = type(module)
    if kind.__module__.startswith(KERNEL_HOMES):
        return str(kind.__name__)
    if any(name == "weight_packed" for name, _ in module.named_parameters(recurse=False)):
        return f"compressed-tensors {kind.__name__}"  # transformers unpacks it when it is first called; other servers never do
    return None
