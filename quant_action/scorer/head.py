"""A language model's last layer, applied in chunks: from final hidden states to logits, and to scores that need them only in passing.

The logits of one window are the largest tensor of an evaluation (2,048 positions by 128,000 tokens are 1 GB in float32), and KL
divergence needs two such. So the vocabulary is walked through in chunks with a running maximum and running sums, as online softmax does
(Milakov and Gimelshein, arXiv 1805.02867): with b and q the logits of baseline and model,

    KL(P_b || P_q) = sum exp(b - m) (b - q) / sum exp(b - m) - logsumexp(b) + logsumexp(q).

Logits are float32 and everything summed over them is float64, so the chunks leave no trace in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from quant_action.errors import EngineError

POSITIONS, VOCABULARY = 1024, 4096
"""Size of a chunk: its logits take 32 MB in float64. Smaller ones cost more time than they save memory."""


@dataclass(frozen=True, kw_only=True)
class Head:
    weight: torch.Tensor
    """[vocabulary, hidden], in the compute dtype."""
    bias: torch.Tensor | None
    scale: float
    """Factor of the logits (Cohere, Granite)."""
    softcap: float | None
    """Logits are squeezed into (-softcap, softcap) by tanh (Gemma 2)."""

    @classmethod
    def of(cls, model: Any) -> Head:
        """The head of a transformers causal language model. Raises `EngineError` for one that is not a plain linear layer."""
        layer = model.get_output_embeddings()
        if type(layer) is not torch.nn.Linear or not layer.weight.is_floating_point():
            raise EngineError(
                f"the model's last layer is a {type(layer).__name__}, which the scorer does not know",
                remedy="Keep the last layer unquantized.",
            )
        config = model.config.get_text_config()
        return cls(
            weight=layer.weight.detach(),
            bias=None if layer.bias is None else layer.bias.detach(),
            scale=float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0),
            softcap=getattr(config, "final_logit_softcapping", None),
        )

    @property
    def vocabulary(self) -> int:
        return int(self.weight.shape[0])

    def logits(self, states: torch.Tensor, tokens: slice) -> torch.Tensor:
        """Logits, float32 [n, tokens], of hidden states [n, hidden] for a range of the vocabulary."""
        logits = states.float() @ self.weight[tokens].float().T
        if self.bias is not None:
            logits = logits + self.bias[tokens].float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def most_likely(self, states: torch.Tensor) -> torch.Tensor:
        """Argmax over the vocabulary, int64 [n], of hidden states [n, hidden]; among equals the lowest id."""
        running = _Softmax(states)
        for tokens in chunks(self.vocabulary, VOCABULARY):
            running.update(self.logits(states, tokens).double(), tokens.start)
        return running.best

    def save(self, path: Path) -> None:
        tensors = {"weight": self.weight.contiguous()} | ({} if self.bias is None else {"bias": self.bias.contiguous()})
        save_file(tensors, path, metadata={"scale": repr(self.scale), "softcap": "" if self.softcap is None else repr(self.softcap)})

    @classmethod
    def load(cls, path: Path, *, device: str) -> Head:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata()
            return cls(
                weight=file.get_tensor("weight"),
                bias=file.get_tensor("bias") if "bias" in file.keys() else None,  # noqa: SIM118 -- not a mapping
                scale=float(metadata["scale"]),
                softcap=float(metadata["softcap"]) if metadata["softcap"] else None,
            )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of n tokens, each a tensor [n]."""

    nll: torch.Tensor
    """Negative log-likelihood of the true token, nats, float64."""
    kl: torch.Tensor
    """KL(baseline || model), nats, float64; zeros without a baseline."""
    top1: torch.Tensor
    """Whether the model's most likely token is the baseline's, bool; true without a baseline."""


def score(head: Head, states: torch.Tensor, targets: torch.Tensor, *, baseline: tuple[Head, torch.Tensor] | None = None) -> Scores:
    """Score true next tokens `targets` [n] by hidden states [n, hidden], and compare with a baseline's head and hidden states [n, hidden].

    Raises `EngineError` when the two vocabularies differ in size.
    """
    if baseline and baseline[0].vocabulary != head.vocabulary:
        raise EngineError(
            f"the artifact has {head.vocabulary:,} tokens in its vocabulary and the baseline {baseline[0].vocabulary:,}",
            remedy="The engine must keep the vocabulary as it is.",
        )
    parts = []
    for positions in chunks(len(states), POSITIONS):
        against = (baseline[0], baseline[1][positions]) if baseline else None
        parts.append(_score_positions(head, states[positions], targets[positions], baseline=against))
    nll, kl, top1 = (torch.cat(column) for column in zip(*parts, strict=True))
    return Scores(nll=nll, kl=kl, top1=top1)


def _score_positions(
    head: Head, states: torch.Tensor, targets: torch.Tensor, *, baseline: tuple[Head, torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    softmax, base_softmax = _Softmax(states), _Softmax(states)
    of_target, weighted = torch.zeros(2, len(states), dtype=torch.float64, device=states.device)
    for tokens in chunks(head.vocabulary, VOCABULARY):
        logits = head.logits(states, tokens).double()
        softmax.update(logits, tokens.start)
        column = targets - tokens.start
        here = (column >= 0) & (column < logits.shape[1])
        of_target[here] = logits[here, column[here]]
        if baseline:
            base_head, base_states = baseline
            base_logits = base_head.logits(base_states, tokens).double()
            weights, shrink = base_softmax.update(base_logits, tokens.start)
            weighted = weighted * shrink + (weights * (base_logits - logits)).sum(dim=1)
    nll = softmax.logsumexp - of_target
    if not baseline:
        return nll, torch.zeros_like(nll), torch.ones_like(nll, dtype=torch.bool)
    kl = weighted / base_softmax.sum - base_softmax.logsumexp + softmax.logsumexp
    return nll, kl, softmax.best == base_softmax.best


class _Softmax:
    """Argmax, maximum and normalizer over chunks of the vocabulary, one of each per row of `like` [n, ...]."""

    def __init__(self, like: torch.Tensor) -> None:
        self.maximum = torch.full((len(like),), -torch.inf, dtype=torch.float64, device=like.device)
        self.sum = torch.zeros_like(self.maximum)
        """Of exp(logit - maximum)."""
        self.best = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        """Most likely token; among equals the lowest id."""

    def update(self, logits: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in the logits [n, tokens], float64, of the tokens from `start` on.

        Returns exp(logits - maximum), and the factor by which the risen maximum shrinks earlier sums.
        """
        highest, token = logits.max(dim=1)
        self.best = torch.where(highest > self.maximum, token + start, self.best)
        maximum = torch.maximum(self.maximum, highest)
        shrink = torch.exp(self.maximum - maximum)
        weights = torch.exp(logits - maximum[:, None])
        self.maximum, self.sum = maximum, self.sum * shrink + weights.sum(dim=1)
        return weights, shrink

    @property
    def logsumexp(self) -> torch.Tensor:
        return self.maximum + torch.log(self.sum)


def chunks(total: int, size: int) -> list[slice]:
    """Consecutive slices that cover `range(total)`."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
