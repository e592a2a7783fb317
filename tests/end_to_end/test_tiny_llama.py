"""The main job on the shipped example, from the command line: what a newcomer sees, and what lies on disk afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from quant_action.estimate import BOUND
from quant_action.manifest import Manifest
from quant_action.records import Candidate, Evaluation, Outcome, Plan, Verdict
from quant_action.values import Values
from quant_action.workers.environment import HOST
from quant_action.workers.torch_build import torch_build

from .conftest import EXAMPLE, TOKEN, Finished, quant_action

pytestmark = pytest.mark.end_to_end
CANDIDATES = ("gptq-w4", "awq-w4", "gptq-w3", "bnb-nf4", "bnb-int8")


def record(finished: Finished, name: str) -> Any:
    return json.loads((finished.run / name).read_text())


def test_example_is_small_enough_for_git() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file() and ".quant" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 4_000_000


def test_the_run_is_approved_and_says_where_the_report_lies(finished: Finished) -> None:
    assert finished.ended.code == 0, finished.ended.err
    assert "Approved" in finished.ended.out
    path = next(line.split()[-1] for line in finished.ended.out.splitlines() if "report.html" in line)
    assert (finished.folder / path).is_file()


def test_the_host_s_token_is_in_nothing_that_was_printed_or_written(finished: Finished) -> None:
    assert TOKEN not in finished.ended.out + finished.ended.err
    files = [path for path in (finished.folder / ".quant").rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_three_bits_fail_and_the_others_pass(finished: Finished) -> None:
    verdict = Verdict.load(finished.run / "verdict.json")
    outcomes = {candidate.id: candidate.outcome for candidate in verdict.candidates}
    assert outcomes.pop("gptq-w3") is Outcome.FAIL
    assert outcomes == dict.fromkeys(("gptq-w4", "awq-w4", "bnb-nf4", "bnb-int8"), Outcome.PASS)
    sizes = {id: Candidate.load(finished.run / f"candidates/{id}/candidate.json").weights for id in outcomes}
    assert verdict.winner == min(sizes, key=lambda id: sizes[id])


def test_measurements_order_the_candidates_as_their_bits_do(finished: Finished) -> None:
    found = {id: Evaluation.load(finished.run / f"evaluations/{id}.json").metrics for id in (*CANDIDATES, "baseline")}
    kl = {id: metrics["kl"].value for id, metrics in found.items()}
    assert kl["baseline"] == 0
    assert 0 < kl["bnb-int8"] < min(kl["gptq-w4"], kl["awq-w4"], kl["bnb-nf4"])
    assert max(kl["gptq-w4"], kl["awq-w4"], kl["bnb-nf4"]) < kl["gptq-w3"]
    ratio = {id: metrics["perplexity"].value / found["baseline"]["perplexity"].value for id, metrics in found.items()}
    assert abs(ratio["bnb-int8"] - 1) < 0.005
    assert ratio["gptq-w3"] > 1.015
    assert found["baseline"]["accuracy"].value > 0.8  # far above chance, so there is something to lose


def test_the_baseline_passes_against_itself(finished: Finished) -> None:
    baseline, floor = (Evaluation.load(finished.run / f"evaluations/{id}.json") for id in ("baseline", "floor"))
    assert (floor.subject, floor.artifact, floor.protocol) == ("floor", baseline.artifact, baseline.protocol)
    assert 0 <= floor.metrics["kl"].value < 1e-6
    assert floor.metrics["perplexity"].value == pytest.approx(baseline.metrics["perplexity"].value, rel=1e-6)
    first, second = (Values.load(finished.run / "evaluations" / id) for id in ("baseline", "floor"))
    assert [item["item"] for item in second.items] == [item["item"] for item in first.items]
    assert first.windows is not None
    assert second.windows is not None
    assert floor.bit_identical is (first.items == second.items and bool((first.windows.nll == second.windows.nll).all()))
    assert [check.outcome for check in Verdict.load(finished.run / "verdict.json").floor] == [Outcome.PASS] * 2


@pytest.mark.parametrize("id", CANDIDATES)
def test_each_artifact_is_what_its_manifest_says(finished: Finished, id: str) -> None:
    folder = finished.run / "candidates" / id
    candidate = Candidate.load(folder / "candidate.json")
    manifest = Manifest.load(folder / "manifest.json")
    manifest.verify(folder / "model")
    assert manifest.digest == candidate.artifact
    assert candidate.quantized_layers == 7 * json.loads((EXAMPLE / "model/config.json").read_text())["num_hidden_layers"]
    assert (folder / "log.txt").read_text().startswith("$ ")


def test_gptq_checkpoint_has_the_ecosystem_s_layout(finished: Finished) -> None:
    model = finished.run / "candidates/gptq-w4/model"
    config = json.loads((model / "config.json").read_text())
    quantization = config["quantization_config"]
    wanted = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": False, "checkpoint_format": "gptq"}
    assert {key: quantization[key] for key in wanted} == wanted
    inputs, outputs = config["hidden_size"], config["intermediate_size"]
    with safe_open(model / "model.safetensors", framework="np") as file:
        shapes = {
            part: tuple(file.get_slice(f"model.layers.0.mlp.up_proj.{part}").get_shape())
            for part in ("qweight", "qzeros", "scales", "g_idx")
        }
    assert shapes == {
        "qweight": (inputs // 8, outputs),
        "qzeros": (inputs // 64, outputs // 8),
        "scales": (inputs // 64, outputs),
        "g_idx": (inputs,),
    }


def test_awq_checkpoint_has_the_gemm_layout(finished: Finished) -> None:
    model = finished.run / "candidates/awq-w4/model"
    config = json.loads((model / "config.json").read_text())
    wanted = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}
    assert {key: config["quantization_config"][key] for key in wanted} == wanted
    inputs, outputs = config["hidden_size"], config["intermediate_size"]
    with safe_open(model / "model.safetensors", framework="np") as file:
        assert tuple(file.get_slice("model.layers.0.mlp.up_proj.qweight").get_shape()) == (inputs, outputs // 8)


def test_values_beside_an_evaluation_give_its_numbers(finished: Finished) -> None:
    for id in ("baseline", "gptq-w3"):
        metrics = Evaluation.load(finished.run / f"evaluations/{id}.json").metrics
        values = Values.load(finished.run / "evaluations" / id)
        assert values.windows is not None
        assert metrics["kl"].value == pytest.approx(float(values.windows.kl.mean()), rel=1e-9, abs=1e-12)
        assert metrics["kl"].n == len(values.windows.kl)
        correct = values.correct()
        assert metrics["accuracy"].value == pytest.approx(sum(correct.values()) / len(correct))


def test_every_file_of_the_report(finished: Finished) -> None:
    markdown = (finished.run / "report.md").read_text()
    heading = next(line for line in markdown.splitlines() if line.startswith("#"))
    assert f"Approved: release {record(finished, 'verdict.json')['winner']}" in heading.replace("`", "").replace("*", "")
    assert all(f"{id}" in markdown for id in CANDIDATES)
    html = (finished.run / "report.html").read_text()
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org/", "").replace("http-equiv", "")
    suites = ET.parse(finished.run / "junit.xml").getroot()
    failed = [case.get("classname") or case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None]
    assert failed
    flat = record(finished, "metrics.json")
    assert all(isinstance(value, int | float) for value in flat.values())
    assert any(key.startswith("gptq-w4") for key in flat)


def test_second_run_does_nothing_again_and_says_so(finished: Finished, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.folder / ".quant/cache").rglob("*.json")}
    again = quant_action("run", "--json", cwd=finished.folder)
    assert again.code == 0
    assert again.err.count("cached") == 2 * len(CANDIDATES) + 2
    assert {path: path.stat().st_mtime_ns for path in (finished.folder / ".quant/cache").rglob("*.json")} == before
    assert json.loads(again.out)["winner"] == Verdict.load(finished.run / "verdict.json").winner


@pytest.mark.parametrize("id", ["baseline", "floor", *CANDIDATES])
def test_memory_was_estimated_within_a_quarter(finished: Finished, id: str) -> None:
    """Of engines by themselves: `tests/contracts/test_engines.py`."""
    records: list[Candidate | Evaluation] = [Evaluation.load(finished.run / f"evaluations/{id}.json")]
    if id in CANDIDATES:
        records.append(Candidate.load(finished.run / f"candidates/{id}/candidate.json"))
    for record in records:
        assert record.estimate is not None
        build = torch_build(HOST)
        if build and build.cuda is None:  # see tests/contracts/test_engines.py
            assert record.estimate.memory == pytest.approx(record.peak_memory, rel=0.25)
        assert record.estimate.gpu_memory is None


def test_later_plans_learn_from_what_was_measured(finished: Finished) -> None:
    planned = json.loads(quant_action("plan", "--json", cwd=finished.folder).out)["estimates"]
    assert planned["total"]["seconds"] == 0
    baseline = Evaluation.load(finished.run / "evaluations/baseline.json")
    assert baseline.estimate is not None
    slower = baseline.seconds / baseline.estimate.seconds
    of_baseline = planned["jobs"]["baseline"]["evaluate"]
    assert of_baseline["earlier_runs"] == 1
    assert of_baseline["memory"] == pytest.approx(baseline.peak_memory, abs=1)
    assert of_baseline["seconds"] == pytest.approx(baseline.estimate.seconds * min(max(slower, 1 / BOUND), BOUND))
    assert planned["jobs"]["gptq-w4"]["quantize"]["earlier_runs"] == 2  # the other one of its engine and method had three bits


def test_plan_marks_what_is_cached(finished: Finished) -> None:
    planned = json.loads(quant_action("plan", "--json", cwd=finished.folder).out)
    assert planned["cached"] == dict.fromkeys(CANDIDATES, True)
    assert planned["key"] == Plan.load(finished.run / "plan.json").key


def test_another_cache_gives_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for id in ("gptq-w4", "bnb-int8"):  # the contract of the engines has the others
        ended = quant_action("quantize", "--candidate", id, "--cache", cache, cwd=finished.folder)
        assert ended.code == 0, ended.err
        first = Candidate.load(finished.run / f"candidates/{id}/candidate.json")
        second = Candidate.load(cache / "candidates" / first.key / "candidate.json")
        assert second.artifact == first.artifact
        Manifest.load(cache / "candidates" / first.key / "manifest.json").verify(
            finished.run.parent.parent / "cache/candidates" / first.key / "model"
        )
    quant_action("run", cwd=finished.folder)  # the run folder points to its own cache again


def test_judging_again_needs_neither_model_nor_data(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished.folder, folder, symlinks=True)
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "data")
    before = (folder / ".quant/runs/tiny-llama.latest/verdict.json").read_bytes()
    assert quant_action("judge", cwd=folder).code == 0
    assert (folder / ".quant/runs/tiny-llama.latest/verdict.json").read_bytes() == before
    spec = folder / "quant.yml"
    spec.write_text(spec.read_text().replace("perplexity_ratio:", "top1: {min: 0.99999}\n  perplexity_ratio:"))
    rejected = quant_action("judge", "--json", cwd=folder)
    assert rejected.code == 1
    assert json.loads(rejected.out)["decision"] == "rejected"
    assert quant_action("report", cwd=folder).code == 0
    assert "Rejected" in (folder / ".quant/runs/tiny-llama.latest/report.md").read_text()


@pytest.mark.parametrize("command", ["plan", "check"])
def test_planning_on_a_real_model_imports_nothing_heavy(command: str) -> None:
    """In a process of its own: what is loaded when the command has answered."""
    program = (
        "import sys; from quant_action.cli import main; code = main(sys.argv[1:]);"
        "print(code, sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'scipy', 'matplotlib'}))"
    )
    spec = EXAMPLE / "quant.yml"
    done = subprocess.run([sys.executable, "-c", program, command, str(spec)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
