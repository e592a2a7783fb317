"""A candidate timed beside the baseline by the library that serves it; where it does not load there, it keeps its evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from quant_action.records import Failure, Outcome, Speed, Verdict

from .conftest import Ended, Finished
from .conftest import quant_action as command

pytestmark = pytest.mark.end_to_end

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
candidates:
  bnb-nf4: {method: bitsandbytes, type: nf4}
evaluation:
  text: {data: data/heldout.jsonl, window: 128}
  tasks:
    facts: {data: data/choice.jsonl, kind: choice}
    answers: {data: data/generate.jsonl, kind: generate}
  latency: {prefill: [16], decode: 4}
gates:
  size: {max: 1MB}
"""


@pytest.fixture(scope="module")
def timed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What is made and evaluated is taken from the session's run, so that only timing takes time. Tests look at it, or copy it first."""
    folder = tmp_path_factory.mktemp("speed") / "tiny-llama"
    shutil.copytree(finished.folder, folder, symlinks=True)
    (folder / "quant.yml").write_text(SPEC)
    return Finished(folder, command("run", cwd=folder))


@pytest.fixture
def copy(timed: Finished, tmp_path: Path) -> Finished:
    folder = tmp_path / "tiny-llama"
    shutil.copytree(timed.folder, folder, symlinks=True)
    return Finished(folder, timed.ended)


def judged_on_speed(finished: Finished, level: str = "error") -> dict[str, Any]:
    """What `judge` says of the candidate once there is a gate on decoding."""
    (finished.folder / "quant.yml").write_text(f"{SPEC}  decode: {{min: 0.001, level: {level}}}\n")
    ended: Ended = command("judge", "--json", cwd=finished.folder)
    (candidate,) = json.loads(ended.out)["candidates"]
    return dict(candidate)


def test_a_candidate_is_timed_beside_the_baseline(timed: Finished) -> None:
    assert timed.ended.code == 0, timed.ended.err
    assert timed.ended.err.count("cached") == 4, "baseline, floor, and the candidate twice"
    record = Speed.load(timed.run / "speeds/bnb-nf4.json")
    assert [case.case.id for case in record.cases] == ["prefill-16-b1", "decode-4-b1"]
    assert record.kernels == {"Linear4bit": 28}
    assert (record.turns, record.dtypes) == ("runs", ("bfloat16", "bfloat16"))
    for case in record.cases:
        assert 6 <= len(case.baseline.seconds) == len(case.candidate.seconds) <= 12
        assert 3 <= case.baseline.warmups <= 20
        assert min(case.baseline.seconds + case.candidate.seconds) > 0
    assert record.cpu.waiting is None or 0 <= record.cpu.waiting <= 1
    numbers = json.loads((timed.run / "metrics.json").read_text())
    middles = {who: getattr(record.cases[1], who).quantiles[1] for who in ("baseline", "candidate")}
    assert numbers["bnb-nf4.decode_ratio"] == pytest.approx(middles["baseline"] / middles["candidate"], rel=1e-5)
    assert "| bnb-nf4 | decode-4-b1 |" in (timed.run / "report.md").read_text()


def test_a_gate_on_speed_is_settled_unless_the_machine_was_disturbed(copy: Finished) -> None:
    """Neither is the measurement void: the baseline's second time has no times of its own."""
    gate = next(check for check in judged_on_speed(copy)["checks"] if check["gate"] == "decode")
    record = Speed.load(copy.run / "speeds/bnb-nf4.json")
    disturbed = bool(record.unstable or record.cases[1].unstable)
    assert gate["outcome"] == ("inconclusive" if disturbed else "pass")
    assert ("not to be relied on" in gate["reason"]) == disturbed
    assert [check.outcome for check in Verdict.load(copy.run / "verdict.json").floor] == [Outcome.NOT_APPLICABLE]


def test_what_does_not_load_keeps_its_evaluation_until_a_gate_asks_for_its_speed(copy: Finished) -> None:
    config = (copy.run / "candidates/bnb-nf4").resolve() / "model/config.json"
    config.write_text(config.read_text().replace('"bitsandbytes"', '"bitsandbytez"'))
    (copy.run / "speeds/bnb-nf4.json").resolve().unlink()
    ended = command("run", cwd=copy.folder)
    assert ended.code == 0, ended.err
    failure = Failure.load(copy.run / "failures/speed/bnb-nf4.json")
    assert (failure.stage, failure.kind) == ("speed", "EngineError")
    assert failure.message.endswith("config.json: timing bnb-nf4: no runtime is known for checkpoints of 'bitsandbytez'")
    assert "speed of bnb-nf4: not timed: " in ended.out
    (kept,) = Verdict.load(copy.run / "verdict.json").candidates
    assert kept.outcome is Outcome.PASS
    candidate = judged_on_speed(copy)
    assert (candidate["outcome"], candidate["reason"]) == ("not evaluated", f"speed failed: {failure.message}")
    assert judged_on_speed(copy, level="warn")["outcome"] == "pass"
