"""Times are found again where the same bytes were timed the same way on the same kind of machine, and where they can be relied on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quant_action import measure_speed as stage
from quant_action.gates import gate_limits, measured_of
from quant_action.measure_speed import cached_speed, speed_key
from quant_action.records import Plan, Speed, SpeedProtocol
from quant_action.spec import load_spec
from quant_action.store import Store
from tests.golden import records

from .speeds import case, speed, timed

ASKED = SpeedProtocol(prefill=(512,), decode=128, batch=(1, 32), prompt=32, pairs=(6, 12), seconds=30.0)
MADE = records.CANDIDATES["bnb-nf4"]
ON_CPU = records.PLAN.model_copy(update={"device": "cpu x86_64"})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(stage, "processor", lambda: "Some CPU")
    monkeypatch.setattr(stage, "cores", lambda: 2)
    return speed_key(ON_CPU, ASKED, MADE)


@pytest.mark.parametrize(
    ("plan", "asked", "made"),
    [
        (records.PLAN, {}, {}),
        (ON_CPU, {"decode": 64}, {}),
        (ON_CPU, {"batch": (1,)}, {}),
        (ON_CPU, {"seconds": 10.0}, {}),
        (ON_CPU, {}, {"artifact": "another"}),
        (ON_CPU, {}, {"scheme": records.CANDIDATES["gptq-w4-g128"].scheme}),
        (ON_CPU.model_copy(update={"model": records.PLAN.model.model_copy(update={"digest": "another"})}), {}, {}),
    ],
    ids=["device", "tokens", "batch", "time", "artifact", "library", "baseline"],
)
def test_whatever_decides_a_time_decides_its_key(key: str, plan: Plan, asked: dict[str, Any], made: dict[str, Any]) -> None:
    assert speed_key(plan, ASKED.model_copy(update=asked), MADE.model_copy(update=made)) != key


def test_another_processor_or_other_data_files(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert speed_key(ON_CPU.model_copy(update={"baseline_key": "of another text"}), ASKED, MADE) == key
    monkeypatch.setattr(stage, "processor", lambda: "Another CPU")
    assert speed_key(ON_CPU, ASKED, MADE) != key


def test_a_record_is_read_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    store, record = Store(tmp_path), speed({case("decode", 128): ([0.1] * 6, [0.2] * 6)})
    assert cached_speed(store, "k") is None
    record.save(store.speed("k"))
    assert cached_speed(store, "k") == record
    store.speed("k").write_text(record.to_json()[:-20])
    assert cached_speed(store, "k") is None


def test_a_record_with_a_doubt_in_one_case_is_not_stable() -> None:
    record = speed({case("decode", 128): ([0.1] * 6, [0.2] * 6)})
    assert record.is_stable
    doubtful = timed(case("decode", 128), [0.1] * 6, [0.2] * 6, unstable=("the baseline did not settle in 20 runs",))
    assert not record.model_copy(update={"cases": (doubtful,)}).is_stable
    assert not Speed.model_validate(record.model_dump() | {"unstable": ("2 other processes on the GPU",)}).is_stable


def test_gates_on_speed_stand_against_the_baseline(workspace: Path) -> None:
    path = workspace / "quant.yml"
    text = path.read_text().replace("evaluation:\n", "evaluation:\n  latency: {prefill: [16], decode: 8}\n")
    path.write_text(text.replace("gates:\n", "gates:\n  prefill: {min: 0.9}\n  decode: {min: 1.5}\n"))
    found = {
        limit.gate: (limit.metric, limit.vs, limit.bound, limit.limit)
        for limit in gate_limits(load_spec(path), 4, measured_of(records.VALUES["baseline"]))
    }
    assert found["prefill"] == ("prefill", "baseline", "min", 0.9)
    assert found["decode"] == ("decode", "baseline", "min", 1.5)


def test_without_gates_speed_is_not_judged(edit_spec: Any) -> None:
    loaded = load_spec(edit_spec("gates:\n  perplexity_ratio: {vs: baseline, max: 1.05}\n", ""))
    assert not {"prefill", "decode"} & {limit.gate for limit in gate_limits(loaded, 4, measured_of(records.VALUES["baseline"]))}
