"""Two candidates timed beside the baseline by the library that serves them; one that does not load keeps its evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quant_action.records import Failure, Outcome, Speed, Verdict

from .conftest import copy_example
from .conftest import quant_action as command

pytestmark = pytest.mark.end_to_end

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
candidates:
  bnb-nf4: {method: bitsandbytes, type: nf4}
  bnb-int8: {method: bitsandbytes, type: int8}
evaluation:
  text: {data: data/heldout.jsonl, window: 128}
  latency: {prefill: [16], decode: 4}
gates:
  size: {max: 1MB}
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_example(tmp_path_factory.mktemp("speed") / "tiny-llama")
    text = folder / "data/heldout.jsonl"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[:24]))
    (folder / "quant.yml").write_text(SPEC)
    ended = command("run", cwd=folder)
    assert ended.code == 0, ended.err
    return folder


def latest(folder: Path) -> Path:
    return (folder / ".quant/runs/tiny-llama.latest").resolve()


@pytest.mark.parametrize(("candidate", "kernel"), [("bnb-nf4", "Linear4bit"), ("bnb-int8", "Linear8bitLt")])
def test_each_candidate_is_timed_beside_the_baseline(example: Path, candidate: str, kernel: str) -> None:
    record = Speed.load(latest(example) / f"speeds/{candidate}.json")
    assert [timed.case.id for timed in record.cases] == ["prefill-16-b1", "decode-4-b1"]
    assert record.kernels == {kernel: 28}
    assert (record.turns, record.dtypes) == ("runs", ("bfloat16", "bfloat16"))
    for timed in record.cases:
        assert 6 <= len(timed.baseline.seconds) == len(timed.candidate.seconds) <= 12
        assert 3 <= timed.baseline.warmups <= 20
        assert min(timed.baseline.seconds + timed.candidate.seconds) > 0
    assert record.cpu.waiting is None or 0 <= record.cpu.waiting <= 1
    numbers = json.loads((latest(example) / "metrics.json").read_text())
    middles = {who: getattr(record.cases[1], who).quantiles[1] for who in ("baseline", "candidate")}
    assert numbers[f"{candidate}.decode_ratio"] == pytest.approx(middles["baseline"] / middles["candidate"], rel=1e-5)
    assert f"| {candidate} | decode-4-b1 |" in (latest(example) / "report.md").read_text()


def test_what_does_not_load_keeps_its_evaluation_until_a_gate_asks_for_its_speed(example: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-llama"
    shutil.copytree(example, folder, symlinks=True)
    config = (latest(folder) / "candidates/bnb-nf4").resolve() / "model/config.json"
    config.write_text(config.read_text().replace('"bitsandbytes"', '"bitsandbytez"'))
    (latest(folder) / "speeds/bnb-nf4.json").resolve().unlink()
    ended = command("run", cwd=folder)
    assert ended.code == 0, ended.err
    failure = Failure.load(latest(folder) / "failures/speed/bnb-nf4.json")
    assert (failure.stage, failure.kind) == ("speed", "EngineError")
    assert failure.message.endswith("config.json: timing bnb-nf4: no runtime is known for checkpoints of 'bitsandbytez'")
    assert "speed of bnb-nf4: not timed: " in ended.out
    verdict = Verdict.load(latest(folder) / "verdict.json")
    assert {candidate.outcome for candidate in verdict.candidates} == {Outcome.PASS}
    spec = folder / "quant.yml"
    spec.write_text(spec.read_text() + "  decode: {min: 0.001}\n")
    judged = command("judge", "--json", cwd=folder)
    nf4, int8 = sorted(json.loads(judged.out)["candidates"], key=lambda candidate: candidate["id"], reverse=True)
    assert (nf4["outcome"], nf4["reason"]) == ("not evaluated", f"speed failed: {failure.message}")
    gate = next(check for check in int8["checks"] if check["gate"] == "decode")
    record = Speed.load(latest(folder) / "speeds/bnb-int8.json")
    disturbed = record.unstable or record.cases[1].unstable
    assert gate["outcome"] == ("inconclusive" if disturbed else "pass")
    assert ("not to be relied on" in gate["reason"]) == bool(disturbed)
