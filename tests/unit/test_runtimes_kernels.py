from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from quant_action.errors import EngineError
from quant_action.records import BitsandbytesScheme
from quant_action.runtimes import runtime_environment
from quant_action.runtimes.kernels import count_kernels, quantized_modules

from .tiny_models import scheme


def kernel(name: str, home: str = "gptqmodel.nn_modules.qlinear") -> nn.Module:
    module: nn.Module = type(name, (nn.Module,), {"__module__": home})()
    return module


def packed() -> nn.Module:
    """As compressed-tensors leaves a layer before its first call."""
    module = nn.Linear(8, 8)
    module.weight_packed = nn.Parameter(torch.zeros(8, 1, dtype=torch.int32), requires_grad=False)
    return module


class Model(nn.Module):
    base_model_prefix = "model"

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        self.model = nn.ModuleDict(modules)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (kernel("MarlinLinear"), "MarlinLinear"),
        (kernel("Linear4bit", "bitsandbytes.nn.modules"), "Linear4bit"),
        (packed(), "compressed-tensors Linear"),
    ],
)
def test_kernels_are_counted_under_the_names_of_the_checkpoint(module: nn.Module, name: str) -> None:
    modules = quantized_modules(Model(up=module, down=deepcopy(module)), ["model.up", "down"])  # a base model is saved without its prefix
    assert list(modules) == ["down", "model.up"]
    assert count_kernels(modules, device="cuda") == {name: 2}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"up": kernel("MarlinLinear"), "down": nn.Linear(4, 4)}, "model.down: 1 of 2 layers are not run from quantized weights"),
        ({"up": kernel("MarlinLinear")}, "the first as no module at all"),
    ],
)
def test_a_layer_that_no_quantized_module_runs_is_refused(modules: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError) as caught:
        quantized_modules(Model(**modules), ["model.up", "model.down"])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["TorchLinear", "AwqTorchLinear"])
def test_plain_torch_is_a_kernel_on_a_cpu_and_a_fault_on_a_gpu(name: str) -> None:
    modules = {"a": kernel(name), "b": kernel("MarlinLinear")}
    assert count_kernels(modules, device="cpu") == {"MarlinLinear": 1, name: 1}
    with pytest.raises(EngineError, match=f"runs 1 of 2 layers on plain torch \\({name}\\)"):
        count_kernels(modules, device="cuda")


def test_every_format_but_bitsandbytes_runs_in_modern() -> None:
    assert runtime_environment(scheme()) == "modern"
    assert runtime_environment(BitsandbytesScheme(method="bitsandbytes", type="nf4")) == "host"
