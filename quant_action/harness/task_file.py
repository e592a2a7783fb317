"""A task of lm-evaluation-harness in a YAML file of the repository, read as data and nothing else.

The harness's own loader imports Python that such a file names (`!function`, `class`), fetches datasets and metrics by name, and hands
generation options to code that can load more. So it never sees the file: what stands here is read with the spec's safe loader, checked
against the keys below and handed over as plain values, and the rows are read by `data.py`. The meaning of the keys is the harness's own:
docs/task_guide.md of lm-evaluation-harness 0.4.13.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from quant_action.data import Row, read_rows
from quant_action.errors import DataError, SpecError
from quant_action.manifest import sha256_of
from quant_action.records import digest_of
from quant_action.spec import SpecModel
from quant_action.spec.source import SpecSource, read_source

RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
"""Metrics of the harness that are 0 or 1 for each item. Others are left out: gates on items count right and wrong ones."""

DEFAULT_METRIC = {"multiple_choice": "acc", "loglikelihood": "acc", "generate_until": "exact_match"}

CODE = "it would run code that the file names, and code from a repository is never run"
REFUSED = {
    "class": CODE,
    "process_docs": CODE,
    "process_results": CODE,
    "custom_dataset": CODE,
    "unsafe_code": "code that a model writes is never run",
    "use_prompt": "prompts of other packages are not read",
    "group": "a file holds one task",
    "task_list": "a file holds one task",
    "doc_to_image": "only text is measured",
    "doc_to_audio": "only text is measured",
}
REMEDY = "Prepare the rows in the data file, or use kind: choice or kind: generate."
NEXT_TO = "Paths are relative to the task file and lie below the folder of the spec, such as ../data/rows.jsonl."

Text = Annotated[str, StringConstraints(max_length=20_000)]
Files = Annotated[str, StringConstraints(min_length=1, max_length=400)]


class JsonFiles(SpecModel):
    data_files: Files | list[Files] | dict[str, Files | list[Files]]
    """JSON Lines files by split; without splits they are `train`."""


class Generation(SpecModel):
    """Greedy: an answer that is drawn would change from run to run."""

    until: Text | list[Text] | None = None
    max_gen_toks: Annotated[int, Field(gt=0)] = 256
    do_sample: Literal[False] = False
    temperature: Annotated[float, Field(ge=0, le=0)] = 0.0


class Metric(SpecModel):
    metric: str
    aggregation: str | None = None
    higher_is_better: bool | None = None
    hf_evaluate: Literal[False] = False
    """The harness would take the metric from a script of another package or of the Hub."""
    ignore_case: bool | None = None
    ignore_punctuation: bool | None = None
    ignore_numbers: bool | None = None
    regexes_to_ignore: list[Text] | None = None

    def for_harness(self) -> dict[str, Any]:
        options = self.model_dump(exclude_none=True, exclude={"aggregation", "higher_is_better", "hf_evaluate"})
        return options | {"aggregation": "mean", "higher_is_better": True}


class FilterStep(SpecModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    function: Literal[
        "regex",
        "regex_pos",
        "multi_choice_regex",
        "remove_whitespace",
        "lowercase",
        "uppercase",
        "map",
        "format_span",
        "take_first",
        "take_first_k",
        "majority_vote",
    ]


class Filter(SpecModel):
    name: str
    filter: list[FilterStep]


class FewShot(SpecModel):
    sampler: Literal["default", "first_n"] = "default"
    samples: list[dict[str, Any]] | None = None


class TaskConfig(SpecModel):
    """The part of the harness's format that is data."""

    task: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    dataset_path: Literal["json"]
    dataset_name: None = None
    dataset_kwargs: JsonFiles
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    output_type: Literal["multiple_choice", "generate_until", "loglikelihood"] = "generate_until"
    doc_to_text: Text | int
    doc_to_target: Text | int | list[int | str]
    doc_to_choice: Text | list[Text] | dict[str, Text] | None = None
    description: Text = ""
    target_delimiter: Text = " "
    fewshot_delimiter: Text = "\n\n"
    gen_prefix: Text | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    fewshot_config: FewShot | None = None
    generation_kwargs: Generation | None = None
    metric_list: Annotated[list[Metric], Field(min_length=1)] | None = None
    filter_list: list[Filter] | None = None
    repeats: Literal[1] = 1
    should_decontaminate: Literal[False] = False
    task_alias: str | None = None
    tag: str | list[str] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that are 0 or 1 for each item, in the order of the file."""
        asked = self.metric_list or [Metric(metric=DEFAULT_METRIC[self.output_type])]
        return tuple(metric for metric in asked if metric.metric in RIGHT_OR_WRONG)

    def for_harness(self) -> dict[str, Any]:
        """As the harness takes a task's config, without its data."""
        given = self.model_dump(exclude_none=True, exclude={"dataset_path", "dataset_kwargs", "tag", "metadata", "metric_list"})
        return given | {"metric_list": [metric.for_harness() for metric in self.metrics]}


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    config: Mapping[str, Any]
    """As the harness takes it, without its data."""
    splits: Mapping[str, tuple[Path, ...]]
    """JSON Lines files of every split that the task names."""
    digest: str
    """Of the bytes of the task file, of those that it includes, and of its data."""
    items: int
    """In the split that is asked."""


def read_task_file(path: Path, *, root: Path, metric: str | None) -> tuple[TaskFile, list[Row]]:
    """The task in a YAML file, and the rows that it asks; `metric` is the one that the spec asks for, if it names one.

    Raises `DataError` with file and line for what is not data, not known, or lies outside `root` (the folder of the spec), and for rows
    that cannot be read.
    """
    sources = list(_with_includes(path, root, seen=()))
    config, owners = _validated(sources)
    _refuse_metric(config, metric, owners.get("metric_list", sources[-1]))
    asked = config.test_split or config.validation_split
    if asked is None:
        where = sources[-1].where(())
        raise DataError("names no test_split (or validation_split): which rows are asked?", where=where, remedy="test_split: test")
    data, here = _splits(config), owners["dataset_kwargs"]
    used = dict.fromkeys(filter(None, (asked, config.validation_split, config.training_split, config.fewshot_split)))
    if absent := [split for split in used if split not in data]:
        where = here.where(("dataset_kwargs", "data_files"))
        raise DataError(f"has no data for the split {absent[0]!r}; its splits are: {', '.join(data)}", where=where)
    files = {split: tuple(_below(root, here, name, "dataset_kwargs", "data_files") for name in data[split]) for split in used}
    rows = {split: [row for file in of_split for row in read_rows(file)] for split, of_split in files.items()}
    bytes_read = [[sha256_of(source.path) for source in sources], {split: [*map(sha256_of, of_split)] for split, of_split in files.items()}]
    return TaskFile(config=config.for_harness(), splits=files, digest=digest_of(bytes_read), items=len(rows[asked])), rows[asked]


def text_of(row: Row) -> Row:
    """The row as one text: a task's templates may show any of its strings to the model."""
    return Row(row.file, row.line, {"text": " ".join(_strings(row.value))})


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _with_includes(path: Path, root: Path, seen: tuple[Path, ...]) -> Iterator[SpecSource]:
    """The files that make a task, each after those that it includes: what comes later wins."""
    if not path.is_file():
        raise DataError("there is no such task file", where=str(path), remedy="The path is relative to the spec.")
    if path in seen:
        raise DataError("includes itself", where=str(path))
    try:
        source = read_source(path)
    except SpecError as error:
        said = f"!function is refused: {CODE}" if "'!function'" in str(error) else str(error.args[0])
        raise DataError(said, where=error.where, remedy=REMEDY) from None
    included = source.value.pop("include", None) or []
    for name in included if isinstance(included, list) else [included]:
        yield from _with_includes(_below(root, source, name, "include"), root, (*seen, path))
    yield source


def _below(root: Path, source: SpecSource, name: object, *keys: str) -> Path:
    """The file that is called `name` in a task file. Raises `DataError` where it lies outside of `root`."""
    folder = PurePosixPath(os.path.relpath(source.path.parent, root))
    wanted = PurePosixPath(os.path.normpath(folder / name)) if isinstance(name, str) and "\\" not in name and name.isprintable() else None
    if wanted is None or wanted.is_absolute() or ".." in wanted.parts or "://" in str(name):
        raise DataError(f"{name!r} is not a path below the folder of the spec", where=source.where(keys), remedy=NEXT_TO)
    return root / wanted


def _validated(sources: list[SpecSource]) -> tuple[TaskConfig, dict[str, SpecSource]]:
    """The config, and the file that each of its keys comes from."""
    owners = {key: source for source in sources for key in source.value}
    for key, source in owners.items():
        if key in REFUSED:
            raise DataError(f"{key} is refused: {REFUSED[key]}", where=source.where((key,)), remedy=REMEDY)
    try:
        return TaskConfig.model_validate({key: source.value[key] for key, source in owners.items()}), owners
    except ValidationError as error:
        faults = error.errors(include_url=False)
        main = sources[-1]
        raise DataError(
            "\n".join(owners.get(str(fault["loc"][0]), main).explain(fault, TaskConfig) for fault in faults), remedy=REMEDY
        ) from None


def _refuse_metric(config: TaskConfig, metric: str | None, source: SpecSource) -> None:
    """Raises `DataError` where no metric, or not the one that is asked for, is 0 or 1 for each item."""
    names = [each.metric for each in config.metrics]
    there = ", ".join(each.metric for each in config.metric_list or ()) or "none"
    if not names:
        raise DataError(
            f"none of its metrics is right or wrong for each item: {there}",
            where=source.where(("metric_list",)),
            remedy=f"List one of: {', '.join(RIGHT_OR_WRONG)}.",
        )
    if metric is not None and metric.partition(",")[0] not in names:
        raise DataError(
            f"has no metric {metric!r} that is right or wrong for each item; it has: {', '.join(names)}",
            where=source.where(("metric_list",)),
        )


def _splits(config: TaskConfig) -> dict[str, list[str]]:
    given = config.dataset_kwargs.data_files
    by_split = given if isinstance(given, dict) else {"train": given}
    return {split: [files] if isinstance(files, str) else files for split, files in by_split.items()}
