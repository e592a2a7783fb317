"""Runs are warmed up until they agree, taken in turns, and do the work that they are asked for."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from quant_action.records import SpeedProtocol
from quant_action.speed import timing, worker
from quant_action.speed.timing import in_turns, prompt_ids, run_of, settled, warm_up
from quant_action.speed.worker import Bench, fits_together

from .scoring import llama, silent
from .speeds import case
from .tiny_models import random_model, save


def runs(*seconds: float) -> Callable[[], float]:
    """Gives these, then the last one for ever."""
    given: Iterator[float] = iter(seconds)
    return lambda: next(given, seconds[-1])


@pytest.mark.parametrize(
    ("seconds", "agree"),
    [([1.0, 1.0], False), ([9.0, 1.0, 1.01, 1.02], True), ([1.0, 1.0, 1.03], False), ([1.0, 1.01, 1.021], False)],
)
def test_three_runs_within_two_percent_are_settled(seconds: list[float], agree: bool) -> None:
    assert settled(seconds) is agree


def test_warming_up_ends_when_runs_agree_or_there_is_no_more_time() -> None:
    assert warm_up(runs(60.0, 2.0, 1.0), seconds=1000) == (5, True)  # a first run that compiles, and one that fetches
    assert warm_up(runs(1.0, *[2.0, 1.0] * 20), seconds=1000) == (20, False)
    assert warm_up(runs(1.0, *[2.0, 1.0] * 20), seconds=3) == (3, False)


def test_who_goes_first_alternates() -> None:
    order: list[str] = []

    def run(who: str) -> float:
        order.append(who)
        return 1.0

    pairs = in_turns(lambda: run("a"), lambda: run("b"), pairs=(4, 4), seconds=0)
    assert "".join(order) == "abbaabba"
    assert pairs == [(1.0, 1.0)] * 4


def test_pairs_end_with_the_time_but_there_is_a_least_number_of_them() -> None:
    def count(seconds: float, budget: float) -> int:
        return len(in_turns(runs(seconds), runs(seconds), pairs=(6, 12), seconds=budget))

    assert [count(100.0, 30.0), count(2.0, 30.0), count(0.1, 30.0)] == [6, 8, 12]


def test_every_model_reads_the_same_prompts() -> None:
    ids = [prompt_ids(case("prefill", 40, 3), prompt=32, vocabulary=100, seed=0) for _ in range(2)]
    assert ids[0].shape == (3, 40)
    assert torch.equal(*ids)
    assert int(ids[0].max()) < 100
    assert prompt_ids(case("decode", 7, 2), prompt=5, vocabulary=100, seed=0).shape == (2, 5)


def test_decoding_counts_the_tokens_after_the_first_and_no_end_token_cuts_it_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(eos_token_id=list(range(40)))  # most of what it could say ends an answer
    steps: list[int] = []
    monkeypatch.setattr(model, "forward", counted(model.forward, steps))
    seconds = run_of(model, case("decode", 6, 2), torch.zeros(2, 5, dtype=torch.int64))()
    assert steps == [5, 1, 1, 1, 1, 1, 1]
    assert seconds > 0


def test_reading_a_prompt_is_one_pass_and_the_logits_of_its_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model, marks = llama(), iter([10.0, 10.25])
    steps: list[int] = []
    monkeypatch.setattr(model.model, "forward", counted(model.model.forward, steps))
    monkeypatch.setattr(timing, "_mark", lambda device, idle=False: next(marks))
    assert run_of(model, case("prefill", 9, 2), torch.zeros(2, 9, dtype=torch.int64))() == 0.25
    assert steps == [9]


def counted(forward: Callable[..., Any], steps: list[int]) -> Callable[..., Any]:
    def count(*given: Any, **named: Any) -> Any:
        steps.append(named["input_ids"].shape[1])
        return forward(*given, **named)

    count.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]  # transformers looks at it
    return count


# The process --------------------------------------------------------------------------------------------------------

ASKED = SpeedProtocol(prefill=(8,), decode=3, batch=(2,), prompt=4, pairs=(6, 6), seconds=0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Twice the same model, none of whose layers need be quantized.

    What the test run holds already is kept from the collector, which would look at all of it, for a second, before every case.
    """
    folder = save(random_model("llama"), tmp_path / "model")
    gc.freeze()
    yield Bench(folders={"baseline": folder, "candidate": folder}, layers=[], device="cpu", asked=ASKED, progress=silent)
    gc.unfreeze()


@pytest.mark.parametrize(("together", "turns", "figures"), [(True, "runs", 6), (False, "blocks", 2)])
def test_every_case_has_a_figure_of_both_models_for_each_pair(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, together: bool, turns: str, figures: int
) -> None:
    monkeypatch.setattr(worker, "BLOCKS", 2)
    how, found = bench.time_all(together=together)
    assert how == turns
    assert [case.id for case in found] == ["prefill-8-b2", "decode-3-b2"]
    assert {len(side.seconds) for timed in found.values() for side in timed.values()} == {figures}
    assert all(second > 0 for timed in found.values() for side in timed.values() for second in side.seconds)
    assert bench.dtypes == {"baseline": "bfloat16", "candidate": "bfloat16"}


def test_models_that_turn_out_not_to_fit_together_are_loaded_in_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = Bench.load

    def tight(self: Bench, who: Any) -> Any:
        loaded.append(who)
        if loaded == ["baseline", "candidate"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(self, who)

    monkeypatch.setattr(Bench, "load", tight)
    monkeypatch.setattr(worker, "BLOCKS", 2)
    assert bench.time_all(together=True)[0] == "blocks"
    assert loaded[2:] == ["baseline", "candidate", "candidate", "baseline"]


def test_two_models_fit_together_with_room_to_work_in(tmp_path: Path) -> None:
    for name in ("base", "made"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x" * 1000)
    folders: Any = {"baseline": tmp_path / "base", "candidate": tmp_path / "made"}
    assert fits_together(folders, "cpu", room=2500)
    assert not fits_together(folders, "cpu", room=2499)
