"""`check` and the estimates of `plan` on a workspace, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quant_action import pipeline, preflight, session
from quant_action.cli import main
from quant_action.engines import Installed, engines
from quant_action.errors import EngineError, EnvironmentMissing
from quant_action.findings import Finding, Findings
from quant_action.hardware import Machine
from quant_action.session import Settings
from quant_action.workers.torch_build import TorchBuild

from .machines import A100, GIB, machine

Edit = Callable[[str, str], Path]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let commands find another machine, with a torch of its own."""

    def use(here: Machine, build: TorchBuild) -> None:
        for module in (session, preflight):
            monkeypatch.setattr(module, "read_machine", lambda: here)
            monkeypatch.setattr(module, "torch_build", lambda name: build)

    return use


WITHOUT_CUDA = TorchBuild(version="2.13.0+cpu", cuda=None, installed=True)


def findings(path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, list[Finding]]:
    assert main(["check", str(path), "--json", *arguments]) == code
    record = Findings.from_json(capsys.readouterr().out, where="stdout")
    assert record.exit_code == code
    found: dict[str, list[Finding]] = {}
    for finding in record.findings:
        found.setdefault(finding.subject, []).append(finding)
    return found


def test_a_spec_that_is_fine(workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]) -> None:
    on(machine(), WITHOUT_CUDA)
    found = findings(workspace / "quant.yml", capsys, code=0)
    assert {"spec", "model", "data", "candidates", "device", "torch", "memory", "disk"} <= found.keys()
    assert found["candidates"][0].message == "gptq-w4 (native), bnb-nf4 (bitsandbytes): every layer fits"
    assert main(["check", str(workspace / "quant.yml")]) == 0
    out = capsys.readouterr().out
    assert "✓  device" in out
    assert "1 warning" in out  # a few rows are no evidence
    assert "20 windows are the least" in " ".join(out.split())


def test_tasks_of_the_harness_need_its_environment(
    workspace: Path,
    edit_spec: Edit,
    capsys: pytest.CaptureFixture[str],
    on: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUANT_ACTION_ENVIRONMENTS", str(workspace / "environments"))
    on(machine(), WITHOUT_CUDA)
    edit_spec("gates:\n", "gates:\n  accuracy: {vs: baseline, margin: 0.1}\n")
    path = edit_spec("kind: choice}", "kind: choice}\n    gsm8k: {lm_eval: gsm8k, limit: 2000}")
    found = findings(path, capsys, code=0)
    assert found["environment lm-eval"][0].remedy == "quant-action environments --install lm-eval"
    assert "2,005 items" in found["accuracy"][0].message


def test_every_candidate_and_every_layer_that_does_not_fit_is_named(
    workspace: Path, edit_spec: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_spec("  bnb-nf4:", "  wide: {method: awq, bits: 4, group_size: 48}\n  odd: {method: rtn, bits: 5, group_size: 64}\n  bnb-nf4:")
    found = findings(edit_spec("group_size: 32", "group_size: 64"), capsys, code=2)
    (first,) = found["candidate gptq-w4"]
    assert first.message.endswith("groups of 64 do not divide the 96 inputs of model.layers.{0-1}.mlp.down_proj")
    assert str(first.where).endswith("quant.yml:6:36")
    (wide,) = found["candidate wide"]
    assert wide.message.endswith("the 64 inputs of model.layers.{0-1}.mlp.up_proj, model.layers.{0-1}.self_attn.q_proj")
    groups, bits = found["candidate odd"]
    assert "groups of 64" in groups.message
    assert "no engine can do this" in bits.message
    assert found["candidates"][0].message == "bnb-nf4 (bitsandbytes): every layer fits"
    assert "memory" in found
    assert "disk" in found


def test_a_broken_spec_a_broken_model_and_broken_data(workspace: Path, edit_spec: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "model/tokenizer.json").unlink()
    assert "has no tokenizer" in findings(workspace / "quant.yml", capsys, code=2)["model"][0].message
    (workspace / "data/heldout.jsonl").write_text("no\n")
    assert "is not JSON" in findings(workspace / "quant.yml", capsys, code=2)["data"][0].message
    found = findings(edit_spec("bits: 4", "bit: 4"), capsys, code=2)
    assert "bit" in found["spec"][0].message
    assert "torch" in found, "the machine is looked at all the same"


def test_what_the_model_cannot_read_is_a_finding(workspace: Path, edit_spec: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((workspace / "model/config.json").read_text())
    (workspace / "model/config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    path = edit_spec("gates:\n", "  latency: {prefill: [65]}\ngates:\n")
    assert findings(path, capsys, code=2)["evaluation"][0].message == "a prompt of 65 tokens is more than the model's context of 64"


def test_a_gpu_that_is_not_there(workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]) -> None:
    on(machine(), WITHOUT_CUDA)
    found = findings(workspace / "quant.yml", capsys, "--device", "cuda", code=4)
    assert found["GPU"][0].message == "no NVIDIA GPU (or no driver) on this machine"
    assert "candidates" in found, "the spec is looked at all the same"


def test_check_and_run_say_the_same_of_a_torch_without_cuda(
    workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]
) -> None:
    on(machine(A100), WITHOUT_CUDA)
    found = findings(workspace / "quant.yml", capsys, code=4)["torch"][0]
    assert found.level == "error"
    with pytest.raises(EnvironmentMissing) as caught:
        pipeline.quantize_only(Settings(spec=workspace / "quant.yml"), None, listener=None)  # type: ignore[arg-type]
    assert (str(caught.value), caught.value.remedy) == (found.message, found.remedy)
    assert not (workspace / ".quant").exists()


def test_a_container_that_is_too_small_is_told_with_the_job(
    workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]
) -> None:
    on(machine(memory_limit=GIB // 4), WITHOUT_CUDA)
    (found,) = findings(workspace / "quant.yml", capsys, code=4)["memory"]
    assert found.message.endswith("this container's limit is 268 MB")
    assert all(name in found.message for name in ("scoring baseline", "quantizing gptq-w4", "scoring bnb-nf4"))


def test_a_broken_package_is_told_beside_who_asks_for_it(
    workspace: Path,
    edit_spec: Edit,
    capsys: pytest.CaptureFixture[str],
    on: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(machine(), WITHOUT_CUDA)
    error = EngineError("engine theirs of theirs 2.0 cannot be loaded", where="theirs:ENGINE", remedy="Mend theirs.")
    there = Installed(engines=engines(), broken={"theirs": error})
    for module in ("quant_action.engines.installed", "quant_action.preflight.installed"):
        monkeypatch.setattr(module, lambda: there)
    found = findings(workspace / "quant.yml", capsys, code=0)
    assert (found["engines"][0].level, found["engines"][0].where) == ("warning", "theirs:ENGINE")
    found = findings(edit_spec("method: bitsandbytes", "engine: theirs, method: bitsandbytes"), capsys, code=4)
    (asked,) = found["candidate bnb-nf4"]
    assert (asked.level, asked.message, asked.remedy) == ("error", "engine theirs of theirs 2.0 cannot be loaded", "Mend theirs.")
    assert found["candidates"][0].message == "gptq-w4 (native): every layer fits"


def test_plan_shows_what_each_process_will_take(workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]) -> None:
    on(machine(), WITHOUT_CUDA)
    assert main(["plan", str(workspace / "quant.yml"), "--json"]) == 0
    planned: dict[str, Any] = json.loads(capsys.readouterr().out)
    jobs, total = planned["estimates"]["jobs"], planned["estimates"]["total"]
    assert list(jobs) == ["baseline", "floor", "gptq-w4", "bnb-nf4"]
    assert jobs["baseline"]["quantize"] is jobs["floor"]["quantize"] is None
    assert jobs["floor"]["evaluate"]["disk"] < jobs["baseline"]["evaluate"]["disk"]
    steps = [step for job in jobs.values() for step in job.values() if step]
    assert total["seconds"] == pytest.approx(sum(step["seconds"] for step in steps))
    assert total["disk"] == sum(step["disk"] for step in steps)
    assert total["memory"] == max(step["memory"] for step in steps)
    assert all(step["earlier_runs"] == 0 and step["gpu_memory"] is None for step in steps)
    assert main(["plan", str(workspace / "quant.yml")]) == 0
    out = capsys.readouterr().out
    assert out.count("not measured here yet") == 6
    assert "still to do" in out
    assert "GPU memory" not in out


def test_plan_with_a_release_and_looks(
    workspace: Path, edit_spec: Edit, capsys: pytest.CaptureFixture[str], on: Callable[..., None]
) -> None:
    on(machine(), WITHOUT_CUDA)
    once = json.loads(planned_json(workspace / "quant.yml", capsys))
    spec = edit_spec("evaluation:\n", "evaluation:\n  looks: [0.25, 0.5, 1]\n")
    shutil.copytree(workspace / "model", workspace / "v1.2.0")
    planned = json.loads(planned_json(spec, capsys, "--release", str(workspace / "v1.2.0")))
    assert planned["release"]["source"] == "v1.2.0"
    assert str(workspace) not in json.dumps(planned["release"])
    assert planned["looks"] == [0.25, 0.5, 1]
    jobs = planned["estimates"]["jobs"]
    assert list(jobs) == ["baseline", "floor", "release", "gptq-w4", "bnb-nf4"]
    # each look is a process that loads the model again
    assert jobs["bnb-nf4"]["evaluate"]["seconds"] > 2.5 * once["estimates"]["jobs"]["bnb-nf4"]["evaluate"]["seconds"]
    assert main(["plan", str(spec), "--release", str(workspace / "v1.2.0")]) == 0
    out = capsys.readouterr().out
    assert "release: v1.2.0, LlamaForCausalLM" in out
    assert "looks: after 25%, 50%, 100% of the items" in out


def planned_json(spec: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", str(spec), "--json", *arguments]) == 0
    return capsys.readouterr().out


def test_check_looks_at_the_release(workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]) -> None:
    on(machine(), WITHOUT_CUDA)
    (good,) = findings(workspace / "quant.yml", capsys, "--release", str(workspace / "model"), code=0)["release"]
    assert good.message.startswith("LlamaForCausalLM, ")
    found = findings(workspace / "quant.yml", capsys, "--release", str(workspace / "v0"), code=2)
    assert (found["release"][0].level, found["release"][0].message) == ("error", "no such folder")
    assert "memory" in found  # all else is looked at, too


def test_plan_for_a_gpu_has_its_memory(workspace: Path, capsys: pytest.CaptureFixture[str], on: Callable[..., None]) -> None:
    on(machine(A100), WITHOUT_CUDA)
    assert main(["plan", str(workspace / "quant.yml")]) == 0
    assert "GPU memory" in capsys.readouterr().out
