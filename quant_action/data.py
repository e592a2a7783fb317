"""JSON Lines files of text and task items: read row by row, every complaint with its line.

Rows are hostile until checked. Three kinds are known: text (`{"text": ...}` or chat `{"messages": [...]}`), choice
(`{"prompt" | "messages", "choices", "answer"}`) and generate (`{"prompt" | "messages", "answer"}`). A row may carry an `id`, the name of
the `slice` that it belongs to (a language, a domain), and of a `group` (items of one passage or template, which are not independent).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant_action.errors import DataError

MAX_ROW = 16 * 1024 * 1024
"""Bytes of one line; a longer one is a mistake, not a document."""

MAX_NAME = 64
"""Characters of the name of a slice or a group: it stands in tables."""

SHINGLE = 13
"""Words that must match in a row for it to count as the same text; shorter runs occur by chance."""


STUB = "quant_action_stub"
"""Key of the example rows that `quant-action init` writes: they show the form, and must never be measured on."""


@dataclass(frozen=True)
class Row:
    file: str
    line: int
    value: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSON Lines file; empty lines are skipped.

    Raises `DataError` for a missing file, a line that is not a JSON object, and a file without rows.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="Check the path; it is relative to the spec."
        ) from error
    rows = []
    with file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_parse(path, number, line))
    if not rows:
        raise DataError("has no rows", where=str(path), remedy='Write one JSON object per line, for instance {"text": "..."}.')
    return rows


def _parse(path: Path, number: int, line: bytes) -> Row:
    where = f"{path}:{number}"
    if len(line) > MAX_ROW:
        raise DataError(f"a row of {len(line):,} bytes is longer than the {MAX_ROW:,} allowed", where=where, remedy="Split the document.")
    try:
        value = json.loads(line)
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is valid JSON, and no text
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", where=where, remedy="Each line must be one JSON object.") from error
    if not isinstance(value, dict):
        raise DataError(f"is a JSON {type(value).__name__}, not an object", where=where, remedy="Each line must be one JSON object.")
    return Row(str(path), number, value)


def _is_chat(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
            for message in value
        )
    )


def _require(row: Row, ok: bool, expected: str) -> None:
    if not ok:
        keys = ", ".join(sorted(row.value)) or "none"
        raise DataError(f"expected {expected}; the row's keys are: {keys}", where=row.where)


def _check_prompt(row: Row) -> None:
    _require(
        row,
        isinstance(row.value.get("prompt"), str) != _is_chat(row.value.get("messages")),
        'either "prompt" (a string) or "messages" (chat messages with "role" and "content")',
    )


def check_text_row(row: Row) -> None:
    _require(
        row,
        isinstance(row.value.get("text"), str) != _is_chat(row.value.get("messages")),
        'either "text" (a string) or "messages" (chat messages with "role" and "content")',
    )


def check_choice_row(row: Row) -> None:
    _check_prompt(row)
    choices, answer = row.value.get("choices"), row.value.get("answer")
    _require(
        row,
        isinstance(choices, list) and len(choices) > 1 and all(isinstance(c, str) and c for c in choices),
        '"choices", two or more strings',
    )
    _require(
        row,
        isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices or ()),
        '"answer", the index of the right choice (from 0)',
    )


def check_generate_row(row: Row) -> None:
    _check_prompt(row)
    answer = row.value.get("answer")
    _require(row, isinstance(answer, str) and bool(answer.strip()), '"answer", a string that is not empty')


def _check_names(row: Row) -> None:
    for key in ("slice", "group"):
        name = row.value.get(key, "-")
        if not (isinstance(name, str) and name == name.strip() and 0 < len(name) <= MAX_NAME and name.isprintable()):
            raise DataError(
                f'expected "{key}", a name of 1 to {MAX_NAME} printable characters without space at its ends',
                where=row.where,
                remedy=f'Give it a short name such as "ja", or leave "{key}" out.',
            )


CHECKS: dict[str, Callable[[Row], None]] = {"text": check_text_row, "choice": check_choice_row, "generate": check_generate_row}


def refuse_stubs(rows: Iterable[Row]) -> None:
    """Raise `DataError` naming every file that still has rows of `quant-action init`."""
    files: dict[str, Row] = {}
    for row in rows:
        if STUB in row.value:
            files.setdefault(row.file, row)
    if files:
        first, *others = files.values()
        more = f" (and so do {', '.join(row.where for row in others)})" if others else ""
        raise DataError(
            f"still has an example row of `quant-action init`{more}",
            where=first.where,
            remedy=f"Replace every row that has the key {STUB} with your own data.",
        )


def check_rows(rows: list[Row], kind: str) -> None:
    """Raise `DataError` for the first row that is not of this kind, or that repeats an `id`."""
    seen: dict[str, int] = {}
    for row in rows:
        CHECKS[kind](row)
        _check_names(row)
        if kind != "text" and (first := seen.setdefault(item_id(row), row.line)) != row.line:
            raise DataError(f"repeats the id {item_id(row)!r} of line {first}", where=row.where, remedy="Give each item an id of its own.")


def item_id(row: Row) -> str:
    """An item's own `id`, or its line number."""
    return str(row.value.get("id", row.line))


def slice_of(row: Row) -> str:
    """The name of the row's slice, empty without one."""
    return str(row.value.get("slice", ""))


def texts_of(row: Row) -> Iterator[str]:
    """Every string in a row that a model would read."""
    for key in ("text", "prompt"):
        if isinstance(row.value.get(key), str):
            yield row.value[key]
    for message in row.value.get("messages") or ():
        yield message["content"]
    choices, answer = row.value.get("choices"), row.value.get("answer")
    yield from choices or ()
    if isinstance(answer, str):
        yield answer


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _shingles(rows: list[Row]) -> Iterator[tuple[bytes, Row]]:
    """Digest of every run of `SHINGLE` words of a row; of a shorter text, the whole of it."""
    for row in rows:
        words = _words(" ".join(texts_of(row)))
        if words:
            for start in range(max(1, len(words) - SHINGLE + 1)):
                yield hashlib.blake2b(" ".join(words[start : start + SHINGLE]).encode(), digest_size=12).digest(), row


def shared_text(calibration: list[Row], evaluation: list[Row]) -> tuple[Row, Row] | None:
    """The first pair of rows with the same text in both files, if there is one.

    Calibrating on what is measured later makes a quantized model look better than it is. Two rows share text when 13 consecutive
    words (case and punctuation aside) stand in both: the length that GPT-3's contamination study settled on (arXiv 2005.14165, C).
    """
    known = dict(_shingles(calibration))
    return next(((known[digest], row) for digest, row in _shingles(evaluation) if digest in known), None)
