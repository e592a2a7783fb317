"""What a spec points to: found, read and checked before anything expensive starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from quant_action.data import Row, check_rows, read_rows, refuse_stubs, shared_text
from quant_action.errors import DataError, ModelError, SpecError
from quant_action.harness.task_file import TaskFile, read_task_file, text_of
from quant_action.manifest import sha256_of
from quant_action.model_files import ModelFiles, open_model
from quant_action.remotes import hub
from quant_action.spec import HUB_ID, DataTask, LmEvalTask, LoadedSpec


@dataclass(frozen=True, kw_only=True)
class DataFile:
    path: Path
    digest: str
    """sha256 of the bytes."""
    rows: int
    slices: Mapping[str, int] = field(default_factory=dict)
    """Slice -> rows that say they belong to it."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    model: ModelFiles
    model_digest: str
    calibration: DataFile | None
    text: DataFile | None
    long_text: DataFile | None = None
    tasks: Mapping[str, DataFile]
    harness: Mapping[str, TaskFile] = field(default_factory=dict)
    """Of the tasks of lm-evaluation-harness those that are files."""
    release: ModelFiles | None = None
    release_digest: str | None = None


def open_inputs(loaded: LoadedSpec, release: Path | None = None) -> Inputs:
    """Read all data files, check every row, refuse stubs and calibration text that is also measured on, hash the model and the `release`.

    The weights of a Hub model are not fetched: what the Hub says of them is enough to plan. Raises `DataError`, `ModelError`, `SpecError`
    or `RemoteError`.
    """
    spec = loaded.spec
    calibration = _read(loaded, spec.calibration.data, "calibration", "data") if spec.calibration else None
    text = _read(loaded, spec.evaluation.text.data, "evaluation", "text", "data") if spec.evaluation.text else None
    long_text = _read(loaded, spec.evaluation.long_text.data, "evaluation", "long_text", "data") if spec.evaluation.long_text else None
    asked = {name: task for name, task in spec.evaluation.tasks.items() if isinstance(task, DataTask)}
    tasks = {name: _read(loaded, task.data, "evaluation", "tasks", name, "data") for name, task in asked.items()}
    files = {name: task for name, task in spec.evaluation.tasks.items() if isinstance(task, LmEvalTask) and task.is_file}
    harness = {name: _read_harness(loaded, name, task) for name, task in files.items()}
    shown = [row for _, rows in harness.values() for row in rows]
    refuse_stubs(chain(calibration or [], text or [], long_text or [], *tasks.values(), shown))
    with _named_at(loaded, "calibration", "data"):
        check_rows(calibration or [], "text")
    with _named_at(loaded, "evaluation", "text", "data"):
        check_rows(text or [], "text")
    with _named_at(loaded, "evaluation", "long_text", "data"):
        check_rows(long_text or [], "text")
    for name, rows in tasks.items():
        with _named_at(loaded, "evaluation", "tasks", name, "data"):
            check_rows(rows, asked[name].kind)
    held_out = [*(text or []), *(long_text or []), *chain.from_iterable(tasks.values()), *map(text_of, shown)]
    _refuse_shared_text(calibration or [], held_out)
    model = _open_model(loaded)
    inputs = Inputs(
        model=model,
        model_digest=model.manifest().digest,
        calibration=_digested(calibration) if calibration else None,
        text=_digested(text) if text else None,
        long_text=_digested(long_text) if long_text else None,
        tasks={name: _digested(rows) for name, rows in tasks.items()},
        harness={name: task for name, (task, _) in harness.items()},
    )
    return with_release(inputs, release) if release else inputs


def with_release(inputs: Inputs, folder: Path) -> Inputs:
    """The same inputs, and the last release: a model as `from_pretrained` takes it, checked like any other. Raises `ModelError`."""
    try:
        release = open_model(folder, quantized=True)
    except ModelError as error:
        error.remedy = "--release takes the folder of what was released last: config, tokenizer and safetensors."
        raise
    return replace(inputs, release=release, release_digest=release.manifest().digest)


def _read(loaded: LoadedSpec, data: str, *keys: str) -> list[Row]:
    with _named_at(loaded, *keys):
        return read_rows(loaded.resolve(data))


def _read_harness(loaded: LoadedSpec, name: str, task: LmEvalTask) -> tuple[TaskFile, list[Row]]:
    with _named_at(loaded, "evaluation", "tasks", name, "lm_eval"):
        return read_task_file(loaded.resolve(task.lm_eval), root=loaded.folder, metric=task.metric)


@contextmanager
def _named_at(loaded: LoadedSpec, *keys: str) -> Iterator[None]:
    """Complaints about a file also say where the spec names it."""
    try:
        yield
    except DataError as error:
        error.remedy = " ".join(filter(None, [error.remedy, f"(Named at {loaded.where(*keys)}.)"]))
        raise


def _digested(rows: list[Row]) -> DataFile:
    path = Path(rows[0].file)
    slices = Counter(name for row in rows if isinstance(name := row.value.get("slice"), str))
    return DataFile(path=path, digest=sha256_of(path), rows=len(rows), slices=slices)


def _refuse_shared_text(calibration: list[Row], evaluated: list[Row]) -> None:
    shared = shared_text(calibration, evaluated)
    if shared:
        raise DataError(
            f"this text is also calibrated on ({shared[0].where}), so measuring on it would flatter every candidate",
            where=shared[1].where,
            remedy="Take the row out of one of the two files.",
        )


def _open_model(loaded: LoadedSpec) -> ModelFiles:
    model = loaded.spec.model
    if model.revision is not None:
        return hub.open_hub_model(model.source, model.revision)
    folder = loaded.resolve(model.source)
    if not folder.is_dir() and HUB_ID.fullmatch(model.source):
        raise SpecError(
            f"{model.source} is not a folder here; a Hub id needs a revision beside it",
            where=loaded.where("model", "source"),
            remedy="Add model.revision, the 40-digit commit of the model on the Hub.",
        )
    return open_model(folder)


def fetch_weights(loaded: LoadedSpec, inputs: Inputs) -> Inputs:
    """The same inputs with all weights here. Raises `ModelError`, `RemoteError`, or `IntegrityError` for other bytes than planned."""
    source, revision = loaded.spec.model.source, loaded.spec.model.revision
    if revision is None or not inputs.model.remote:
        return inputs
    return replace(inputs, model=open_model(hub.fetch_weights(source, revision, inputs.model.remote)))
