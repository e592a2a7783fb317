"""Multiple choice by log-likelihood: the model's answer is the choice that it finds most likely after the prompt.

As evaluation harnesses do it, prompt and choice are tokenized together, and white space at the end of the prompt counts to the choice,
since most tokenizers put a space at the start of a word. The score is the sum of log-likelihoods of the choice's tokens, not divided by
its length. Where a tokenizer merges across the border, all choices are scored from the first token on that one of them does not share
with the prompt, so that they stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from quant_action.data import Row, item_id
from quant_action.errors import DataError, EngineError
from quant_action.records import Samples, TaskProtocol
from quant_action.scorer.head import score
from quant_action.scorer.items import item_values
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder


@dataclass(frozen=True, kw_only=True)
class Continuation:
    ids: tuple[int, ...]
    """Prompt and choice."""
    start: int
    """Index of the first token that is scored, at least 1."""


def score_choice(
    model: ScoredModel,
    encoder: Encoder,
    task: TaskProtocol,
    rows: list[Row],
    *,
    samples: Samples,
    progress: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """One value per item (`values.py`); `scores` are in nats, in the order of the choices.

    Raises `DataError` for an item longer than the context, `EngineError` for a score that is not finite.
    """
    asked = [continuations(row, encoder) for row in rows]
    for row, choices in zip(rows, asked, strict=True):
        model.fits(max(len(choice.ids) for choice in choices), what="an item", where=row.where)
    scores = iter(log_likelihoods(model, [choice for choices in asked for choice in choices], step=f"task {task.id}", progress=progress))
    items = []
    for row, choices in zip(rows, asked, strict=True):
        of_item = [next(scores) for _ in choices]
        if not torch.isfinite(torch.tensor(of_item)).all():
            raise EngineError(f"the scores of item {item_id(row)!r} of task {task.id} are not finite", where=row.where)
        answer = of_item.index(max(of_item))
        items.append(
            item_values(
                task,
                row,
                correct=answer == row.value["answer"],
                facts={"answer": answer},
                wording={"scores": of_item},
                prompt=encoder.prompt(row),
                expected=row.value["choices"][row.value["answer"]],
                answered=row.value["choices"][answer],
                samples=samples,
            )
        )
    return items


def continuations(row: Row, encoder: Encoder) -> list[Continuation]:
    """The row's choices, each after the prompt. Raises `DataError` when nothing stands before them."""
    whole = encoder.prompt(row)
    prompt = whole.rstrip()
    space = whole[len(prompt) :]
    before = encoder.encode(prompt, where=row.where)
    sequences = [encoder.encode(prompt + space + choice, where=row.where) for choice in row.value["choices"]]
    start = min(min(_common_prefix(before, ids), len(ids) - 1) for ids in sequences)
    if start < 1:
        raise DataError("the prompt is empty, and the tokenizer has no start token to stand in for it", where=row.where)
    return [Continuation(ids=tuple(ids), start=start) for ids in sequences]


def log_likelihoods(
    model: ScoredModel, sequences: list[Continuation], *, step: str, progress: Callable[[str, int, int], None]
) -> list[float]:
    """Sum of the log-likelihoods, nats, of each sequence's tokens from `start` on, in batches of like length, padded on the right."""
    totals = [0.0] * len(sequences)
    done = 0
    for batch in model.batching.by_length([len(sequence.ids) for sequence in sequences]):
        width = len(sequences[batch[0]].ids)
        ids, mask = torch.zeros(2, len(batch), width, dtype=torch.int64)
        scored = torch.zeros(len(batch), width - 1, dtype=torch.bool)
        for line, index in enumerate(batch):
            sequence = sequences[index]
            ids[line, : len(sequence.ids)] = torch.tensor(sequence.ids)
            mask[line, : len(sequence.ids)] = 1
            scored[line, sequence.start - 1 : len(sequence.ids) - 1] = True
        ids, mask, scored = ids.to(model.device), mask.to(model.device), scored.to(model.device)
        states = model.states(ids, mask)[:, :-1]
        nll = score(model.head, states[scored], ids[:, 1:][scored]).nll
        table = torch.zeros(scored.shape, dtype=torch.float64, device=model.device)
        table[scored] = -nll
        for index, total in zip(batch, table.sum(dim=1).tolist(), strict=True):
            totals[index] = total
        done += len(batch)
        progress(step, done, len(sequences))
    return totals


def _common_prefix(left: list[int], right: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
