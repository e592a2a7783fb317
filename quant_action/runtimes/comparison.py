"""How far two computations of the same model lie apart, and how far rounding alone may carry them.

A kernel adds in another order and rounds in other places than ours, in 16-bit numbers. The yardstick is the unit roundoff of bfloat16,
u = 2**-8, also for a float16 model, since some kernels compute in bfloat16 inside (ATen's int4 does).

Layer by layer, given the same inputs x, an output y = sum w x carries the rounding of each weight w = scale * code - offset, of each
group's offset, and of y itself: errors of at most u |w x|, u |offset| |sum of the group's x| and u |y|. They are independent, so of the
order u s with s**2 = sum (w x)**2 + sum over groups (offset sum x)**2 + y**2. An error is therefore told in units of u s.

Over the whole model no such formula holds: depth and normalisation amplify errors in a way of each model's own. So it is measured:
every module's output is multiplied by 1 + u or 1 - u at random, in our own loader, and what that does to the logits is what rounding may do
(Monte Carlo arithmetic: Parker, Pierce and Eggert, Computing in Science and Engineering 2, 2000, pages 58-68).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from quant_action.checkpoints.interface import QuantizedLinear
from quant_action.errors import EngineError
from quant_action.records import LogitDifference

UNIT = 2.0**-8
"""Unit roundoff of bfloat16."""

LAYER_LIMIT, CHANNEL_LIMIT = 1.0, 6.0
"""Units of u s that the outputs of a layer, and those of its worst channel, may be off, root mean square; 1 is every error at its bound.
GPTQModel's kernels are at 0.3 in every layer of a 135M and of a 0.7M model, and at 2.2 in the worst of 200,000 channels, one that lives on
a single huge activation."""

MODEL_LIMIT = 2.0
"""Times the measured effect of rounding that logits may be off, KL divergence by the square of that. Honest runtimes are at 0.5."""


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """Both in units of u s."""

    layer: float
    channel: float

    @property
    def share(self) -> float:
        """Of the limit that it comes nearest to."""
        return max(self.layer / LAYER_LIMIT, self.channel / CHANNEL_LIMIT)


def layer_error(inputs: torch.Tensor, outputs: torch.Tensor, linear: QuantizedLinear, bias: torch.Tensor | None) -> LayerError:
    """Of a linear layer's `outputs` [..., out] for `inputs` [..., in]."""
    x, y, weight = inputs.flatten(0, -2).float(), outputs.flatten(0, -2).float(), linear.dequantize()
    exact = x @ weight.T
    sums = torch.zeros(len(x), linear.scales.shape[1], device=x.device).index_add_(1, linear.groups.long(), x)
    offset = linear.zeros.float() * linear.scales.float()
    spread = exact.square() + x.square() @ weight.square().T + sums.square() @ offset.square().T
    if bias is not None:
        exact = exact + bias.float()
        spread = spread + bias.float().square()
    error = (y - exact).square() / spread.clamp_min(torch.finfo(torch.float32).tiny)
    return LayerError(layer=float(error.mean().sqrt() / UNIT), channel=float(error.mean(0).max().sqrt() / UNIT))


def logit_difference(logits: torch.Tensor, reference: torch.Tensor, *, ids: torch.Tensor, scored: torch.Tensor) -> LogitDifference:
    """Of float32 logits [windows, tokens, vocabulary]; `scored` [windows, tokens - 1] is what scoring recorded for the tokens of `ids`."""
    difference, spread = logits - reference, reference.std()
    of_reference, of_logits = reference.log_softmax(-1), logits.log_softmax(-1)
    kl = (of_reference.exp() * (of_reference - of_logits)).sum(-1).mean()
    return LogitDifference(
        largest=float(difference.abs().max() / spread),
        rms=float(difference.square().mean().sqrt() / spread),
        kl=max(0.0, float(kl)),
        nll=float((true_nll(logits, ids) - scored).square().mean().sqrt()),
    )


def beyond_rounding(found: LogitDifference, rounding: LogitDifference) -> str | None:
    """In words, what is further off than rounding explains; None where nothing is."""
    checks = (
        ("log-likelihoods differ from those that were scored by", found.nll, MODEL_LIMIT * rounding.nll, " nats"),
        ("logits differ by", found.rms, MODEL_LIMIT * rounding.rms, " of their spread"),
        ("one logit differs by", found.largest, MODEL_LIMIT * rounding.largest, " of their spread"),
        ("KL divergence is", found.kl, MODEL_LIMIT**2 * rounding.kl, " nats"),
    )
    return next((f"{what} {off:.3g}{unit}, and rounding explains {limit:.3g}" for what, off, limit, unit in checks if off > limit), None)


def true_nll(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood [windows, tokens - 1] of every next token of `ids`."""
    return -logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def finite_logits(model: Any, ids: torch.Tensor, *, who: str) -> torch.Tensor:
    """Logits, float32 on the CPU, of ids [windows, tokens]. Raises `EngineError` for NaN and infinity."""
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float().cpu()
    if not bool(torch.isfinite(logits).all()):
        raise EngineError(
            f"{who} gives numbers that are not finite in {str(model.dtype).removeprefix('torch.')}",
            remedy="The model overflows in this type: another kernel or another type of the activations may hold it.",
        )
    return logits


@contextmanager
def rounding_at_random(model: Any, *, seed: int = 0) -> Iterator[None]:
    """Within it every module without children gives its output times 1 + u or 1 - u."""
    generator = torch.Generator().manual_seed(seed)

    def disturb(module: Any, inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return output
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output.device) * 2 - 1
        return (output.float() * (1 + UNIT * signs)).to(output.dtype)

    hooks = [module.register_forward_hook(disturb) for module in model.modules() if not list(module.children())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
