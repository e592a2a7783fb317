"""`examples/engine`, installed as a stranger's package is: its entry point alone brings it into lists, plans, runs and the contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import REPOSITORY, Ended, copy_example, quant_action

pytestmark = pytest.mark.end_to_end

SPEC = """\
version: 1
name: tiny-llama
model: {source: model}
candidates:
  fitted: {method: rtn, bits: 4, group_size: 64, engine: least-squares}
evaluation:
  text: {data: data/heldout.jsonl, window: 32}
gates:
  perplexity_ratio: {vs: baseline, max: 1.5}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH, with the package in it."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(REPOSITORY / "examples/engine")], check=True)
    return folder


def path_with(site: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = copy_example(tmp_path / "tiny-llama")
    rows = (folder / "data/heldout.jsonl").read_text().splitlines(keepends=True)
    (folder / "data/heldout.jsonl").write_text("".join(rows[:4]))
    (folder / "quant.yml").write_text(SPEC)
    return folder


def test_it_keeps_the_whole_contract(site: Path) -> None:
    command = [sys.executable, "-m", "pytest", "tests/contracts/test_engines.py", "-k", "least-squares", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | path_with(site), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^(\d+) passed, \d+ deselected in", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    assert int(passed[1]) == 15  # 5 about the description, 2 of the choice, 2 artifacts and their estimates, a repetition, 3 bad endings


def test_a_spec_that_names_it_is_planned_and_run(site: Path, example: Path) -> None:
    planned = quant_action("plan", "--json", cwd=example, env=path_with(site))
    assert planned.code == 0, planned.err
    (job,) = json.loads(planned.out)["jobs"]
    assert (job["engine"], job["engine_reason"], job["environment"]) == ("least-squares", "asked for", "host")
    ended = quant_action("run", cwd=example, env=path_with(site))
    assert ended.code == 0, ended.err
    record = json.loads((example / ".quant/runs/tiny-llama.latest/candidates/fitted/candidate.json").read_text())
    assert (record["engine"], record["quantized_layers"]) == ("least-squares", 28)


def test_its_own_refusal_is_what_the_planner_says(site: Path, example: Path) -> None:
    (example / "quant.yml").write_text(SPEC.replace("bits: 4", "bits: 4, clip: true"))
    ended = quant_action("plan", cwd=example, env=path_with(site))
    assert ended.code == 2
    assert "engine least-squares cannot do this: it fits the weights and not the layer's outputs" in ended.err


def test_a_changed_line_of_it_changes_the_key(site: Path, example: Path) -> None:
    def key() -> str:
        return str(json.loads(quant_action("plan", "--json", cwd=example, env=path_with(site)).out)["jobs"][0]["key"])

    before = key()
    worker = site / "least_squares_engine/worker.py"
    text = worker.read_text()
    worker.write_text(text.replace("STEPS = 8", "STEPS = 9"))
    assert key() != before
    worker.write_text(text)
    assert key() == before


def broken(site: Path, tmp_path: Path) -> dict[str, str]:
    """Another distribution, whose engine cannot be imported."""
    folder = tmp_path / "broken"
    info = folder / "broken_engine-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-engine\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[quant_action.engines]\nbroken = broken_engine:ENGINE\n")
    (folder / "broken_engine.py").write_text("import no_such_module\n")
    paths = path_with(site)
    return paths | {"PYTHONPATH": f"{folder}{os.pathsep}{paths['PYTHONPATH']}"}


def test_a_broken_package_is_shown_where_engines_are_and_fails_who_asks_for_it(site: Path, example: Path, tmp_path: Path) -> None:
    words = (
        "broken_engine:ENGINE: engine broken of broken-engine 2.0 cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"
    )
    env = broken(site, tmp_path)

    def asked(*arguments: str) -> Ended:
        return quant_action(*arguments, cwd=example, env=env)

    for command in ("engines", "check"):
        ended = asked(command)
        assert ended.code == 0, ended.err
        assert words in " ".join(ended.out.split())
    assert "least-squares" in asked("engines").out
    (example / "quant.yml").write_text(SPEC.replace("least-squares", "broken"))
    ended = asked("plan")
    assert ended.code == 4
    assert words in ended.err
    assert "Mend or uninstall broken-engine 2.0" in ended.err
    assert "Traceback" not in ended.err
