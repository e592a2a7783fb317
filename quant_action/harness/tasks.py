"""Tasks of the harness, made ready to be asked: from its own suite, or from the plain values of a task file (`task_file.py`)."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import lm_eval.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.tasks import TaskManager

from quant_action.data import read_rows
from quant_action.errors import DataError
from quant_action.workers.diagnosis import expected

ABSENT = ("OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionError", "DatasetNotFoundError", "FileNotFoundError")
"""Errors of a data set that is not in the local cache, by name: they come from four packages."""


def load_tasks(asked: dict[str, Any]) -> dict[str, Any]:
    """Name -> task of the harness, for one task of a request: one, or all of a group of the suite.

    Raises `DataError` for a name that the suite does not have, for a data set that is not here, and for whatever else the harness says.
    """
    _render_in_a_sandbox()
    datasets.disable_caching()  # what a task makes of its data set goes to a temporary folder, not beside the user's copy of it
    name = asked["task"]
    try:
        tasks = _of_file(asked) if asked["config"] else _suite().load([_known(name)])["tasks"]
    except DataError:
        raise
    except Exception as error:  # a task is a program of its author, and fails in its own ways
        raise expected(error) or _not_loaded(asked["id"], name, error) from error
    for task in tasks.values():
        if getattr(task, "UNSAFE_CODE", False):
            raise DataError(f"task {asked['id']}: {name} runs what the model writes, which is never done here", remedy="Take it out.")
        _fix_examples(task)
    return dict(tasks)


@cache
def _suite() -> Any:
    return TaskManager()


def _known(name: str) -> str:
    names = _suite().all_tasks
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(close)}?" if close else "its documentation lists them."
        raise DataError(f"lm-evaluation-harness {lm_eval.__version__} has no task {name!r}", remedy=f"Of its tasks, {meant}")
    return name


def _of_file(asked: dict[str, Any]) -> dict[str, Any]:
    """Rows are read by our own reader, so that neither patterns, nor URLs, nor a cache of earlier contents stand between file and task."""
    splits = {split: _dataset([Path(file) for file in files]) for split, files in asked["splits"].items()}
    config = asked["config"] | {"custom_dataset": lambda **_: splits}
    found: dict[str, Any] = TaskManager(include_defaults=False).load([config])["tasks"]
    return found


def _dataset(files: list[Path]) -> Any:
    rows = [row.value for file in files for row in read_rows(file)]
    keys = dict.fromkeys(key for row in rows for key in row)
    return datasets.Dataset.from_list([{key: row.get(key) for key in keys} for row in rows])


def _render_in_a_sandbox() -> None:
    """The harness renders a task's templates in a Jinja environment that gives them all of Python: put one in its place that does not."""
    plain = lm_eval.utils.env
    if isinstance(plain, ImmutableSandboxedEnvironment):
        return
    sandbox = ImmutableSandboxedEnvironment(undefined=plain.undefined, keep_trailing_newline=plain.keep_trailing_newline)
    sandbox.filters |= plain.filters
    lm_eval.utils.env = sandbox


def _fix_examples(task: Any) -> None:
    """Let an item alone decide which examples stand in its prompt.

    The harness draws them one item after another, so that they would change with the items that are asked before: with `limit`, and from
    one look to the next.
    """
    plain = task.fewshot_context

    def fewshot_context(doc: Any, *arguments: Any, **named: Any) -> Any:
        digest = hashlib.sha256(json.dumps(doc, sort_keys=True, default=str).encode()).digest()
        task.set_fewshot_seed(int.from_bytes(digest[:8], "big"))
        return plain(doc, *arguments, **named)

    task.fewshot_context = fewshot_context


def _not_loaded(id: str, name: str, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if any(kind.__name__ in ABSENT for link in _chain(error) for kind in type(link).__mro__):
        fetch = f"from lm_eval.tasks import TaskManager; TaskManager().load(['{name}'])"
        return DataError(
            f"task {id}: the data set of {name} is not in the local cache, and models are measured without a network ({reason})",
            remedy=f'Fetch it once, where there is one: {sys.executable} -c "{fetch}"',
        )
    return DataError(f"task {id}: {name} cannot be loaded ({type(error).__name__}: {reason})")


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]
