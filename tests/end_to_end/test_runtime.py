"""The runtime check: what the libraries write passes, and an artifact that its runtime reads differently does not.

GPTQModel and llm-compressor are in the environment `modern`, which `make test` installs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant_action
from quant_action.model_files import open_model
from quant_action.records import Failure, RuntimeCheck, Verdict
from quant_action.workers.environment import Environment

from .conftest import copy_example
from .conftest import quant_action as command

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not Environment("modern").is_complete, reason="needs: quant-action environments --install modern"),
]

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
calibration: {data: data/calibration.jsonl, samples: 8, tokens: 64}
candidates:
  gptqmodel-w4: {method: gptq, bits: 4, group_size: 64, engine: gptqmodel}
  compressor-w4: {method: gptq, bits: 4, group_size: 64, symmetric: false, engine: llm-compressor}
  awq-w4: {method: awq, bits: 4, group_size: 64, required: true}
evaluation:
  text: {data: data/heldout.jsonl, window: 128}
  runtime: true
gates:
  perplexity_ratio: {vs: baseline, max: 1.5}
"""
UP = "model.layers.1.mlp.up_proj"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of what three engines write, each in another format."""
    folder = copy_example(tmp_path_factory.mktemp("runtime") / "tiny-llama")
    text = folder / "data/heldout.jsonl"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[:24]))
    (folder / "quant.yml").write_text(SPEC)
    ended = command("run", cwd=folder)
    assert ended.code == 0, ended.err
    return folder


def latest(example: Path) -> Path:
    return (example / ".quant/runs/tiny-llama.latest").resolve()


@pytest.mark.parametrize(
    ("candidate", "runtime", "kernels"),
    [
        ("gptqmodel-w4", "gptqmodel", {"TorchAtenLinear": 28}),
        ("compressor-w4", "compressed-tensors", {"compressed-tensors Linear": 28}),
        ("awq-w4", "gptqmodel", {"TorchAtenAwqLinear": 28}),
    ],
)
def test_what_each_engine_writes_runs_as_it_was_scored(example: Path, candidate: str, runtime: str, kernels: dict[str, int]) -> None:
    check = RuntimeCheck.load(latest(example) / f"runtimes/{candidate}.json")
    assert runtime in check.runtime
    assert check.kernels == kernels
    assert (check.dtype, check.tokens, check.layers_compared) == ("bfloat16", 256, 28)
    assert check.worst_layer_share is not None
    assert 0.02 < check.worst_layer_share < 0.7  # not a comparison of something with itself, and well within the limit
    assert check.difference.kl < check.rounding.kl  # 0 for compressed-tensors, which unpacks to the very weights that are scored
    assert check.difference.rms < check.rounding.rms
    assert 0 < check.difference.nll < check.rounding.nll  # scored in float32, run in bfloat16
    assert f"**{candidate}**: ✅ computes what was scored" in (latest(example) / "report.md").read_text()


def flip_a_column_of_codes(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    tensors[f"{UP}.qweight"][100] ^= 0x11111111  # one input of every output


def move_one_zero_point(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    zeros = tensors[f"{UP}.qzeros"]
    zeros[0, 0] += 1 if int(zeros[0, 0]) & 15 < 15 else -1


def swap_the_scales_of_two_layers(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    here, there = f"{UP}.scales", "model.layers.2.mlp.up_proj.scales"
    tensors[here], tensors[there] = tensors[there], tensors[here]


def leave_a_layer_unquantized(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    for part in ("qweight", "qzeros", "scales"):
        del tensors[f"{UP}.{part}"]
    tensors[f"{UP}.weight"] = torch.zeros(256, 128, dtype=torch.bfloat16)
    config["modules_to_not_convert"] = ["lm_head", UP]


def change_another_tensor(tensors: dict[str, torch.Tensor], config: dict[str, object]) -> None:
    tensors["model.norm.weight"] *= 1.1  # no layer shows it, the logits do


DEFECTS: dict[Callable[..., None], tuple[str, str | None]] = {
    flip_a_column_of_codes: ("1 of 28 quantized layers with other weights than were scored", UP),
    move_one_zero_point: ("1 of 28 quantized layers with other weights than were scored", UP),
    swap_the_scales_of_two_layers: ("2 of 28 quantized layers with other weights than were scored", None),
    leave_a_layer_unquantized: ("1 of 28 layers are not run from quantized weights, the first as Linear", UP),
    change_another_tensor: ("disagree beyond rounding: ", None),
}


def test_a_runtime_that_reads_something_else_is_caught(example: Path, tmp_path: Path) -> None:
    scored = latest(example) / "candidates/awq-w4/model"
    for defect in DEFECTS:
        folder = tmp_path / defect.__name__
        shutil.copytree(scored, folder)
        tensors, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
        defect(tensors, config["quantization_config"])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
    request = {
        "model": str(scored),
        "layers": sorted(open_model(example / "model").linear_layers),
        "device": "cpu",
        "states": str(latest(example) / "evaluations/baseline/states"),
        "values": str(latest(example) / "evaluations/awq-w4"),
        "windows": 2,
        "tokens": 128,
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/quant_action").symlink_to(Path(quant_action.__file__).parent)
    script = Path(__file__).with_name("runtime_of_another.py")
    folders = [scored, *(tmp_path / defect.__name__ for defect in DEFECTS)]
    done = subprocess.run(
        [str(part) for part in (Environment("modern").python, script, tmp_path / "request.json", tmp_path / "out.json", *folders)],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "ours")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    honest, *found = json.loads((tmp_path / "out.json").read_text())
    assert honest == {"kernels": {"TorchAtenAwqLinear": 28}}
    for (defect, (message, where)), result in zip(DEFECTS.items(), found, strict=True):
        assert message in result.get("error", ""), (defect.__name__, result)
        assert where in (None, result["where"]), (defect.__name__, result)


def test_an_artifact_that_changed_after_it_was_scored_is_not_evaluated(example: Path, tmp_path: Path) -> None:
    """Of the same size, so that nothing but its runtime notices; here both loaders read it alike, and what was recorded decides."""
    folder = tmp_path / "tiny-llama"
    shutil.copytree(example, folder, symlinks=True)
    weights = (latest(folder) / "candidates/awq-w4").resolve() / "model/model.safetensors"
    tensors = load_file(weights)
    tensors[f"{UP}.scales"] *= 4
    save_file(tensors, weights, metadata={"format": "pt"})
    (latest(folder) / "runtimes/awq-w4.json").resolve().unlink()
    ended = command("run", cwd=folder)
    assert ended.code == 4, ended.err
    assert ended.err.count("cached") == 2 * 3 + 2 + 2
    failure = Failure.load(latest(folder) / "failures/awq-w4.json")
    assert (failure.stage, failure.kind) == ("runtime", "EngineError")
    assert "log-likelihoods differ from those that were scored" in failure.message
    verdict = Verdict.load(latest(folder) / "verdict.json")
    assert {candidate.id: str(candidate.outcome) for candidate in verdict.candidates} == {
        "gptqmodel-w4": "pass",
        "compressor-w4": "pass",
        "awq-w4": "not evaluated",
    }
    assert "runtime of awq-w4: ❌ failed" in ended.out
