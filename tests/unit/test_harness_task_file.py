"""Task files of lm-evaluation-harness are data: whatever could run code, or reach beyond the folder of the spec, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.data import Row
from quant_action.errors import DataError
from quant_action.harness.task_file import TaskFile, read_task_file, text_of

from .conftest import write_rows

TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: ../data/rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc_norm}, {metric: acc}, {metric: f1, aggregation: f1}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "data/rows.jsonl", [{"prompt": f"{n}?", "choices": ["yes", "no"], "answer": 0} for n in range(3)])
    (tmp_path / "tasks").mkdir()
    return tmp_path


def read(folder: Path, text: str, metric: str | None = None) -> TaskFile:
    path = folder / "tasks/mine.yaml"
    path.write_text(text)
    return read_task_file(path, root=folder, metric=metric)[0]


def refusal(folder: Path, text: str, metric: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, text, metric)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_harness_gets_plain_values(folder: Path) -> None:
    task = read(folder, TASK)
    assert task.config == {
        "task": "mine",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "description": "",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
        "repeats": 1,
        "should_decontaminate": False,
        "metric_list": [
            {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    }
    assert task.splits == {"test": (folder / "data/rows.jsonl",)}
    assert task.items == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("process_docs: !function utils.steal", "tasks/mine.yaml:10:15: !function is refused: it would run code"),
        ("doc_to_text: !function utils.steal", "duplicate key 'doc_to_text'"),
        ("description: !!python/object/apply:os.system [id]", "tasks/mine.yaml:10:14: is not YAML"),
        ("class: tasks.mine.Task", "tasks/mine.yaml:10:1: class is refused: it would run code that the file names"),
        ("process_results: tasks.mine.results", "tasks/mine.yaml:10:1: process_results is refused"),
        ("custom_dataset: tasks.mine.data", "tasks/mine.yaml:10:1: custom_dataset is refused"),
        ("use_prompt: promptsource:all", "tasks/mine.yaml:10:1: use_prompt is refused: prompts of other packages"),
        ("unsafe_code: true", "tasks/mine.yaml:10:1: unsafe_code is refused: code that a model writes"),
        ("group: many", "tasks/mine.yaml:10:1: group is refused: a file holds one task"),
        ("generation_kwargs: {custom_generate: someone/model}", "tasks/mine.yaml:10:21: generation_kwargs.custom_generate: unknown key"),
        ("generation_kwargs: {trust_remote_code: true}", "generation_kwargs.trust_remote_code: unknown key"),
        ("generation_kwargs: {do_sample: true}", "generation_kwargs.do_sample: True is not one of False"),
        ("generation_kwargs: {temperature: 0.7}", "generation_kwargs.temperature: Input should be less than or equal to 0"),
        ("filter_list: [{name: a, filter: [{function: custom, filter_fn: os.system}]}]", "'custom' is not one of 'regex'"),
        ("fewshot_config: {sampler: mine.Sampler}", "fewshot_config.sampler: 'mine.Sampler' is not one of 'default' or 'first_n'"),
        ("repeats: 8", "tasks/mine.yaml:10:1: repeats: 8 is not one of 1"),
        ("shuffle: true", "tasks/mine.yaml:10:1: shuffle: unknown key"),
    ],
)
def test_what_could_run_code_or_is_not_known(folder: Path, line: str, message: str) -> None:
    assert message in refusal(folder, f"{TASK}{line}\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dataset_path: json", "dataset_path: someone/data", "tasks/mine.yaml:2:1: dataset_path: 'someone/data' is not one of 'json'"),
        ("{data_files: {test: ../data/rows.jsonl}}", "{data_files: x.jsonl, trust_remote_code: true}", "trust_remote_code: unknown key"),
        ("../data/rows.jsonl", "../../etc/passwd", "tasks/mine.yaml:3:18: '../../etc/passwd' is not a path below the folder of the spec"),
        ("../data/rows.jsonl", "/etc/passwd", "'/etc/passwd' is not a path below the folder of the spec"),
        ("../data/rows.jsonl", "'https://example.org/rows.jsonl'", "'https://example.org/rows.jsonl' is not a path below"),
        ("../data/rows.jsonl", "'zip://rows.jsonl::../rows.zip'", "'zip://rows.jsonl::../rows.zip' is not a path below"),
        ("../data/rows.jsonl", "../data/*.jsonl", "data/*.jsonl: cannot be read"),
        ("test_split: test\n", "", "tasks/mine.yaml:1:1: names no test_split"),
        ("test_split: test", "test_split: dev", "tasks/mine.yaml:3:18: has no data for the split 'dev'; its splits are: test"),
        ("{metric: acc}", "{metric: acc, hf_evaluate: true}", "metric_list.1.hf_evaluate: True is not one of False"),
        ("output_type: multiple_choice", "output_type: loglikelihood_rolling", "'loglikelihood_rolling' is not one of"),
        ("[{metric: acc_norm}, {metric: acc}, {", "[{", "tasks/mine.yaml:9:1: none of its metrics is right or wrong for each item: f1"),
    ],
)
def test_data_metrics_and_kinds_that_are_not_local_or_not_right_or_wrong(folder: Path, old: str, new: str, message: str) -> None:
    assert old in TASK
    assert message in refusal(folder, TASK.replace(old, new))


def test_a_metric_that_the_task_lacks(folder: Path) -> None:
    assert read(folder, TASK, "acc,none").items == 3
    assert "has no metric 'f1' that is right or wrong for each item; it has: acc_norm, acc" in refusal(folder, TASK, "f1")


def test_what_stands_in_the_file_wins_over_what_it_includes(folder: Path) -> None:
    (folder / "base.yaml").write_text(TASK.replace("../data", "data"))
    task = read(folder, "include: ../base.yaml\ntask: other\n")
    assert (task.config["task"], task.config["doc_to_text"], task.splits["test"]) == ("other", "{{prompt}}", (folder / "data/rows.jsonl",))
    (folder / "base.yaml").write_text(TASK + "process_docs: !function utils.steal\n")
    assert "base.yaml:10:15: !function is refused" in refusal(folder, "include: ../base.yaml\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: ../../outside.yaml", "'../../outside.yaml' is not a path below the folder of the spec"),
        ("include: absent.yaml", "tasks/absent.yaml: there is no such task file"),
        ("include: mine.yaml", "tasks/mine.yaml: includes itself"),
        ("include: 3", "3 is not a path below the folder of the spec"),
    ],
)
def test_includes_that_lead_nowhere(folder: Path, text: str, message: str) -> None:
    assert message in refusal(folder, f"{text}\n{TASK}")


def test_the_digest_covers_the_file_what_it_includes_and_its_rows(folder: Path) -> None:
    (folder / "base.yaml").write_text(TASK.replace("../data", "data"))
    text = "include: ../base.yaml\ntask: other\n"
    first = read(folder, text).digest
    assert read(folder, text).digest == first
    changed = {read(folder, text + "description: please\n").digest}
    (folder / "base.yaml").write_text(TASK.replace("../data", "data") + "description: please\n")
    changed.add(read(folder, text).digest)
    (folder / "base.yaml").write_text(TASK.replace("../data", "data"))
    write_rows(folder / "data/rows.jsonl", [{"prompt": "?", "choices": ["a", "b"], "answer": 1}])
    changed.add(read(folder, text).digest)
    assert len(changed | {first}) == 4


def test_any_string_of_a_row_may_be_shown_to_the_model() -> None:
    row = Row("rows.jsonl", 3, {"q": "one", "more": {"a": ["two", 3, "four"]}, "n": 5})
    assert (text_of(row).value, text_of(row).where) == ({"text": "one two four"}, "rows.jsonl:3")
