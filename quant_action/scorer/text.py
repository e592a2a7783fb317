"""Teacher-forced scoring of text, protocol `ppl-v1`.

The rows of a file, chat messages through the chat template, are joined by an empty line and tokenized once by the base model's tokenizer,
with its start token first if it adds one; where rows name a slice, those of each slice are joined by themselves. Windows of `window` tokens
do not overlap, and the tail that fills none is dropped. Every position but the first of a window is scored, given what stands before it in
the window. Batches are the same for every model
(`batching.py`). This is the convention of the GPTQ and AWQ papers; llama.cpp's, which scores the second
half of each window only, gives other numbers.

Long documents stand each by itself: of its first `tokens` tokens the last tenth is scored, given all before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quant_action.data import Row, check_rows, read_rows, slice_of
from quant_action.errors import DataError, EngineError
from quant_action.records import LongTextProtocol
from quant_action.scorer.head import Scores, score
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder
from quant_action.scorer.states import HEAD, Kind, load_head, load_states, save_states
from quant_action.values import Windows

SEPARATOR = "\n\n"

LEAST_WINDOWS = 2
"""One window says nothing of how much windows differ, so no interval could be given."""

STEP: dict[Kind, str] = {"window": "score text", "document": "score long text"}


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Token sequences of one length whose ends are scored: windows of text, or long documents."""

    kind: Kind
    ids: torch.Tensor
    """int64 [passages, length]."""
    scored: int
    """How many tokens at the end of each; fewer than `length`."""
    bytes: np.ndarray
    """UTF-8 bytes of the text of the scored tokens, int64 [passages]."""
    slices: tuple[str, ...]
    """One name each, empty without a slice."""


def text_windows(data: Path, encoder: Encoder, *, window: int) -> Passages:
    """The windows of a text file, slice by slice. Raises `DataError` when they are too few, in all or of a slice."""
    rows = read_rows(data)
    check_rows(rows, "text")
    by_slice: dict[str, list[Row]] = {}
    for row in rows:
        by_slice.setdefault(slice_of(row), []).append(row)
    parts = [_windows_of(name, of_slice, encoder, data, window=window) for name, of_slice in by_slice.items()]
    return Passages(
        kind="window",
        ids=torch.cat([part.ids for part in parts]),
        scored=window - 1,
        bytes=np.concatenate([part.bytes for part in parts]),
        slices=tuple(name for part in parts for name in part.slices),
    )


def _windows_of(slice: str, rows: list[Row], encoder: Encoder, data: Path, *, window: int) -> Passages:
    text = encoder.encode_measured(SEPARATOR.join(encoder.text(row) for row in rows), where=str(data))
    count = len(text.ids) // window
    if count < LEAST_WINDOWS:
        raise DataError(
            f"has {len(text.ids):,} tokens{f' of slice {slice}' if slice else ''}; "
            f"{LEAST_WINDOWS} windows of {window:,} need {LEAST_WINDOWS * window:,}",
            where=str(data),
            remedy="Give more text or a shorter evaluation.text.window; 20 windows or more make useful intervals.",
        )
    starts = range(0, count * window, window)
    return Passages(
        kind="window",
        ids=torch.tensor(text.ids[: count * window]).view(count, window),
        scored=window - 1,
        bytes=np.array([encoder.bytes_between(text, start + 1, start + window) for start in starts], dtype=np.int64),
        slices=(slice,) * count,
    )


def long_documents(data: Path, encoder: Encoder, asked: LongTextProtocol) -> Passages:
    """The beginnings of long documents. Raises `DataError` for a row that is shorter, and for fewer than two rows."""
    rows = read_rows(data)
    check_rows(rows, "text")
    texts = [encoder.encode_measured(encoder.text(row), where=row.where) for row in rows]
    short = [row for row, text in zip(rows, texts, strict=True) if len(text.ids) < asked.tokens]
    if short:
        raise DataError(
            f"is shorter than the {asked.tokens:,} tokens that evaluation.long_text asks for; "
            f"{len(rows) - len(short)} of {len(rows)} rows are long enough",
            where=short[0].where,
            remedy="Take the shorter rows out, or ask for fewer tokens.",
        )
    if len(rows) < LEAST_WINDOWS:
        raise DataError(
            "has one document, which says nothing of how much documents differ",
            where=str(data),
            remedy="Give more long documents; 20 or more make useful intervals.",
        )
    first = asked.tokens - asked.scored
    return Passages(
        kind="document",
        ids=torch.tensor([text.ids[: asked.tokens] for text in texts]),
        scored=asked.scored,
        bytes=np.array([encoder.bytes_between(text, first, asked.tokens) for text in texts], dtype=np.int64),
        slices=tuple(slice_of(row) for row in rows),
    )


def score_text(
    model: ScoredModel, passages: Passages, *, baseline: Path | None, states: Path | None, progress: Callable[[str, int, int], None]
) -> Windows:
    """Score passages in one pass of the model over each; logits are computed for the positions that score, and a chunk at a time.

    With `baseline`, a folder of hidden states, compare with it; with `states`, leave hidden states there, for candidates to compare with.
    Raises `EngineError` naming the first passage that gives a number that is not finite.
    """
    if states:
        states.mkdir(parents=True, exist_ok=True)
        model.head.save(states / HEAD)
    kind, total, scored = passages.kind, len(passages.ids), passages.scored
    base_head = load_head(baseline, device=model.device) if baseline else None
    parts: dict[int, Scores] = {}
    done = 0
    for batch, indices in enumerate(model.batching.in_order(*passages.ids.shape)):
        first = indices.start
        ids = passages.ids[first : indices.stop].to(model.device)
        hidden = model.states(ids)[:, -scored - 1 : -1].clone()  # the rest of a long document's states goes
        _require_finite(hidden, first, kind, "hidden states")
        against = (base_head, load_states(baseline, kind, first, ids=ids).flatten(0, 1)) if baseline and base_head else None
        scores = score(model.head, hidden.flatten(0, 1), ids[:, -scored:].flatten(), baseline=against)
        _require_finite(scores.nll.view(len(ids), -1), first, kind, "log-likelihoods")
        _require_finite(scores.kl.view(len(ids), -1), first, kind, "KL divergences")
        if states:
            save_states(states, kind, batch, ids=ids, hidden=hidden)
        parts[first] = scores
        done += len(indices)
        progress(STEP[kind], done, total)

    def column(name: str) -> np.ndarray:
        array: np.ndarray = torch.cat([getattr(parts[first], name) for first in sorted(parts)]).view(total, -1).cpu().numpy()
        return array

    return Windows(nll=column("nll"), kl=column("kl"), top1=column("top1"), bytes=passages.bytes, slices=passages.slices)


def _require_finite(values: torch.Tensor, first: int, kind: Kind, what: str) -> None:
    """Raise `EngineError` for the first passage of a batch [passages, ...] whose values are not all finite."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    if not finite.all():
        passage = first + int(finite.int().argmin())
        raise EngineError(f"the {what} of {kind} {passage + 1} are not finite", remedy="The weights are broken; look at the engine's log.")
