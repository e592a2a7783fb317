"""From data rows to token ids: chat templates, and the check that an artifact reads text as its base model does."""

from __future__ import annotations

from typing import Any

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
        """Ids of `text`, with the start token once, whether the tokenizer or a chat template put it there.

        Raises `EngineError` when the artifact's tokenizer gives other ids.
        """
        ids = _plain_ids(self.tokenizer, text)
        if self._artifact is not None and ids != (theirs := _plain_ids(self._artifact, text)):
            first = next((i for i, pair in enumerate(zip(ids, theirs, strict=False)) if pair[0] != pair[1]), min(len(ids), len(theirs)))
            raise _other_ids(where, f"from token {first + 1} on")
        return ids if tuple(ids[: len(self.start)]) == self.start else [*self.start, *ids]

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


def _other_ids(where: str, how: str) -> EngineError:
    return EngineError(
        f"the artifact's tokenizer gives other ids than the base model's ({how})",
        where=where,
        remedy="The engine must keep the tokenizer as it is: ids that differ make every comparison void.",
    )
