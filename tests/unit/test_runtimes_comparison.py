"""What counts as rounding, and what as another model: at the level of one layer, where a single wrong code must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.errors import EngineError
from quant_action.records import LogitDifference
from quant_action.runtimes.comparison import UNIT, beyond_rounding, finite_logits, layer_error, logit_difference, rounding_at_random
from quant_action.runtimes.worker import refuse_layers

from .tiny_models import random_model

IN, OUT, GROUP, TOKENS = 512, 256, 64, 256


def stored(*, symmetric: bool = False, seed: int = 0) -> QuantizedLinear:
    """Round to nearest, 4 bits, of a random weight."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUT, IN // GROUP, GROUP, generator=random) * 0.05
    if symmetric:
        scales, zeros = weight.abs().amax(-1) / 7.5, torch.full(weight.shape[:2], 8.0)
    else:
        scales = (weight.amax(-1) - weight.amin(-1)) / 15
        zeros = (-weight.amin(-1) / scales).round()
    codes = ((weight / scales[..., None]).round() + zeros[..., None]).clamp(0, 15).reshape(OUT, IN)
    groups = torch.arange(IN, dtype=torch.int32) // GROUP
    return QuantizedLinear(codes=codes.to(torch.uint8), scales=scales.half(), zeros=zeros.to(torch.uint8), groups=groups)


def activations() -> torch.Tensor:
    """With one channel a hundred times larger than the rest, as language models have them."""
    x = torch.randn(2, TOKENS // 2, IN, generator=torch.Generator().manual_seed(7))
    x[..., 11] *= 100
    return x.bfloat16()


def dequantized(linear: QuantizedLinear, x: torch.Tensor) -> torch.Tensor:
    return x @ linear.dequantize(torch.bfloat16).T


def offset_in_bfloat16(linear: QuantizedLinear, x: torch.Tensor) -> torch.Tensor:
    """As ATen's int4 kernel has it: scale * code and scale * zero are rounded apart."""
    group = linear.groups.long()
    scales, offset = linear.scales.bfloat16(), (linear.scales.float() * (8 - linear.zeros.float())).bfloat16()
    weight = (linear.codes.bfloat16() - 8) * scales[:, group] + offset[:, group]
    return x @ weight.T


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kernel", [dequantized, offset_in_bfloat16])
def test_kernels_that_round_elsewhere_are_well_within_the_limits(
    kernel: Callable[[QuantizedLinear, torch.Tensor], torch.Tensor], symmetric: bool
) -> None:
    linear, x = stored(symmetric=symmetric), activations()
    error = layer_error(x, kernel(linear, x), linear, None)
    assert 0.05 < error.layer < 0.6
    assert error.share < 0.7


def test_the_bias_belongs_to_the_output() -> None:
    linear, x, bias = stored(), activations(), torch.randn(OUT)
    assert layer_error(x, dequantized(linear, x) + bias.bfloat16(), linear, bias).share < 0.7
    assert layer_error(x, dequantized(linear, x) + bias.bfloat16(), linear, None).share > 1


def one_column_of_codes(linear: QuantizedLinear) -> QuantizedLinear:
    codes = linear.codes.clone()
    codes[:, 100] ^= 1
    return replace(linear, codes=codes)


def eighth_of_one_output(linear: QuantizedLinear) -> QuantizedLinear:
    codes = linear.codes.clone()
    codes[5, ::8] ^= 1
    return replace(linear, codes=codes)


def one_zero_point(linear: QuantizedLinear) -> QuantizedLinear:
    zeros = linear.zeros.clone()
    zeros[3, 2] += 1
    return replace(linear, zeros=zeros)


def every_zero_point(linear: QuantizedLinear) -> QuantizedLinear:
    return replace(linear, zeros=linear.zeros + 1)


def scales_of_another_layer(linear: QuantizedLinear) -> QuantizedLinear:
    return replace(linear, scales=stored(seed=1).scales)


def groups_in_another_order(linear: QuantizedLinear) -> QuantizedLinear:
    return replace(linear, groups=linear.groups.flip(0))


@pytest.mark.parametrize(
    "defect",
    [one_column_of_codes, eighth_of_one_output, one_zero_point, every_zero_point, scales_of_another_layer, groups_in_another_order],
)
def test_a_layer_with_other_weights_than_were_scored_is_caught(defect: Callable[[QuantizedLinear], QuantizedLinear]) -> None:
    linear, x = stored(), activations()
    x[..., 11] /= 100
    error = layer_error(x, dequantized(defect(linear), x), linear, None)
    assert error.share > 1.3
    with pytest.raises(EngineError, match="1 of 2 quantized layers with other weights") as caught:
        refuse_layers({"model.layers.0.up": layer_error(x, dequantized(linear, x), linear, None), "model.layers.1.up": error})
    assert caught.value.where == "model.layers.1.up"


def test_outputs_that_are_no_numbers_are_refused() -> None:
    linear, x = stored(), activations()
    outputs = dequantized(linear, x)
    outputs[0, 0, 0] = float("nan")
    with pytest.raises(EngineError):
        refuse_layers({"model.layers.0.up": layer_error(x, outputs, linear, None)})


def test_logit_difference_of_known_values() -> None:
    reference = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])
    logits = reference + torch.tensor([[[0.5, 0.0], [0.0, 0.0]]])
    ids = torch.tensor([[0, 1]])
    p = torch.tensor([1.0, 3.0]).softmax(0)
    q = torch.tensor([1.5, 3.0]).softmax(0)
    found = logit_difference(logits, reference, ids=ids, scored=torch.tensor([[1.0]]))
    spread = float(reference.std())
    assert found.largest == pytest.approx(0.5 / spread)
    assert found.rms == pytest.approx(0.25 / spread)
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()) / 2, rel=1e-5)
    assert found.nll == pytest.approx(abs(-float(q[1].log()) - 1.0), rel=1e-5)


def difference(**changes: float) -> LogitDifference:
    return LogitDifference(**({"largest": 0.1, "rms": 0.01, "kl": 1e-4, "nll": 0.02} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"largest": 0.19, "rms": 0.019, "kl": 3.9e-4, "nll": 0.039}, None),
        ({"nll": 0.05}, "log-likelihoods differ from those that were scored by 0.05 nats, and rounding explains 0.04"),
        ({"rms": 0.03}, "logits differ by 0.03 of their spread, and rounding explains 0.02"),
        ({"largest": 0.3}, "one logit differs by 0.3 of their spread, and rounding explains 0.2"),
        ({"kl": 5e-4}, "KL divergence is 0.0005 nats, and rounding explains 0.0004"),
    ],
)
def test_twice_what_rounding_does_is_rounding_and_more_is_not(changes: dict[str, float], message: str | None) -> None:
    assert beyond_rounding(difference(**changes), difference()) == message


def test_rounding_at_random_is_more_than_bfloat16_really_does_and_the_same_each_time() -> None:
    model, ids = random_model("llama"), torch.arange(64)[None]
    with torch.inference_mode():
        exact = finite_logits(model, ids, who="it")
        with rounding_at_random(model):
            rounded = finite_logits(model, ids, who="it")
        with rounding_at_random(model):
            assert torch.equal(finite_logits(model, ids, who="it"), rounded)
        assert torch.equal(finite_logits(model, ids, who="it"), exact)  # and nothing of it stays
        really = finite_logits(model.bfloat16(), ids, who="it")
    off, measured = float((really - exact).square().mean().sqrt()), float((rounded - exact).square().mean().sqrt())
    assert off < 2 * measured  # so that honest runtimes pass
    assert measured < 6 * off  # and it is no carte blanche
    assert UNIT == 1 / 256


def test_a_model_that_overflows_is_named() -> None:
    model = random_model("llama")
    model.lm_head.weight.fill_(float("inf"))
    with pytest.raises(EngineError, match="the runtime gives numbers that are not finite in float32"):
        finite_logits(model, torch.arange(4)[None], who="the runtime")
