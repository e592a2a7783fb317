from __future__ import annotations

import json
import re
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from quant_action.cli import main
from quant_action.errors import DataError, InputError
from quant_action.gates import Measured, gate_limits
from quant_action.guide import GOALS, GUIDE, HARDWARE, SUGGESTIONS, Goal, Hardware
from quant_action.init import (
    Answers,
    ChosenModel,
    Outcome,
    choose_calibration,
    choose_model,
    choose_name,
    default_name,
    quoted,
    render_spec,
    write_project,
)
from quant_action.inputs import open_inputs
from quant_action.plan import make_plan
from quant_action.spec import load_spec, parse_spec

from .conftest import write_model, write_rows

COMMIT = "1234567890123456789012345678901234567890"
HUB = ChosenModel(source="acme/Support-8B", revision=COMMIT, files=None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a model and nothing else; the model's layers have 64 and 96 inputs."""
    write_model(tmp_path / "model")
    return tmp_path


def answers(
    folder: Path,
    *,
    model: ChosenModel | None = None,
    goal: Goal = "smallest",
    hardware: Hardware = "gpu",
    calibration: str | None = "data/calibration.jsonl",
) -> Answers:
    model = model or choose_model("model", None, folder)
    return Answers(folder=folder, name="support-8b", model=model, goal=goal, hardware=hardware, calibration=calibration)


def states(outcomes: list[Outcome], folder: Path) -> dict[str, str]:
    return {outcome.path.relative_to(folder).as_posix(): outcome.state for outcome in outcomes}


def put_data(folder: Path) -> None:
    write_rows(folder / "data/calibration.jsonl", [{"text": f"calibration row {number} about apples"} for number in range(8)])
    write_rows(folder / "data/heldout.jsonl", [{"text": f"held-out row {number} about pears"} for number in range(8)])
    write_rows(folder / "data/choice.jsonl", [{"prompt": f"What is {n}?", "choices": [f" {n}", " no"], "answer": 0} for n in range(5)])


@pytest.mark.parametrize(("goal", "data", "hardware"), list(product(GOALS, (True, False), HARDWARE)))
def test_every_spec_is_planned_once_there_is_data(project: Path, goal: Goal, data: bool, hardware: Hardware) -> None:
    write_project(answers(project, goal=goal, hardware=hardware, calibration="data/calibration.jsonl" if data else None))
    put_data(project)
    loaded = load_spec(project / "quant.yml")
    plan = make_plan(loaded, open_inputs(loaded), "NVIDIA H200" if hardware == "gpu" else "cpu x86_64")
    assert tuple(job.id for job in plan.jobs) == GUIDE[goal, data, hardware]
    assert {job.engine for job in plan.jobs} <= {"native", "bitsandbytes"}
    assert all(job.scheme.group_size == 32 for job in plan.jobs if job.scheme.method != "bitsandbytes")
    assert (plan.calibration is not None) == data


@pytest.mark.parametrize("goal", GOALS)
def test_each_candidate_stands_below_its_reason(project: Path, goal: Goal) -> None:
    lines = render_spec(answers(project, goal=goal)).splitlines()
    for name in GUIDE[goal, True, "gpu"]:
        assert lines[lines.index(f"  # {SUGGESTIONS[name].reason}") + 1].startswith(f"  {name}: {{method: ")


def test_the_budget_that_the_comments_state_is_the_one_that_applies(project: Path) -> None:
    text = render_spec(answers(project))
    loaded = parse_spec(text, project / "quant.yml")
    assert loaded.spec.gates is None
    for ratio, bits in re.findall(r"([\d.]+) \((\d) bits\)", text):
        measured = Measured(text=True, tasks={"choice": 800}, slices={}, generations=0)
        limits = {limit.gate: limit.limit for limit in gate_limits(loaded, int(bits), measured) if limit.vs == "baseline"}
        assert limits == {"perplexity_ratio": float(ratio), "accuracy": -0.01 if bits == "8" else -0.02}
    example = "\n".join(line.removeprefix("# ") for line in text.splitlines() if re.match(r"# (gates:|  \w+: \{)", line))
    assert parse_spec(f"{text}\n{example}\n", project / "quant.yml").spec.gates is not None


def test_samples_are_no_longer_than_the_model_reads(project: Path) -> None:
    config = json.loads((project / "model/config.json").read_text())
    (project / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 256}))
    spec = parse_spec(render_spec(answers(project)), project / "quant.yml").spec
    assert spec.calibration is not None
    assert spec.evaluation.text is not None
    assert (spec.calibration.samples, spec.calibration.tokens, spec.evaluation.text.window) == (128, 256, 256)
    spec = parse_spec(render_spec(answers(project, model=HUB, hardware="cpu")), project / "quant.yml").spec
    assert spec.calibration is not None
    assert (spec.calibration.samples, spec.calibration.tokens) == (32, 512)


def test_a_hub_model_that_could_not_be_looked_at_gets_groups_of_128_and_says_so(project: Path) -> None:
    text = render_spec(answers(project, model=HUB))
    spec = parse_spec(text, project / "quant.yml").spec
    assert (spec.model.source, spec.model.revision) == ("acme/Support-8B", COMMIT)  # a commit of digits only is still text
    assert "group_size: 128" in text
    assert "could not be looked at" in text


@pytest.mark.parametrize("text", ["data/a b.jsonl", "data/{x}: y.jsonl", "'\"#", "0e1", "no", "ünï/☃.jsonl", "a: b", "1_000"])
def test_any_text_survives_yaml(text: str) -> None:
    assert yaml.safe_load(f"{{x: {quoted(text)}}}") == {"x": text}


# Stubs --------------------------------------------------------------------------------------------------------------


def test_stubs_are_refused_all_at_once(project: Path) -> None:
    write_project(answers(project))
    with pytest.raises(DataError) as caught:
        open_inputs(load_spec(project / "quant.yml"))
    data = project / "data"
    assert str(caught.value) == (
        f"{data}/calibration.jsonl:1: still has an example row of `quant-action init`"
        f" (and so do {data}/heldout.jsonl:1, {data}/choice.jsonl:1)"
    )
    assert caught.value.remedy == "Replace every row that has the key quant_action_stub with your own data."


def test_a_stub_left_among_real_rows_is_found(project: Path) -> None:
    write_project(answers(project))
    stub = (project / "data/heldout.jsonl").read_text().splitlines()[0]
    put_data(project)
    with (project / "data/heldout.jsonl").open("a") as file:
        file.write(stub)
    with pytest.raises(DataError, match=re.escape("heldout.jsonl:9: still has an example row")):
        open_inputs(load_spec(project / "quant.yml"))


def test_stubs_without_their_mark_are_rows_as_they_should_be(project: Path) -> None:
    write_project(answers(project))
    for path in (project / "data").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert all(row.pop("quant_action_stub") for row in rows)
        write_rows(path, rows)
    assert open_inputs(load_spec(project / "quant.yml")).tasks["choice"].rows == 2


# What is there already ----------------------------------------------------------------------------------------------


def test_a_second_call_changes_nothing(project: Path) -> None:
    first = states(write_project(answers(project)), project)
    assert first == dict.fromkeys(
        ("quant.yml", "data/calibration.jsonl", "data/heldout.jsonl", "data/choice.jsonl", ".gitignore", ".github/workflows/quant.yml"),
        "wrote",
    )
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    outcomes = write_project(answers(project))
    assert states(outcomes, project) == dict.fromkeys(first, "kept")
    assert [outcome.path.name for outcome in outcomes if outcome.stub] == ["calibration.jsonl", "heldout.jsonl", "choice.jsonl"]
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_another_spec_is_refused_before_anything_is_written(project: Path) -> None:
    (project / "quant.yml").write_text("version: 1\n")
    with pytest.raises(InputError, match=r"quant\.yml: is there already, and init never overwrites"):
        write_project(answers(project))
    assert sorted(path.name for path in project.iterdir()) == ["model", "quant.yml"]


def test_data_and_workflow_that_are_there_are_kept(project: Path) -> None:
    put_data(project)
    (project / ".github/workflows").mkdir(parents=True)
    (project / ".github/workflows/quant.yml").write_text("name: mine\n")
    (project / "data/choice.jsonl").unlink()
    found = states(write_project(answers(project)), project)
    assert found["data/calibration.jsonl"] == found["data/heldout.jsonl"] == found[".github/workflows/quant.yml"] == "kept"
    assert found["data/choice.jsonl"] == "wrote"
    assert (project / ".github/workflows/quant.yml").read_text() == "name: mine\n"


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (None, ".quant/\n", "wrote"),
        ("", ".quant/\n", "added to"),
        ("*.pyc\n", "*.pyc\n.quant/\n", "added to"),
        ("*.pyc", "*.pyc\n.quant/\n", "added to"),
        ("a\r\nb", "a\r\nb\r\n.quant/\r\n", "added to"),
        ("# .quant/\n", "# .quant/\n.quant/\n", "added to"),
        ("/.quant\n", "/.quant\n", "kept"),
        ("x\n.quant/ \ny\n", "x\n.quant/ \ny\n", "kept"),
    ],
)
def test_gitignore_gets_one_line_if_it_lacks_it(project: Path, before: str | None, after: str, state: str) -> None:
    path = project / ".gitignore"
    if before is not None:
        path.write_bytes(before.encode())
    assert states(write_project(answers(project)), project)[".gitignore"] == state
    assert path.read_bytes().decode() == after
    write_project(answers(project))
    assert path.read_bytes().decode() == after


# The workflow -------------------------------------------------------------------------------------------------------


def workflow(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text()))


def test_the_workflow_is_safe_on_a_runner_of_ones_own(project: Path) -> None:
    write_project(answers(project))
    found = workflow(project / ".github/workflows/quant.yml")
    assert found["permissions"] == {"contents": "read"}
    assert found["concurrency"] == {"group": "quant-${{ github.ref }}", "cancel-in-progress": True}
    assert set(found[True]) == {"pull_request", "push", "workflow_dispatch"}  # YAML 1.1 reads `on` so
    (job,) = found["jobs"].values()
    assert job["if"] == "github.event_name != 'pull_request' || github.event.pull_request.head.repo.full_name == github.repository"
    assert job["runs-on"] == ["self-hosted", "linux", "gpu"]
    for step in job["steps"]:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", f"a@{COMMIT}"))
    assert job["steps"][0]["with"] == {"persist-credentials": False}
    assert job["env"]["QUANT_ACTION"] == "${{ vars.QUANT_ACTION }}", "no package's bare name, which anybody may claim on an index"
    assert "secrets" not in (project / ".github/workflows/quant.yml").read_text()


def test_the_workflow_watches_what_decides_the_result(project: Path) -> None:
    write_rows(project / "text [1].jsonl", [{"text": "a"}])
    write_project(answers(project, calibration="text [1].jsonl"))
    trigger = workflow(project / ".github/workflows/quant.yml")[True]
    paths = ["quant.yml", "data/**", r"text \[1\].jsonl", "model/**", ".github/workflows/quant.yml"]
    assert trigger["pull_request"]["paths"] == trigger["push"]["paths"] == paths


def test_the_workflow_of_a_project_inside_a_repository(project: Path) -> None:
    (project / ".git").mkdir()
    inner = project / "models/my tiny"
    inner.mkdir(parents=True)
    write_project(answers(inner, model=HUB, hardware="cpu"))
    found = workflow(project / ".github/workflows/quant-support-8b.yml")
    (job,) = found["jobs"].values()
    assert job["env"]["SPEC"] == "models/my tiny/quant.yml"
    assert job["env"]["REPORT"] == "models/my tiny/.quant/runs/support-8b.latest/report.md"
    assert job["runs-on"] == ["self-hosted", "linux"]
    assert job["steps"][2]["env"] == {"HF_TOKEN": "${{ secrets.HF_TOKEN }}"}
    assert found[True]["push"]["paths"][0] == "models/my tiny/quant.yml"
    assert (inner / ".gitignore").exists()


def test_a_folder_that_a_workflow_would_evaluate_is_refused(project: Path) -> None:
    (project / ".git").mkdir()
    with pytest.raises(InputError, match="cannot hold safely"):
        write_project(answers(project / "${{ github.token }}", model=HUB))
    assert not (project / ".github").exists()


# Answers ------------------------------------------------------------------------------------------------------------


def test_a_model_is_found_from_here_and_from_the_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_model("model", None, project).source == "model"
    monkeypatch.chdir(project.parent)
    (project / "sub").mkdir()
    assert choose_model(f"{project.name}/model", None, project / "sub").source == "../model"
    assert choose_model(str(project / "model"), None, project).source == "model"
    assert choose_model(str(project / "model"), None, project / "sub").source == str(project / "model")


@pytest.mark.parametrize(
    ("text", "revision", "message"),
    [
        ("nowhere", None, "--model: 'nowhere' is neither a folder nor a Hub id"),
        ("", None, "--model: '' is neither a folder nor a Hub id"),
        ("model", COMMIT, "--model: 'model' is a folder, which has no --revision"),
    ],
)
def test_models_that_will_not_do(project: Path, text: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        choose_model(text, revision, project)


def test_a_model_that_cannot_be_quantized_is_refused(project: Path) -> None:
    (project / "model/model.safetensors").rename(project / "model/pytorch_model.bin")
    with pytest.raises(InputError, match="has pickled weights only"):
        choose_model("model", None, project)


@pytest.mark.parametrize("text", ["../elsewhere.jsonl", "/etc/passwd", "", "data"])
def test_calibration_data_lies_in_the_repository(project: Path, text: str) -> None:
    (project / "data").mkdir()
    with pytest.raises(InputError, match=r"--calibration: .* is no file below"):
        choose_calibration(text, project)


def test_calibration_data_from_here_or_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_calibration("none", project) is None
    assert choose_calibration("data/yet to come.jsonl", project) == "data/yet to come.jsonl"
    put_data(project)
    monkeypatch.chdir(project / "data")
    assert choose_calibration("heldout.jsonl", project) == "data/heldout.jsonl"


@pytest.mark.parametrize(
    ("source", "revision", "folder", "name"),
    [
        ("acme/Support_8B.v2", COMMIT, "x", "support-8b-v2"),
        ("model", None, "My Model!", "my-model"),
        ("model", None, "___", "model"),
        ("acme/" + "a-" * 40, COMMIT, "x", ("a-" * 32)[:63]),
    ],
)
def test_the_name_comes_from_the_id_or_the_folder(tmp_path: Path, source: str, revision: str | None, folder: str, name: str) -> None:
    found = default_name(ChosenModel(source=source, revision=revision, files=None), tmp_path / folder)
    assert found == choose_name(found) == name


def test_names_that_a_spec_does_not_allow() -> None:
    with pytest.raises(InputError, match="--name: 'A b' is no name"):
        choose_name("A b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model, --goal, --calibration must be given"),
        (["--goal", "easy"], "--model, --calibration must be given"),
        (["--model", "model", "--calibration", "none"], "--goal must be given"),
        (["--model", "model", "--calibration", "none", "--goal", "fast"], "--goal: 'fast' is not one of smallest, accurate, easy"),
        (["--model", "model", "--calibration", "none", "--goal", "easy", "--hardware", "tpu"], "--hardware: 'tpu' is not one of cpu, gpu"),
    ],
)
def test_flags_that_are_missing_or_wrong_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(project)
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in project.iterdir()] == ["model"]


def test_what_was_written_and_what_comes_next_is_printed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    shutil.move(project / "model", project / "own/model")
    assert main(["init", "own", "--model", "model", "--calibration", "none", "--goal", "easy", "--hardware", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote     own/quant.yml",
        "wrote     own/data/heldout.jsonl  (example rows, to be replaced)",
        "wrote     own/data/choice.jsonl  (example rows, to be replaced)",
        "wrote     own/.gitignore",
        "wrote     own/.github/workflows/quant.yml",
        "next: put your own rows into own/data/heldout.jsonl, own/data/choice.jsonl, then quant-action check own/quant.yml",
    ]
