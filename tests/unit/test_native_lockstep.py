"""The suspended forward passes: what each site is shown, in which order, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant_action.engines.native.lockstep import Inputs, run_in_lockstep
from quant_action.engines.native.structure import Call, Site
from quant_action.errors import EngineError

NOTHING = Call(args=(), kwargs={})


class Layer(nn.Module):
    """Two linears on the input, one on what they give."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.last = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.last(torch.tanh(self.left(hidden)) * self.right(hidden))


SITES = (Site(linears=("left", "right")), Site(linears=("last",)))


def chunks() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 5, 6, generator=generator) for _ in range(3)]


@torch.no_grad()
def test_each_site_sees_all_chunks_through_the_weights_that_stand_before_it() -> None:
    layer, seen = Layer(), []

    def halve(site: Site, inputs: Inputs) -> None:
        seen.append((site, inputs))
        for name in site.linears:
            layer.get_submodule(name).weight.mul_(0.5)

    outputs = run_in_lockstep(layer, chunks(), NOTHING, SITES, halve)

    halved = Layer()
    for linear in (halved.left, halved.right, halved.last):
        linear.weight.mul_(0.5)
    x = torch.cat(chunks()).flatten(0, 1)
    inner = torch.tanh(halved.left(x)) * halved.right(x)
    assert [site for site, _ in seen] == list(SITES)
    for (_, inputs), expected in zip(seen, (x, inner), strict=True):
        torch.testing.assert_close(inputs.gram, expected.T @ expected / len(expected))
        torch.testing.assert_close(inputs.mean_magnitude, expected.abs().mean(0))
    for output, hidden in zip(outputs, chunks(), strict=True):
        torch.testing.assert_close(output, halved(hidden))


@torch.no_grad()
def test_hooks_are_gone_afterwards() -> None:
    layer = Layer()
    run_in_lockstep(layer, chunks(), NOTHING, SITES, lambda site, inputs: None)
    assert all(not module._forward_pre_hooks for module in layer.modules())


@torch.no_grad()
def test_a_linear_that_reads_something_else_than_its_site_is_refused() -> None:
    wrong = (Site(linears=("left", "right", "last")),)
    with pytest.raises(EngineError, match="does not read the same input") as caught:
        run_in_lockstep(Layer(), chunks(), NOTHING, wrong, lambda site, inputs: None)
    assert caught.value.where == "last"


@torch.no_grad()
def test_sites_in_another_order_are_refused() -> None:
    with pytest.raises(EngineError, match="not reached in the same order"):
        run_in_lockstep(Layer(), chunks(), NOTHING, SITES[::-1], lambda site, inputs: None)


@torch.no_grad()
def test_an_error_inside_the_layer_comes_out_as_it_is() -> None:
    class Broken(Layer):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            super().forward(hidden)
            raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        run_in_lockstep(Broken(), chunks(), NOTHING, SITES, lambda site, inputs: None)


@torch.no_grad()
def test_inputs_that_are_not_finite_name_the_site() -> None:
    broken = chunks()
    broken[1][0, 0, 0] = float("nan")
    with pytest.raises(EngineError, match="not finite") as caught:
        run_in_lockstep(Layer(), broken, NOTHING, SITES, lambda site, inputs: None)
    assert caught.value.where == "left"
