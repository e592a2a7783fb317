"""From data rows to token ids: chat templates, and the check that an artifact reads text as its base model does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quant_action.data import Row
from quant_action.errors import DataError, EngineError

Tokenizer = Any
"""A transformers tokenizer; its classes differ by version, and none is typed."""


def text_of(value: dict[str, Any], tokenizer: Tokenizer) -> str:
    """What a text row says: its `text`, or its chat `messages` through the model's template."""
    return _chat(value["messages"], tokenizer, answer_follows=False) if "messages" in value else str(value["text"])


def prompt_text(value: dict[str, Any], tokenizer: Tokenizer) -> str:
    """What stands before the answer: the row's `prompt`, or its chat `messages` through the template up to where the model answers."""
    return _chat(value["messages"], tokenizer, answer_follows=True) if "messages" in value else str(value["prompt"])


def _chat(messages: list[dict[str, str]], tokenizer: Tokenizer, *, answer_follows: bool) -> str:
    if not tokenizer.chat_template:
        raise DataError("chat messages need a chat template, and this model has none", remedy='Use "text" or "prompt" rows instead.')
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_follows))
    except Exception as error:  # a template is a program of the model's author and fails in its own ways
        raise DataError(f"the model's chat template refuses these messages ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A text as token ids."""

    ids: list[int]
    """With the start token once, whether the tokenizer or a chat template put it there."""
    read: np.ndarray | None
    """After each id, how many UTF-8 bytes of the text have been read, int64; None where the tokenizer does not say."""


class Encoder:
    """The base model's tokenizer; an artifact's own, where one is given, must read every text alike."""

    def __init__(self, tokenizer: Tokenizer, artifact: Tokenizer | None = None) -> None:
        """Raises `EngineError` when the two treat the start of a text differently."""
        self.tokenizer = tokenizer
        self._artifact = artifact
        special = list(tokenizer("").input_ids)
        if artifact is not None and list(artifact("").input_ids) != special:
            raise _other_ids("an empty text", "their special tokens differ")
        starts_with_bos = bool(special) and special[0] == tokenizer.bos_token_id
        self.start: tuple[int, ...] = (special[0],) if starts_with_bos else ()
        """The token that the tokenizer puts before every text, if it does."""

    def encode(self, text: str, *, where: str) -> list[int]:
        """Ids of `text` as in `Encoded`. Raises `EngineError` when the artifact's tokenizer gives other ids."""
        ids = _plain_ids(self.tokenizer, text)
        self._compare(ids, text, where=where)
        return [*self._start_before(ids), *ids]

    def encode_measured(self, text: str, *, where: str) -> Encoded:
        """Ids of `text` and the bytes that they stand for. Raises as `encode`.

        A fast tokenizer says which characters each token was read from: what it skips counts to the token that follows, and a character
        that several tokens share to the first of them.
        """
        if not self.tokenizer.is_fast:
            return Encoded(ids=self.encode(text, where=where), read=None)
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = list(found.input_ids)
        self._compare(ids, text, where=where)
        start = self._start_before(ids)
        ends = np.maximum.accumulate(np.array([0, *(end for _, end in found.offset_mapping)], dtype=np.int64))
        read = _bytes_before_each_character(text)[ends[1:]]
        return Encoded(ids=[*start, *ids], read=np.concatenate([np.zeros(len(start), dtype=np.int64), read]))

    def bytes_between(self, encoded: Encoded, first: int, last: int) -> int:
        """UTF-8 bytes of the text of the tokens from index `first`, at least 1, up to but without `last`.

        Where the tokenizer does not say, they are decoded after the token before them, which keeps a space at their start.
        """
        if encoded.read is not None:
            return int(encoded.read[last - 1] - encoded.read[first - 1])
        with_one_before, one_before = encoded.ids[first - 1 : last], encoded.ids[first - 1 : first]
        return self._bytes_of(with_one_before) - self._bytes_of(one_before)

    def _bytes_of(self, ids: list[int]) -> int:
        return len(str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)).encode())

    def _start_before(self, ids: list[int]) -> tuple[int, ...]:
        return () if tuple(ids[: len(self.start)]) == self.start else self.start

    def _compare(self, ids: list[int], text: str, *, where: str) -> None:
        """Raise `EngineError` when the artifact's tokenizer gives other ids."""
        if self._artifact is not None and ids != (theirs := _plain_ids(self._artifact, text)):
            first = next((i for i, pair in enumerate(zip(ids, theirs, strict=False)) if pair[0] != pair[1]), min(len(ids), len(theirs)))
            raise _other_ids(where, f"from token {first + 1} on")

    def text(self, row: Row) -> str:
        """`text_of` the row; raises `DataError` with its line."""
        return self._rendered(row, text_of)

    def prompt(self, row: Row) -> str:
        """`prompt_text` of the row; raises `DataError` with its line."""
        return self._rendered(row, prompt_text)

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _rendered(self, row: Row, render: Any) -> str:
        try:
            text: str = render(row.value, self.tokenizer)
        except DataError as error:
            error.where = row.where
            raise
        if self._artifact is not None and "messages" in row.value and render(row.value, self._artifact) != text:
            raise EngineError(
                "the artifact's chat template writes these messages differently from the base model's",
                where=row.where,
                remedy="The engine must keep tokenizer and chat template as they are.",
            )
        return text


def _plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _bytes_before_each_character(text: str) -> np.ndarray:
    """UTF-8 bytes before each character of `text`, and at its end: int64 [characters + 1]."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    lengths = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def _other_ids(where: str, how: str) -> EngineError:
    return EngineError(
        f"the artifact's tokenizer gives other ids than the base model's ({how})",
        where=where,
        remedy="The engine must keep the tokenizer as it is: ids that differ make every comparison void.",
    )
