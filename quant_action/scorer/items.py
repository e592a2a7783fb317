"""Task items: which of a file's rows are asked."""

from __future__ import annotations

from pathlib import Path

from quant_action.data import Row, check_rows, item_id, read_rows
from quant_action.portions import fixed_order, portion
from quant_action.records import TaskProtocol


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
