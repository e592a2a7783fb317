"""lm-evaluation-harness itself, in its environment, on the real example, without a network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from quant_action.harness.task_file import read_task_file
from quant_action.workers.environment import Environment, worker_variables

from .conftest import COMMAND, copy_example

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not Environment("lm-eval").is_complete, reason="needs: quant-action environments --install lm-eval"),
]

CUT = ["unshare", "--map-root-user", "--net"]
"""From the network: not even the loopback device is up."""

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
candidates:
  rtn-w3: {method: rtn, bits: 3, group_size: 64}
evaluation:
  tasks:
    choice: {data: data/choice.jsonl, kind: choice}
    choice-by-harness: {lm_eval: tasks/facts.yaml}
    generate: {data: data/generate.jsonl, kind: generate}
    generate-by-harness: {lm_eval: tasks/answers.yaml}
gates:
  accuracy: {vs: baseline, margin: 0.5}
"""


@pytest.fixture(autouse=True)
def _can_cut_the_network() -> None:
    if subprocess.run([*CUT, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us make a network namespace")


def test_our_scorer_and_the_harness_agree_on_every_item(tmp_path: Path) -> None:
    """The same rows, once by our own kinds and once as tasks of the harness, on the original and on a model that has forgotten much."""
    folder = copy_example(tmp_path / "tiny-llama")
    (folder / "quant.yml").write_text(SPEC)
    for name in ("choice", "generate"):
        data = folder / f"data/{name}.jsonl"
        data.write_text("".join(data.read_text().splitlines(keepends=True)[:150]))
    ended = subprocess.run([*CUT, *COMMAND, "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    run = folder / ".quant/runs/tiny-llama.latest"
    for subject, right in (("baseline", 0.9), ("rtn-w3", 0.5)):
        found: dict[str, list[dict[str, Any]]] = {}
        for line in (run / f"evaluations/{subject}/items.jsonl").read_text().splitlines():
            found.setdefault(json.loads(line)["task"], []).append(json.loads(line))
        for task in ("choice", "generate"):
            ours, theirs = found[task], found[f"{task}-by-harness"]
            assert len(ours) == len(theirs) == 150
            assert [item["correct"] for item in ours] == [item["correct"] for item in theirs]
            assert right < sum(item["correct"] for item in ours) / 150 < 1
        for mine, other in zip(found["choice"], found["choice-by-harness"], strict=True):
            assert mine["answer"] == other["answer"]
            assert mine["scores"] == pytest.approx(other["scores"], abs=1e-3)
        metrics = json.loads((run / f"evaluations/{subject}.json").read_text())
        assert metrics["metrics"]["accuracy:choice-by-harness"] == metrics["metrics"]["accuracy:choice"]
        assert metrics["metrics"]["accuracy"]["n"] == 600
        assert metrics["versions"]["lm_eval"] == "0.4.13"
    report = (run / "report.md").read_text()
    assert "tasks/facts.yaml by lm-evaluation-harness 0.4.13, 150 items" in report


SHOTS = """\
task: shots
dataset_path: json
dataset_kwargs: {data_files: {test: data/choice.jsonl, train: data/examples.jsonl}}
test_split: test
fewshot_split: train
num_fewshot: 2
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
target_delimiter: ""
"""


def test_requests_of_the_worker(tmp_path: Path) -> None:
    """Portions, batches, hashes, the harness's own suite, what is hostile or absent; one process for all, since it is slow to start."""
    folder = copy_example(tmp_path / "tiny-llama")
    rows = (folder / "data/choice.jsonl").read_text().splitlines(keepends=True)
    (folder / "data/choice.jsonl").write_text("".join(rows[:12]))
    (folder / "data/examples.jsonl").write_text("".join(rows[12:24]))

    def request(text: str | None = None, *, task: str = "shots", limit: int | None = None, **more: Any) -> dict[str, Any]:
        file = None
        if text is not None:
            (folder / "task.yaml").write_text(text)
            file, _ = read_task_file(folder / "task.yaml", root=folder, metric=None)
        asked = {
            "id": "t",
            "task": task,
            "metric": None,
            "limit": limit,
            "config": file and dict(file.config),
            "splits": {split: [str(path) for path in paths] for split, paths in file.splits.items()} if file else {},
        }
        model = {"model": str(folder / "model"), "base": str(folder / "model"), "device": "cpu", "dtype": "float32", "batch": 4}
        return model | {"samples": "text", "share": [0.0, 1.0], "output": str(tmp_path / "items.jsonl"), "tasks": [asked]} | more

    strange = {"prompt": "two\u2028lines", "choices": [" a\x85", " b"], "answer": 0}
    (folder / "data/strange.jsonl").write_text(json.dumps(strange, ensure_ascii=False) + "\n")
    hostile = SHOTS.replace("doc_to_text: prompt", "doc_to_text: \"{{ ''.__class__.__mro__[1].__subclasses__() }}\"")
    on_some = SHOTS.replace("doc_to_text: prompt", "doc_to_text: \"{% if prompt[0] == 's' %}{{ absent }}{% endif %}{{ prompt }}\"")
    requests = [
        request(SHOTS),
        request(SHOTS, share=[0.0, 0.25]),
        request(SHOTS, share=[0.25, 1.0]),
        request(SHOTS, batch=2),
        request(SHOTS, samples="hash-only"),
        request(SHOTS.replace("data/choice", "data/strange")),
        request(hostile),
        request(on_some),
        request(task="arc_easy", limit=8),
        request(task="ai2_arc", limit=12),
        request(task="gsm8k"),
        request(SHOTS.replace("multiple_choice", "generate_until")),
        request(task="arc_eazy"),
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    (tmp_path / "control").mkdir()
    variables = worker_variables("lm-eval", tmp_path / "control", "quant_action.harness.worker")
    script = Path(__file__).with_name("harness_requests.py")
    variables |= {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    command = [*CUT, str(Environment("lm-eval").python), str(script), str(tmp_path / "requests.json"), str(tmp_path / "out.json")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, first, rest, batches, hashes, lines, escaped, faulty, suite, group, absent, too_long, unknown = json.loads(
        (tmp_path / "out.json").read_text()
    )

    assert [item["item"] for item in whole] == [str(number) for number in range(12)]
    assert len(first) == 3
    assert sorted([*first, *rest], key=lambda item: int(item["item"])) == whole, "an item's examples do not depend on what else is asked"
    assert len({item["prompt"].rsplit("\n\n", 1)[0] for item in whole}) > 6, "and are not the same for all"
    assert all(item["prompt"].count("\n\n") == 2 for item in whole)
    assert [item["correct"] for item in batches] == [item["correct"] for item in whole]

    assert [(item["item"], item["correct"], item["doc"]) for item in hashes] == [(i["item"], i["correct"], i["doc"]) for i in whole]
    assert set(hashes[0]) == {"task", "item", "correct", "answer", "doc", "prompt_sha256", "answered_sha256"}

    assert lines[0]["prompt"].endswith("two\u2028lines")
    assert lines[0]["expected"] == " a\x85"
    assert escaped["error"].startswith("task t: shots cannot be loaded (SecurityError: access to attribute '__class__'")
    assert faulty["error"] == "task t: shots fails on one of its items (UndefinedError: 'absent' is undefined)"

    assert len(suite) == 8
    assert suite[0]["prompt"] == f"Question: Is {suite[0]['item']} odd?\nAnswer:"
    assert {item["item"].partition("/")[0] for item in group} == {"arc_easy", "arc_challenge"}
    assert len({item["item"] for item in group}) == 12
    assert absent["error"].startswith("task t: the data set of gsm8k is not in the local cache, and models are measured without a network")
    assert "TaskManager().load(['gsm8k'])" in absent["remedy"]
    assert "requested max tokens to generate (256) must be less than model's maximum sequence length (256)" in too_long["error"]
    assert unknown["error"] == "lm-evaluation-harness 0.4.13 has no task 'arc_eazy'"
    assert "arc_easy" in unknown["remedy"]
