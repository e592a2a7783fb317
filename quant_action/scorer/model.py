"""A causal language model taken apart for scoring: the decoder, which gives hidden states, and the head, which turns them into logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant_action.checkpoints.load import load_model
from quant_action.errors import DataError, EngineError
from quant_action.scorer.batching import Batching
from quant_action.scorer.head import Head

HEAD_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Share of the largest logit by which the model's own logits, which it rounds to the compute dtype, may differ from the head's."""


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    decoder: Any
    head: Head
    device: str
    context: int
    """Positions that the model was made for."""
    end_tokens: frozenset[int]
    """Tokens that end an answer."""
    attention: str
    """Its implementation in transformers."""
    batching: Batching

    @classmethod
    def load(cls, folder: Path, *, device: str, dtype: torch.dtype, batch_tokens: int, tokenizer: Any) -> ScoredModel:
        """Load the model in `folder`; `device` is `cpu` or `cuda`, `dtype` what it computes in.

        Raises `EngineError` when it gives numbers that are not finite, or when its logits are not what its head gives.
        """
        model: Any = load_model(folder, device=device, dtype=dtype)
        model.eval()
        return cls.of(model, device=device, batch_tokens=batch_tokens, tokenizer=tokenizer)

    @classmethod
    def of(cls, model: Any, *, device: str, batch_tokens: int, tokenizer: Any) -> ScoredModel:
        config = model.config.get_text_config()
        model.requires_grad_(False)
        ends = (tokenizer.eos_token_id, model.generation_config.eos_token_id)
        scored = cls(
            decoder=model.get_decoder(),
            head=Head.of(model),
            device=device,
            context=int(getattr(config, "max_position_embeddings", None) or torch.iinfo(torch.int64).max),
            end_tokens=frozenset(token for end in ends for token in _as_list(end)),
            attention=str(getattr(config, "_attn_implementation", None)),
            batching=Batching(tokens=batch_tokens),
        )
        scored._check_head(model)
        return scored

    def states(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Final hidden states [batch, length, hidden], as the head gets them, of token ids [batch, length]; `mask` is 0 at padding."""
        states: torch.Tensor = self.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return states

    def fits(self, length: int, *, what: str, where: str) -> None:
        """Raise `DataError` when a text of `length` tokens is longer than the model's context."""
        if length > self.context:
            raise DataError(f"{what} of {length:,} tokens is longer than the model's context of {self.context:,}", where=where)

    def some_tokens(self) -> torch.Tensor:
        """Ids [1, length] of no text in particular, where none is scored."""
        return torch.arange(min(64, self.head.vocabulary, self.context), device="cpu")[None]

    def _check_head(self, model: Any) -> None:
        """Compare with the model's own logits at one position, so that a head of a kind not known here is refused, not misread."""
        ids = torch.arange(min(8, self.head.vocabulary), device=self.device)[None]
        with torch.inference_mode():
            states = self.states(ids)[0, -1:]
            theirs = model(input_ids=ids, use_cache=False).logits[0, -1].double()
            ours = self.head.logits(states, slice(None))[0].double()
        if not (torch.isfinite(states).all() and torch.isfinite(theirs).all()):
            raise EngineError("the model gives numbers that are not finite", remedy="Its weights are broken; look at the engine's log.")
        tolerance = HEAD_TOLERANCE[self.head.weight.dtype] * float(theirs.abs().max())
        if theirs.shape != ours.shape or float((ours - theirs).abs().max()) > tolerance:
            raise EngineError("the model's logits are not its last layer applied to its hidden states, so the scorer cannot read it")


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
