"""Task items: which of a file's rows are asked, and what is kept of the answers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from quant_action.data import Row, check_rows, item_id, read_rows, slice_of
from quant_action.portions import fixed_order, portion
from quant_action.records import Samples, TaskProtocol

MOST_TEXT = 400
"""Characters of a prompt or an answer that are kept for people."""


def task_rows(task: TaskProtocol, data: Path) -> list[Row]:
    """The rows of a task, in the order of the file: all, or the first `limit` of the fixed order (the first of the file would be biased
    by whatever sorted it). Raises `DataError` for a row that is not of the task's kind.
    """
    rows = read_rows(data)
    check_rows(rows, task.kind)
    return [rows[index] for index in sorted(fixed_order([item_id(row) for row in rows])[: task.limit])]


def rows_between(rows: list[Row], *, after: float, upto: float) -> list[Row]:
    """Those of a task's rows that a look asks anew, `after` being the share of them that was asked before."""
    return [rows[index] for index in portion([item_id(row) for row in rows], after=after, upto=upto)]


def item_values(
    task: TaskProtocol,
    row: Row,
    *,
    correct: bool,
    facts: dict[str, Any],
    wording: dict[str, Any],
    prompt: str,
    expected: str,
    answered: str,
    samples: Samples,
) -> dict[str, Any]:
    """One line of `items.jsonl` (`values.py` says what stands in it): `wording`, and the texts, only where samples may be text."""
    kept = {"task": task.id, "item": item_id(row), "correct": correct, **facts}
    if slice_of(row):
        kept["slice"] = slice_of(row)
    if "group" in row.value:
        kept["group"] = row.value["group"]
    if samples == "hash-only":
        return kept | {"prompt_sha256": _sha256(prompt), "answered_sha256": _sha256(f"{prompt}\0{answered}")}
    return kept | wording | {"prompt": _cut(prompt), "expected": _cut(expected), "answered": _cut(answered)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
