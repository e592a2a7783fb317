"""The scorer's process under what the engines' contract does to engines: it holds the largest models for the longest time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quant_action.errors import OutOfMemory, WorkerCrashed
from quant_action.evaluate import WORKER, evaluate_baseline
from quant_action.session import Session, Settings, prepare
from tests.child_processes import OnProgress, at_first_progress, kill_when_it_starts, no_more_memory, segmentation_fault

from .conftest import copy_example

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Short windows first, which take little memory, and then items that take a hundred times as much."""
    folder = copy_example(tmp_path / "tiny-llama")
    config = folder / "model/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 20_000}))
    items = [{"prompt": f"{number} " + "the door " * 3_000, "choices": [" a", " b"], "answer": 0} for number in range(2)]
    (folder / "data/choice.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    spec = folder / "quant.yml"
    spec.write_text(spec.read_text().replace("window: 128", "window: 32"))
    return prepare(Settings(spec=spec, device="cpu"))


def score(session: Session, on_progress: OnProgress = lambda *step: None) -> None:
    evaluate_baseline(session.plan, session.inputs, session.store, on_progress)


def test_memory_that_runs_out(session: Session) -> None:
    with pytest.raises(OutOfMemory, match=r"evaluating baseline: (the host's memory is full|no room for another thread)"):
        score(session, at_first_progress(WORKER, no_more_memory))
    assert not list(session.store.cache.glob("evaluations/*/"))


def test_a_crash(session: Session) -> None:
    with pytest.raises(WorkerCrashed, match=f"evaluating baseline: {WORKER} ended with signal SIGSEGV") as caught:
        score(session, at_first_progress(WORKER, segmentation_fault))
    assert "Fatal Python error: Segmentation fault" in str(caught.value)
    assert not list(session.store.cache.glob("evaluations/*/"))


def test_killed_by_the_system(session: Session) -> None:
    kill_when_it_starts(WORKER)
    with pytest.raises(OutOfMemory, match=f"evaluating baseline: the system killed {WORKER}"):
        score(session)
