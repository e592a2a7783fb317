"""Short answers by greedy decoding, right when they match the expected one exactly.

The answer is what the model writes until it ends, a line ends or `max_tokens` are spent: leading white space is dropped, the first line is
kept, and both answers are stripped before they are compared. The most likely token is taken from float32 logits, whatever the generation
settings that came with the model say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from quant_action.data import Row, item_id
from quant_action.errors import DataError, EngineError
from quant_action.records import TaskProtocol
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder


def score_generate(
    model: ScoredModel, encoder: Encoder, task: TaskProtocol, rows: list[Row], *, progress: Callable[[str, int, int], None]
) -> list[dict[str, Any]]:
    """One value per item, `{"task", "item", "correct", "output"}`.

    Raises `DataError` for an item without a prompt or longer than the context, `EngineError` for hidden states that are not finite.
    """
    prompts = [encoder.encode(encoder.prompt(row), where=row.where) for row in rows]
    for row, prompt in zip(rows, prompts, strict=True):
        if not prompt:
            raise DataError("the prompt is empty, and the tokenizer has no start token to stand in for it", where=row.where)
        model.fits(len(prompt) + task.max_tokens, what="an item with its answer", where=row.where)
    outputs: dict[int, str] = {}
    for batch in model.batching.by_length([len(prompt) + task.max_tokens for prompt in prompts]):
        written = greedy(
            model,
            [prompts[index] for index in batch],
            max_tokens=task.max_tokens,
            complete=lambda ids: "\n" in encoder.decode(ids).lstrip(),
            where=[rows[index].where for index in batch],
        )
        outputs |= {index: first_line(encoder.decode(ids)) for index, ids in zip(batch, written, strict=True)}
        progress(f"task {task.id}", len(outputs), len(rows))
    return [
        {"task": task.id, "item": item_id(row), "correct": outputs[index] == row.value["answer"].strip(), "output": outputs[index]}
        for index, row in enumerate(rows)
    ]


def first_line(text: str) -> str:
    """The first line that is not empty, stripped."""
    return text.lstrip().split("\n", 1)[0].strip()


def greedy(
    model: ScoredModel, prompts: Sequence[Sequence[int]], *, max_tokens: int, complete: Callable[[list[int]], bool], where: Sequence[str]
) -> list[list[int]]:
    """The most likely continuation of each prompt, token by token, padded on the left; without the token that ended it.

    A row ends at an end token, when `complete` says so of its tokens, or after `max_tokens`. Raises `EngineError` with the place,
    `where`, of a row whose hidden states are not finite.
    """
    width = max(len(prompt) for prompt in prompts)
    ids, mask = torch.zeros(2, len(prompts), width, dtype=torch.int64)
    for line, prompt in enumerate(prompts):
        ids[line, width - len(prompt) :] = torch.tensor(prompt)
        mask[line, width - len(prompt) :] = 1
    ids, mask, cache = ids.to(model.device), mask.to(model.device), None
    written: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))
    for _ in range(max_tokens):
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = model.decoder(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
        cache, states = output.past_key_values, output.last_hidden_state[:, -1]
        tokens = model.head.most_likely(states)
        finite = torch.isfinite(states).all(dim=1).tolist()
        for line, token in enumerate(tokens.tolist()):
            if line not in unfinished:
                continue
            if not finite[line]:
                raise EngineError("the hidden states of this item are not finite", where=where[line])
            if token in model.end_tokens:
                unfinished.remove(line)
                continue
            written[line].append(token)
            if complete(written[line]):
                unfinished.remove(line)
        if not unfinished:
            break
        ids, mask = tokens[:, None], torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    return written
