"""`plan --rehearse`: every stage of every candidate on a random twin; what fails in a worker is told with its exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .conftest import copy_example, quant_action

pytestmark = pytest.mark.end_to_end

BROKEN = """\
from quant_action.engines.interface import Engine

ENGINE = Engine(
    name="broken", methods={"bitsandbytes": ("cpu", "cuda")}, environment="host", worker="broken_worker", writes=("bitsandbytes",),
    deterministic=(), requires=("torch",), sources=("broken",),
    needs_calibration=lambda scheme: False, refuses=lambda scheme, device: None, why="for a test",
)
"""
BROKEN_WORKER = """\
from quant_action.errors import EngineError
from quant_action.workers.protocol import serve


def quantize(request, progress):
    raise EngineError("layers of this width have no kernel", where="model.layers.0", remedy="Use another engine.")


serve(quantize)
"""


def test_all_candidates_rehearse_well_and_leave_nothing(tmp_path: Path) -> None:
    folder = copy_example(tmp_path / "tiny-llama")
    spec = (folder / "quant.yml").read_text()
    kept = [line for line in spec.splitlines(keepends=True) if not line.startswith(("  gptq-w3:", "  bnb-int8:"))]
    (folder / "quant.yml").write_text("".join(kept))
    ended = quant_action("plan", "--rehearse", "--json", cwd=folder)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["twin"]["architecture"] == "LlamaForCausalLM"
    candidates = ("gptq-w4", "awq-w4", "bnb-nf4")
    stages = [(id, stage) for id in candidates for stage in ("quantize", "evaluate")]
    assert [(step["subject"], step["stage"]) for step in told["steps"]] == [("baseline", "evaluate"), ("floor", "evaluate"), *stages]
    assert all(step["error"] is None and step["seconds"] > 0 and step["peak_memory"] > 10**8 for step in told["steps"])
    assert "perplexity" not in ended.out
    left = [path.relative_to(folder / ".quant").as_posix() for path in (folder / ".quant").rglob("*")]
    assert left == ["cache", "cache/rehearsal.lock"]


def test_what_fails_only_in_a_worker_is_told_with_its_exit_code(tmp_path: Path) -> None:
    folder = copy_example(tmp_path / "tiny-llama")
    (folder / "quant.yml").write_text("""\
version: 1
name: tiny-llama
model: {source: model}
candidates:
  bad: {method: bitsandbytes, type: nf4, engine: broken}
  good: {method: bitsandbytes, type: int8}
evaluation:
  runtime: true
  text: {data: data/heldout.jsonl, window: 64}
""")
    package = tmp_path / "package"
    about = package / "broken-1.0.dist-info"
    about.mkdir(parents=True)
    (package / "broken.py").write_text(BROKEN)
    (package / "broken_worker.py").write_text(BROKEN_WORKER)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[quant_action.engines]\nbroken = broken:ENGINE\n")
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(package)]))
    assert quant_action("plan", cwd=folder, env={"PYTHONPATH": path}).code == 0  # nothing is wrong with it before it runs
    ended = quant_action("plan", "--rehearse", cwd=folder, env={"PYTHONPATH": path})
    assert ended.code == 4, ended.err
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "failed" in rows["bad"]
    assert rows["good"].count("ok ") == 3
    assert "✗ bad, quantize: model.layers.0: quantizing bad: layers of this width have no kernel" in ended.out
    assert "Use another engine." in ended.out
    kept = sorted(path.name for path in (folder / ".quant/cache/rehearsal").rglob("*") if path.suffix == ".log")
    good = [f"good.{stage}.log" for stage in ("evaluate", "quantize", "runtime")]
    assert kept == ["bad.quantize.log", "baseline.evaluate.log", "floor.evaluate.log", *good, "twin.log"]
    assert not (folder / ".quant/cache/rehearsal/cache").exists()


def test_too_little_calibration_data_is_noticed_though_a_rehearsal_takes_little(tmp_path: Path) -> None:
    folder = copy_example(tmp_path / "tiny-llama")
    spec = folder / "quant.yml"
    spec.write_text(spec.read_text().replace("samples: 64", "samples: 100000"))
    ended = quant_action("plan", "--rehearse", cwd=folder)
    assert ended.code == 2
    assert "100000 samples of 128 need" in ended.err
