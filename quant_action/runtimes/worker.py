"""Loads an artifact as its users will, and compares what that computes with what was scored.

Its request; `layers` are those that must be quantized, `states` the baseline's and `values` the candidate's evaluation:

    {"verb": "check", "model": "/path", "layers": ["model.layers.0.mlp.up_proj", ...], "device": "cpu" | "cuda",
     "states": "/path", "values": "/path", "windows": 2, "tokens": 128}

It answers with the fields of `records.RuntimeCheck` that it knows. One model is in memory at a time; weights to compare a layer with are
computed for that layer alone.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AwqConfig, GPTQConfig

from quant_action.checkpoints.formats import FORMATS
from quant_action.checkpoints.load import load_model, packed_linear
from quant_action.checkpoints.skeleton import attention_of, model_config
from quant_action.checkpoints.source import Source
from quant_action.errors import EngineError, EnvironmentMissing, QuantActionError
from quant_action.model_files import read_config
from quant_action.runtimes.comparison import (
    LayerError,
    beyond_rounding,
    finite_logits,
    layer_error,
    logit_difference,
    rounding_at_random,
    true_nll,
)
from quant_action.runtimes.kernels import count_kernels, quantized_modules
from quant_action.scorer.states import first_ids
from quant_action.values import Values
from quant_action.workers.diagnosis import expected
from quant_action.workers.protocol import serve

LIBRARIES = {"gptq": "gptqmodel", "awq": "gptqmodel", "compressed-tensors": "compressed-tensors", "bitsandbytes": "bitsandbytes"}
"""By `quant_method`: the package under transformers that runs the quantized layers."""

BACKENDS = ("marlin", "exllama_v2")
"""What GPTQModel is asked for where its own choice refuses the model, the fastest first. It chooses by GPU and bits before it looks at any
layer: on Hopper GPUs Machete, which takes no layer whose outputs are not a multiple of 128, or whose sources are not there."""

BACKEND_CONFIGS: dict[str, Callable[..., Any]] = {"gptq": GPTQConfig, "awq": AwqConfig}
"""What tells transformers of a backend; of all else that they say, the checkpoint's own word holds."""

DIFFERS = "What was scored is not what would be served. Quantize again; if it stays, the library reads this checkpoint differently."

STEPS = 4
BUILD_POLL_SECONDS = 1.0


def check(request: dict[str, Any], progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Answer one request. Raises `EngineError` for a difference beyond rounding and for layers that no quantized kernel runs."""
    folder, device = Path(request["model"]), request["device"]
    method = str((read_config(folder).get("quantization_config") or {}).get("quant_method"))
    if method not in LIBRARIES:
        raise EngineError(f"no runtime is known for checkpoints of {method!r}", where=str(folder / "config.json"))
    ids = first_ids(Path(request["states"]), windows=request["windows"], tokens=request["tokens"])
    windows = Values.load(Path(request["values"])).windows
    if windows is None:
        raise EngineError("nothing was scored on text, so there is nothing to compare with", where=request["values"])
    scored = torch.from_numpy(windows.nll[: len(ids), : ids.shape[1] - 1])
    with torch.inference_mode():
        progress("load with its runtime", 1, STEPS)
        # What torch.compile would make of the Python around a kernel is not what is compared, and takes a minute on a CPU.
        with kernels_being_built(progress), torch.compiler.set_stance("force_eager"):
            model = load_runtime(folder, device)
            modules = quantized_modules(model, request["layers"])
            kernels = count_kernels(modules, device=device)
            progress("compute with its runtime", 2, STEPS)
            theirs, errors = run_compared(model, modules, folder, method, ids.to(device))
        dtype, backend = model.dtype, told_backend(model)
        del model, modules
        gc.collect()
        progress("compute as it is scored", 3, STEPS)
        ours_model = load_model(folder, device=device, dtype=dtype)
        ours = finite_logits(ours_model, ids.to(device), who="scoring's own loader")
        with rounding_at_random(ours_model):
            rounded = finite_logits(ours_model, ids.to(device), who="scoring's own loader, with rounding at random,")
        progress("compare", 4, STEPS)
    refuse_layers(errors)
    found = logit_difference(theirs, ours, ids=ids, scored=scored)
    rounding = logit_difference(rounded, ours, ids=ids, scored=true_nll(ours, ids))
    if beyond := beyond_rounding(found, rounding):
        raise EngineError(
            f"{' and '.join(kernels)} and scoring disagree beyond rounding: {beyond}",
            where=str(folder),
            remedy=DIFFERS,
        )
    worst = max(errors, key=lambda layer: errors[layer].share, default=None)
    return {
        "runtime": f"transformers {version('transformers')} with {LIBRARIES[method]} {version(LIBRARIES[method])}",
        "backend": backend,
        "dtype": str(dtype).removeprefix("torch."),
        "kernels": kernels,
        "tokens": ids.numel(),
        "difference": found.model_dump(),
        "rounding": rounding.model_dump(),
        "layers_compared": len(errors),
        "worst_layer": worst,
        "worst_layer_share": errors[worst].share if worst else None,
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": {name: version(name) for name in ("torch", "transformers", LIBRARIES[method])},
    }


def load_runtime(folder: Path, device: str) -> Any:
    """The model as `from_pretrained` gives it, in the 16-bit type of its config. Raises `EngineError` where the library refuses it."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # on two cores its default leaves no worker
    config = model_config(folder)
    stored = getattr(config, "dtype", None)

    def load(**more: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=stored if stored in (torch.float16, torch.bfloat16) else torch.bfloat16,
            device_map={"": device},
            attn_implementation=attention_of(config),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **more,
        ).eval()

    ways: list[dict[str, Any]] = [{}]
    chosen = BACKEND_CONFIGS.get(str((read_config(folder).get("quantization_config") or {}).get("quant_method")))
    if device == "cuda" and chosen:
        ways += [{"quantization_config": chosen(bits=4, backend=backend)} for backend in BACKENDS]
    return first_that_loads([partial(load, **way) for way in ways])


def first_that_loads(ways: Sequence[Callable[[], Any]]) -> Any:
    """What the first of these gives that the library does not refuse. Raises the first refusal, named, where it refuses them all."""
    refusals: list[Exception] = []
    for way in ways:
        try:
            return way()
        except QuantActionError:
            raise
        except Exception as error:  # each library has errors of its own for what it cannot load
            if known := expected(error):
                raise known from error
            print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
            refusals.append(error)
    raise _refused(refusals[0]) from refusals[0]


def told_backend(model: Any) -> str | None:
    """The kernel family that `from_pretrained` had to be told of, or None where its own choice did."""
    backend = getattr(getattr(model.config, "quantization_config", None), "backend", None)
    name = getattr(backend, "value", backend)
    return name if name in BACKENDS else None


def _refused(error: Exception) -> EngineError | EnvironmentMissing:
    reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0][:300]}"
    if "CUTLASS" in str(error) or "nvcc" in str(error):
        return EnvironmentMissing(
            f"a GPU kernel of GPTQModel could not be built ({reason})",
            remedy="It needs nvcc, a C++ compiler and, on Hopper GPUs, CUTLASS: set GPTQMODEL_CUTLASS_DIR to its sources.",
        )
    return EngineError(f"the runtime does not load the artifact ({reason})", remedy="The log has all that it said.")


def run_compared(
    model: Any, modules: Mapping[str, Any], folder: Path, method: str, ids: torch.Tensor
) -> tuple[torch.Tensor, dict[str, LayerError]]:
    """Logits of the runtime's model, and of each layer how far its outputs are from those of the weights that are scored.

    bitsandbytes computes the weights that are scored itself, so of its layers there is nothing to compare.
    """
    errors: dict[str, LayerError] = {}
    if method not in FORMATS:
        return finite_logits(model, ids, who="the runtime"), errors
    source = Source(folder)
    quantization = read_config(folder)["quantization_config"]

    def compare(layer: str) -> Callable[[Any, Any, torch.Tensor], None]:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...], outputs: torch.Tensor) -> None:
            bias = source.read(f"{layer}.bias").to(ids.device) if f"{layer}.bias" in source else None
            linear = packed_linear(source, layer, FORMATS[method], quantization, device=str(ids.device))
            errors[layer] = layer_error(inputs[0], outputs, linear, bias)

        return hook

    with ExitStack() as hooks:
        for layer, module in modules.items():
            hooks.callback(module.register_forward_hook(compare(layer)).remove)
        return finite_logits(model, ids, who="the runtime"), errors


def refuse_layers(errors: Mapping[str, LayerError]) -> None:
    """Raise `EngineError` that names the worst of the layers that are off by more than rounding."""
    off = sorted((layer for layer, error in errors.items() if not error.share <= 1), key=lambda layer: -errors[layer].share)
    if off:
        raise EngineError(
            f"the runtime computes {len(off)} of {len(errors)} quantized layers with other weights than were scored: this one's outputs "
            f"are off by {errors[off[0]].share:.3g} times what rounding explains",
            where=off[0],
            remedy=DIFFERS,
        )


@contextmanager
def kernels_being_built(progress: Callable[[str, int, int], None]) -> Iterator[None]:
    """Say so while GPTQModel compiles a kernel: that takes minutes, once for each kernel, GPU and version."""
    root = os.environ.get("GPTQMODEL_TORCH_EXTENSIONS_DIR")
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(BUILD_POLL_SECONDS):
            building = [path.parent for path in Path(str(root)).glob("*/*/build.ninja") if not list(path.parent.glob("*.so"))]
            if building:
                progress(f"compile the kernel {building[0].parent.name}: minutes, once", 1, STEPS)

    watcher = threading.Thread(target=watch, daemon=True)
    if root:
        watcher.start()
    try:
        yield
    finally:
        ended.set()
        if root:
            watcher.join()


if __name__ == "__main__":
    serve(check)
