"""Task items: which of a file's rows are asked, and in which batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from quant_action.data import Row, check_rows, item_id, read_rows
from quant_action.records import TaskProtocol


def task_rows(task: TaskProtocol, data: Path) -> list[Row]:
    """The rows to ask, in the order of the file: all, or the `limit` whose ids have the least sha256.

    A sample by hash is as good as a random one, is the same everywhere, and grows with `limit` by adding items, never by swapping them;
    the first rows of a file would be biased by whatever sorted it. Raises `DataError` for a row that is not of the task's kind.
    """
    rows = read_rows(data)
    check_rows(rows, task.kind)
    if task.limit is None or task.limit >= len(rows):
        return rows
    ranked = sorted(rows, key=lambda row: (hashlib.sha256(item_id(row).encode()).digest(), row.line))
    return sorted(ranked[: task.limit], key=lambda row: row.line)


def batches_by_length(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Indices of sequences, longest first, in batches of at most `tokens` tokens with the padding (one sequence may be longer)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
