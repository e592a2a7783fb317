"""Teacher-forced scoring of text, protocol `quant-action-1`.

All rows, chat messages through the chat template, are joined by an empty line and tokenized once by the base model's tokenizer, with
its start token first if it adds one. Windows of `window` tokens do not overlap, and the tail that fills none is dropped. Every position
but the first of a window is scored, given what stands before it in the window. Batches are the same for every model (`batching.py`).
This is the convention of the GPTQ and AWQ papers; llama.cpp's, which scores the second half of each window only, gives other numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from quant_action.data import check_rows, read_rows
from quant_action.errors import DataError, EngineError
from quant_action.scorer.head import Scores, score
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder
from quant_action.scorer.states import HEAD, load_head, load_states, save_states
from quant_action.values import Windows

SEPARATOR = "\n\n"

LEAST_WINDOWS = 2
"""One window says nothing of how much windows differ, so no interval could be given."""


def text_windows(data: Path, encoder: Encoder, *, window: int) -> torch.Tensor:
    """The ids of every window of a text file, int64 [windows, window]. Raises `DataError` when they are too few."""
    rows = read_rows(data)
    check_rows(rows, "text")
    ids = encoder.encode(SEPARATOR.join(encoder.text(row) for row in rows), where=str(data))
    count = len(ids) // window
    if count < LEAST_WINDOWS:
        raise DataError(
            f"has {len(ids):,} tokens; {LEAST_WINDOWS} windows of {window:,} need {LEAST_WINDOWS * window:,}",
            where=str(data),
            remedy="Give more text or a shorter evaluation.text.window; 20 windows or more make useful intervals.",
        )
    return torch.tensor(ids[: count * window]).view(count, window)


def score_text(
    model: ScoredModel, windows: torch.Tensor, *, baseline: Path | None, states: Path | None, progress: Callable[[str, int, int], None]
) -> Windows:
    """Score windows [windows, window] in one pass of the model over each.

    With `baseline`, a folder of hidden states, compare with it; with `states`, leave hidden states there, for candidates to compare with.
    Raises `EngineError` naming the first window that gives a number that is not finite.
    """
    if states:
        states.mkdir(parents=True, exist_ok=True)
        model.head.save(states / HEAD)
    base_head = load_head(baseline, device=model.device) if baseline else None
    parts: dict[int, Scores] = {}
    done = 0
    for batch, indices in enumerate(model.batching.in_order(*windows.shape)):
        first = indices.start
        ids = windows[first : indices.stop].to(model.device)
        hidden = model.states(ids)[:, :-1]
        _require_finite(hidden, first, "hidden states")
        against = (base_head, load_states(baseline, first, ids=ids).flatten(0, 1)) if baseline and base_head else None
        scores = score(model.head, hidden.flatten(0, 1), ids[:, 1:].flatten(), baseline=against)
        _require_finite(scores.nll.view(len(ids), -1), first, "log-likelihoods")
        _require_finite(scores.kl.view(len(ids), -1), first, "KL divergences")
        if states:
            save_states(states, batch, ids=ids, hidden=hidden)
        parts[first] = scores
        done += len(indices)
        progress("score text", done, len(windows))

    def column(name: str) -> np.ndarray:
        array: np.ndarray = torch.cat([getattr(parts[first], name) for first in sorted(parts)]).view(len(windows), -1).cpu().numpy()
        return array

    return Windows(nll=column("nll"), kl=column("kl"), top1=column("top1"))


def _require_finite(values: torch.Tensor, first: int, what: str) -> None:
    """Raise `EngineError` for the first window of a batch [windows, ...] whose values are not all finite."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    if not finite.all():
        window = first + int(finite.int().argmin())
        raise EngineError(f"the {what} of window {window + 1} are not finite", remedy="The weights are broken; look at the engine's log.")
