"""Bad input and broken machines: one clear error, the right exit code, nothing lost, and a rerun that continues."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import COMMAND, Finished, copy_example, quant_action

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of tiny-llama with one quick candidate and little to measure."""
    folder = copy_example(tmp_path / "tiny-llama")
    for name, rows in (("heldout.jsonl", 12), ("choice.jsonl", 8), ("generate.jsonl", 4)):
        path = folder / "data" / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))
    (folder / "quant.yml").write_text(
        """\
version: 1
name: tiny-llama
model: {source: model}
calibration: {data: data/calibration.jsonl, samples: 8, tokens: 64}
candidates:
  gptq-w4: {method: gptq, bits: 4, group_size: 64}
  rtn-w8: {method: rtn, bits: 8, group_size: 64}
evaluation:
  text: {data: data/heldout.jsonl, window: 32}
  tasks:
    facts: {data: data/choice.jsonl, kind: choice}
gates:
  perplexity_ratio: {vs: baseline, max: 1.5}
"""
    )
    return folder


def break_nothing(folder: Path) -> None:
    pass


def break_tensor(value: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model/model.safetensors"
        tensors = load_file(path)
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        save_file(tensors, path, metadata={"format": "pt"})

    return damage


def truncate(folder: Path) -> None:
    path = folder / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(folder: Path) -> None:
    torch.save({}, folder / "model/pytorch_model.bin")
    (folder / "model/model.safetensors").unlink()


def remote_code(folder: Path) -> None:
    path = folder / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (folder / "model/evil.py").write_text("raise SystemExit('ran remote code')")


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "quant.yml").read_text()
        assert old in text
        (folder / "quant.yml").write_text(text.replace(old, new))

    return change


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return change


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (lambda folder: (folder / "quant.yml").unlink(), 2, "quant.yml: no such file"),
        (edit("version: 1", "version: [1"), 2, "quant.yml:2:5: is not YAML that a spec may hold"),
        (edit("bits: 4", "bitz: 4"), 2, "quant.yml:6:27: candidates.gptq-w4.bitz: unknown key; did you mean 'bits'?"),
        (edit("name: tiny-llama", "name: tiny-llama\nname: b"), 2, "quant.yml:3:1: duplicate key 'name'"),
        (edit("bits: 4", "bits: four"), 2, "quant.yml:6:27: candidates.gptq-w4.bits: Input should be a valid integer (found 'four')"),
        (
            edit("bits: 4, group_size: 64", "bits: 4, group_size: 96"),
            2,
            "groups of 96 do not divide the 256 inputs of model.layers.{0-3}.mlp.down_proj",
        ),
        (edit("bits: 4", "bits: 5"), 2, "quant.yml:6:3: candidate gptq-w4: no engine can do this (native: "),
        (edit("data/heldout", "data/absent"), 2, "data/absent.jsonl: cannot be read (No such file or directory)"),
        (append("data/heldout.jsonl", "{oops\n"), 2, "data/heldout.jsonl:13: is not JSON"),
        (lambda folder: (folder / "data/calibration.jsonl").write_text(""), 2, "data/calibration.jsonl: has no rows"),
        (edit("samples: 8", "samples: 100000"), 2, "tokens; 100000 samples of 64 need"),
        (
            lambda folder: shutil.copy(folder / "data/calibration.jsonl", folder / "data/heldout.jsonl"),
            2,
            "this text is also calibrated on",
        ),
        (lambda folder: (folder / "model/model.safetensors").unlink(), 2, "model: has no weights"),
        (pickled, 2, "has pickled weights only (pytorch_model.bin)"),
        (truncate, 2, "model.safetensors: is truncated or damaged"),
        (break_tensor(float("nan")), 2, "model.layers.1.mlp.up_proj.weight holds NaN or infinite values"),
        (break_tensor(float("inf")), 2, "model.layers.1.mlp.up_proj.weight holds NaN or infinite values"),
        (remote_code, 2, "asks for code that comes with the model (auto_map)"),
    ],
)
def test_bad_input_ends_with_one_clear_error(example: Path, damage: Callable[[Path], None], code: int, message: str) -> None:
    damage(example)
    ended = quant_action("run", cwd=example)
    assert (ended.code, message in ended.err) == (code, True), ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("error:") == 1
    assert "ran remote code" not in ended.err
    assert not list(example.glob(".quant/cache/*/*.part"))


def test_usage_error_is_bad_input(tmp_path: Path) -> None:
    ended = quant_action("walk", cwd=tmp_path)
    assert ended.code == 2
    assert "invalid choice: 'walk'" in ended.err


def test_disk_full_while_saving_is_named_and_leaves_nothing_half_done(example: Path) -> None:
    """A file-size limit stands in for a full disk: the write fails in the same place, without a file system of our own."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    ended = subprocess.run([*COMMAND, "quantize"], cwd=example, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 4, ended.stderr
    assert "no space left while saving" in ended.stderr
    assert "what was complete is kept" in ended.stderr
    assert not list(example.glob(".quant/cache/candidates/*.part"))
    assert quant_action("run", cwd=example).code == 0


@pytest.mark.parametrize(
    ("stage", "stop"),
    [
        ("baseline.evaluate", signal.SIGTERM),
        ("gptq-w4.quantize", signal.SIGKILL),
        ("gptq-w4.evaluate", signal.SIGINT),
    ],
)
def test_a_run_that_was_stopped_continues_from_what_was_complete(example: Path, stop: signal.Signals, stage: str) -> None:
    process = subprocess.Popen([*COMMAND, "run"], cwd=example, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (logs := list(example.glob(f".quant/runs/*/logs/{stage}.log"))) or not logs[0].stat().st_size:
        assert process.poll() is None, "it ended before the stage began"
        assert time.monotonic() < deadline, "the stage never began"
        time.sleep(0.02)
    time.sleep(1.0)  # into the worker's imports
    os.kill(process.pid, stop)
    _, err = process.communicate(timeout=30)
    if stop is not signal.SIGKILL:
        assert process.returncode == 130
        assert "run again to continue" in err
    assert workers_on(example) == []
    complete = {path.parent.name for path in example.glob(".quant/cache/*/*/[ce]*n.json")} | {
        path.parent.name for path in example.glob(".quant/cache/candidates/*/manifest.json")
    }
    assert all(not name.endswith(".part") for name in complete)
    again = quant_action("run", cwd=example)
    assert again.code == 0, again.err
    assert again.err.count("cached") == len(complete)
    assert not list(example.glob(".quant/cache/*/*.part"))


def test_a_job_that_takes_longer_than_it_may_is_ended_and_named(example: Path) -> None:
    ended = quant_action("quantize", "--timeout", "1.5s", cwd=example)
    assert ended.code == 4
    assert "logs/gptq-w4.quantize.log: quantizing gptq-w4 had no result after 1.5 s" in ended.err
    assert "Raise --timeout, or make the job smaller" in ended.err
    assert workers_on(example) == []
    assert not list(example.glob(".quant/cache/candidates/*.part"))
    ended = quant_action("run", "--timeout", "0.03m", cwd=example)
    assert ended.code == 4
    assert "evaluating baseline had no result after 1.8 s" in ended.err
    assert "gptq-w4" not in ended.err  # without a baseline there is nothing to go on with
    assert workers_on(example) == []


def workers_on(example: Path) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(example).encode() in safe_read(path)]


def safe_read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_candidate_that_breaks_does_not_stop_the_others_and_is_no_verdict(example: Path, finished: Finished) -> None:
    """The worker of one candidate is killed from outside, as the kernel does when memory runs out."""
    process = subprocess.Popen([*COMMAND, "run"], cwd=example, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(example.glob(".quant/cache/candidates/*.part")):
        time.sleep(0.02)
    killed = False
    while not killed and process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if b"quant_action.engines.native.worker" in safe_read(path) and parent_of(path) == process.pid:
                os.kill(int(path.parent.name), signal.SIGKILL)
                killed = True
                break
    out, err = process.communicate(timeout=300)
    assert killed
    assert "the system killed quant_action.engines.native.worker" in err
    assert "gptq-w4" in out
    assert "not evaluated" in out
    assert process.returncode == 0  # rtn-w8 passed and nothing that is required broke
    verdict = json.loads((example / ".quant/runs/tiny-llama.latest/verdict.json").read_text())
    assert {candidate["id"]: candidate["outcome"] for candidate in verdict["candidates"]} == {"gptq-w4": "not evaluated", "rtn-w8": "pass"}
    assert verdict["winner"] == "rtn-w8"


def parent_of(cmdline: Path) -> int:
    try:
        return int(next(line for line in (cmdline.parent / "status").read_text().splitlines() if line.startswith("PPid:")).split()[1])
    except (OSError, StopIteration):
        return -1
