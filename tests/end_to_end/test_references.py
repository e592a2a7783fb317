"""What candidates are compared with: the baseline once more, and the last release; and how far the comparison has to look."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant_action.manifest import Manifest
from quant_action.records import Candidate, CandidateVerdict, Check, Decision, Evaluation, Outcome, Plan, Verdict
from quant_action.values import Values

from .conftest import Ended, Finished, quant_action

pytestmark = pytest.mark.end_to_end

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
calibration: {data: data/calibration.jsonl, samples: 64, tokens: 128, seed: 0}
candidates:
  gptq-w3: {method: gptq, bits: 3, group_size: 64, symmetric: true}
  bnb-int8: {method: bitsandbytes, type: int8}
evaluation:
  looks: [0.25, 0.5, 1]
  text: {data: data/heldout.jsonl, window: 128}
  tasks:
    facts: {data: data/choice.jsonl, kind: choice}
    answers: {data: data/generate.jsonl, kind: generate}
gates:
  kl: {max: 0.1}
  kl_ratio: {vs: release, max: 1.10}
  accuracy: {vs: baseline, margin: 0.01}
"""


def copy_of(finished: Finished, folder: Path, *, spec: str | None = None) -> Path:
    """With all that is cached; of the session's run nothing is changed."""
    shutil.copytree(finished.folder, folder, symlinks=True)
    if spec:
        (folder / "quant.yml").write_text(spec)
    return folder


def latest(folder: Path) -> Path:
    return (folder / ".quant/runs/tiny-llama.latest").resolve()


@dataclass(frozen=True)
class Pair:
    """Two runs of one spec: before the first release, and after it."""

    folder: Path
    release: Path
    first: Ended
    first_verdict: Verdict
    second: Ended
    second_verdict: Verdict


@pytest.fixture(scope="module")
def pair(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    here = tmp_path_factory.mktemp("references")
    folder = copy_of(finished, here / "tiny-llama", spec=SPEC)
    first = quant_action("run", cwd=folder)
    first_verdict = Verdict.load(latest(folder) / "verdict.json")
    release = here / "v1.2.0"
    shutil.copytree(latest(folder) / "candidates/bnb-int8/model", release)
    second = quant_action("run", "--release", release, cwd=folder)
    return Pair(folder, release, first, first_verdict, second, Verdict.load(latest(folder) / "verdict.json"))


def of(verdict: Verdict, id: str) -> CandidateVerdict:
    return next(candidate for candidate in verdict.candidates if candidate.id == id)


def check(verdict: Verdict, id: str, gate: str) -> Check:
    return next(check for check in of(verdict, id).checks if check.gate == gate)


def test_a_bad_candidate_is_asked_no_more_than_shows_it_and_a_good_one_until_it_is_settled(pair: Pair) -> None:
    assert pair.first.code == 0, pair.first.err
    lines = [line for line in pair.first.err.splitlines() if re.match("✓ .* evaluate ", line)]
    assert [re.sub(r"\d+\.\d s", "T", " ".join(line.split()[1:])) for line in lines if "look" in line] == [
        "gptq-w3 evaluate look 1 of 3: 200 items, T, settled",
        "bnb-int8 evaluate look 1 of 3: 200 items, T",
        "bnb-int8 evaluate look 2 of 3: 400 items, T, settled",
    ]
    verdict = pair.first_verdict
    assert (verdict.decision, verdict.winner, verdict.looks) == (Decision.APPROVED, "bnb-int8", (0.25, 0.5, 1.0))
    assert (of(verdict, "gptq-w3").outcome, check(verdict, "gptq-w3", "accuracy").n) == (Outcome.FAIL, 200)
    assert (check(verdict, "gptq-w3", "accuracy").look, check(verdict, "bnb-int8", "accuracy").look) == (1, 2)


def test_what_looks_gave_is_what_one_long_evaluation_gives(pair: Pair, finished: Finished) -> None:
    """Of the same artifact, whose layers and text were looked at once."""
    looked, whole = (Values.load(run / "evaluations/bnb-int8") for run in (latest(pair.folder), finished.run))
    assert looked.windows is not None
    assert whole.windows is not None
    assert (looked.windows.nll == whole.windows.nll).all()
    assert len(looked.items) == 400
    assert looked.correct().items() <= whole.correct().items()
    evaluation = Evaluation.load(latest(pair.folder) / "evaluations/bnb-int8.json")
    assert (evaluation.look, evaluation.looks) == (2, 3)
    assert evaluation.metrics["accuracy"].n == 400
    assert evaluation.estimate is not None
    assert evaluation.peak_memory == pytest.approx(evaluation.estimate.memory, rel=0.25)


def test_before_the_first_release_gates_against_it_do_not_apply(pair: Pair) -> None:
    found = check(pair.first_verdict, "bnb-int8", "kl_ratio")
    assert (found.outcome, found.value) == (Outcome.NOT_APPLICABLE, None)


def test_the_next_run_compares_with_the_release(pair: Pair) -> None:
    assert pair.second.code == 0, pair.second.err
    same = check(pair.second_verdict, "bnb-int8", "kl_ratio")
    assert (same.outcome, same.value) == (Outcome.PASS, 1.0)
    assert check(pair.second_verdict, "gptq-w3", "kl_ratio").outcome is Outcome.FAIL
    plan = Plan.load(latest(pair.folder) / "plan.json")
    made = Candidate.load(latest(pair.folder) / "candidates/bnb-int8/candidate.json")
    release = Evaluation.load(latest(pair.folder) / "evaluations/release.json")
    assert plan.release is not None
    assert (plan.release.source, plan.release.digest) == ("v1.2.0", made.artifact)
    assert (release.subject, release.artifact, release.metrics["accuracy"].n) == ("release", made.artifact, 800)
    # nothing but the release was measured, the floor least of all
    assert pair.second.err.count("cached") == 2 + 2 + 3
    assert str(pair.release.parent) not in "".join(path.read_text() for path in latest(pair.folder).glob("*.[jmh]*"))


def test_a_rerun_with_the_release_measures_nothing_and_judges_alike(pair: Pair) -> None:
    planned = json.loads(quant_action("plan", "--json", "--release", pair.release, cwd=pair.folder).out)
    assert planned["estimates"]["total"]["seconds"] == 0
    assert list(planned["estimates"]["jobs"]) == ["baseline", "floor", "release", "gptq-w3", "bnb-int8"]
    again = quant_action("judge", "--json", cwd=pair.folder)
    assert Verdict.from_json(again.out, where="stdout") == pair.second_verdict


def test_a_release_that_cannot_be_measured_ends_the_run(pair: Pair, tmp_path: Path) -> None:
    """It would otherwise be as though there were none, and every gate against it would fall silent."""
    release = tmp_path / "broken"
    shutil.copytree(pair.release, release)
    tokenizer = json.loads((release / "tokenizer.json").read_text())
    del tokenizer["model"]["merges"][20:]
    (release / "tokenizer.json").write_text(json.dumps(tokenizer))
    before = latest(pair.folder)
    ended = quant_action("run", "--release", release, cwd=pair.folder)
    assert ended.code == 4, ended.err
    assert "the release cannot be measured, so nothing can be compared with it" in ended.err
    assert "the artifact's tokenizer gives other ids than the base model's" in ended.err
    assert (ended.out, ended.err.count("error:")) == ("", 1)
    assert latest(pair.folder) == before


def test_a_measurement_that_fails_on_the_baseline_itself_decides_nothing(finished: Finished, tmp_path: Path) -> None:
    """The states that everything is compared with were damaged after the baseline, and before the floor."""
    folder = copy_of(finished, tmp_path / "tiny-llama")
    spec = folder / "quant.yml"
    spec.write_text(spec.read_text().replace("gates:\n", "gates:\n  kl: {max: 0.1}\n"))
    run = latest(folder)
    shutil.rmtree((run / "evaluations/floor").resolve())
    for path in (run / "evaluations/baseline/states").resolve().glob("window-*.safetensors"):
        tensors = load_file(path)
        save_file({"ids": tensors["ids"], "hidden": torch.roll(tensors["hidden"], 1, dims=1).contiguous()}, path)
    ended = quant_action("run", "--json", cwd=folder)
    assert ended.code == 4, ended.err
    verdict = Verdict.from_json(ended.out, where="stdout")
    assert (verdict.decision, verdict.winner) == (Decision.BROKEN, None)
    assert [(check.gate, check.outcome) for check in verdict.floor if check.outcome is not Outcome.PASS] == [("kl", Outcome.FAIL)]
    assert {check(verdict, candidate.id, "kl").outcome for candidate in verdict.candidates} == {Outcome.VOID}
    assert ended.err.count("cached") == 1 + 2 * 5
    assert Manifest.load(run / "candidates/bnb-int8/manifest.json").digest  # what was made is kept
