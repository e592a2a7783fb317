"""Calibration text as a model reads it: blocks of token ids of one length, drawn from a JSON Lines file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quant_action.checkpoints.load import load_tokenizer
from quant_action.data import Row, read_rows
from quant_action.errors import DataError


def requested_blocks(request: dict[str, Any]) -> list[list[int]]:
    """The blocks that a request for quantizing asks for. Raises `DataError`, and `ModelError` for the tokenizer."""
    asked = request["calibration"]
    return sample_blocks(
        load_tokenizer(Path(request["model"])),
        Path(asked["data"]),
        samples=asked["samples"],
        tokens=asked["tokens"],
        seed=asked["seed"],
    )


def sample_blocks(tokenizer: Any, path: Path, *, samples: int, tokens: int, seed: int) -> list[list[int]]:
    """`samples` blocks of exactly `tokens` ids each, the same for the same file, tokenizer and seed.

    Rows are shuffled, tokenized and joined with the end-of-sequence token where the tokenizer has one; the stream is cut into blocks
    without padding. Each block begins with the beginning-of-sequence token where the tokenizer adds it, because models put their largest
    activations on it. Raises `DataError` when the file is too short.
    """
    rows = read_rows(path)
    random.Random(seed).shuffle(rows)  # noqa: S311  (a shuffle, not a secret)
    start = _start(tokenizer)
    length = tokens - len(start)
    stream: list[int] = []
    for ids in _tokenized(tokenizer, rows, start):
        stream += ids
        if len(stream) >= samples * length:
            return [start + stream[begin : begin + length] for begin in range(0, samples * length, length)]
    raise DataError(
        f"has {len(stream):,} tokens; {samples} samples of {tokens} need {samples * length:,}",
        where=str(path),
        remedy="Add text, or lower calibration.samples or calibration.tokens.",
    )


def _start(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before any text: one beginning-of-sequence id, or nothing."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []


def _tokenized(tokenizer: Any, rows: list[Row], start: list[int]) -> Iterator[list[int]]:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for row in rows:
        ids: list[int] = tokenizer(_text(tokenizer, row), add_special_tokens=False)["input_ids"]
        if start and ids[:1] == start:  # a chat template may write it out
            ids = ids[1:]
        yield ids if ids[-1:] == end else ids + end


def _text(tokenizer: Any, row: Row) -> str:
    if "text" in row.value:
        return str(row.value["text"])
    if not tokenizer.chat_template:
        raise DataError(
            "is a chat, but the model has no chat template", where=f"{row.where}", remedy='Give rows of "text", or a model with a template.'
        )
    return str(tokenizer.apply_chat_template(row.value["messages"], tokenize=False))
