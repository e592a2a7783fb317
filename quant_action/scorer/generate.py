"""Short answers by greedy decoding, right when they match the expected one exactly.

The answer is what the model writes until it ends, a line ends or `max_tokens` are spent: leading white space is dropped, the first line is
kept, and both answers are stripped before they are compared. The most likely token is taken from float32 logits, whatever the generation
settings that came with the model say. An answer has ended when the model wrote an end token or ended its line, not when its tokens ran out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from quant_action.data import Row
from quant_action.errors import DataError, EngineError
from quant_action.records import Samples, TaskProtocol
from quant_action.scorer.health import fault_of
from quant_action.scorer.items import item_values
from quant_action.scorer.model import ScoredModel
from quant_action.scorer.prompt import Encoder


@dataclass(kw_only=True)
class Written:
    """What a model wrote after one prompt."""

    ids: list[int] = field(default_factory=list)
    """Without the token that ended it."""
    ended: bool = False


def score_generate(
    model: ScoredModel,
    encoder: Encoder,
    task: TaskProtocol,
    rows: list[Row],
    *,
    samples: Samples,
    progress: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """One value per item (`values.py`).

    Raises `DataError` for an item without a prompt or longer than the context, `EngineError` for hidden states that are not finite.
    """
    prompts = [encoder.encode(encoder.prompt(row), where=row.where) for row in rows]
    for row, prompt in zip(rows, prompts, strict=True):
        if not prompt:
            raise DataError("the prompt is empty, and the tokenizer has no start token to stand in for it", where=row.where)
        model.fits(len(prompt) + task.max_tokens, what="an item with its answer", where=row.where)
    answers: dict[int, Written] = {}
    for batch in model.batching.by_length([len(prompt) + task.max_tokens for prompt in prompts]):
        written = greedy(
            model,
            [prompts[index] for index in batch],
            max_tokens=task.max_tokens,
            complete=lambda ids: "\n" in encoder.decode(ids).lstrip(),
            where=[rows[index].where for index in batch],
        )
        answers |= dict(zip(batch, written, strict=True))
        progress(f"task {task.id}", len(answers), len(rows))
    return [_item(task, row, answers[index], encoder, samples) for index, row in enumerate(rows)]


def _item(task: TaskProtocol, row: Row, written: Written, encoder: Encoder, samples: Samples) -> dict[str, Any]:
    output, expected = first_line(encoder.decode(written.ids)), row.value["answer"].strip()
    return item_values(
        task,
        row,
        correct=output == expected,
        facts={"ended": written.ended, "degenerate": fault_of(output, written.ids, ended=written.ended)},
        wording={"output": output, "ids": written.ids},
        prompt=encoder.prompt(row),
        expected=expected,
        answered=output,
        samples=samples,
    )


def first_line(text: str) -> str:
    """The first line that is not empty, stripped."""
    return text.lstrip().split("\n", 1)[0].strip()


def greedy(
    model: ScoredModel, prompts: Sequence[Sequence[int]], *, max_tokens: int, complete: Callable[[list[int]], bool], where: Sequence[str]
) -> list[Written]:
    """The most likely continuation of each prompt, token by token, padded on the left.

    A row ends at an end token, when `complete` says so of its tokens, or after `max_tokens`. Raises `EngineError` with the place,
    `where`, of a row whose hidden states are not finite.
    """
    width = max(len(prompt) for prompt in prompts)
    ids, mask = torch.zeros(2, len(prompts), width, dtype=torch.int64)
    for line, prompt in enumerate(prompts):
        ids[line, width - len(prompt) :] = torch.tensor(prompt)
        mask[line, width - len(prompt) :] = 1
    ids, mask, cache = ids.to(model.device), mask.to(model.device), None
    written = [Written() for _ in prompts]
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
            answer = written[line]
            if token not in model.end_tokens:
                answer.ids.append(token)
            if token in model.end_tokens or complete(answer.ids):
                answer.ended = True
                unfinished.remove(line)
        if not unfinished:
            break
        ids, mask = tokens[:, None], torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    return written
