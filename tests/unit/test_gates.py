"""Gates of the spec and the defaults, as limits; overrides with their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quant_action.gates import Measured, gate_limits, measured_of, overrides_of
from quant_action.records import Override
from quant_action.spec import load_spec
from quant_action.values import Values
from tests.unit.subjects import subject

GATES = "gates:\n  perplexity_ratio: {vs: baseline, max: 1.05}\n"
ALL = Measured(text=True, tasks={"facts": 100, "talk": 300}, slices={"ja": 40, "en": 360}, generations=300)
NOTHING = Measured(text=False, tasks={}, slices={}, generations=0)
Edit = Callable[[str, str], Path]


def limits(path: Path, *, bits: int = 4, measured: Measured = ALL) -> list[tuple[Any, ...]]:
    return [(limit.gate, limit.metric, limit.vs, limit.bound, limit.limit) for limit in gate_limits(load_spec(path), bits, measured)]


def test_every_gate_is_a_limit(edit_spec: Edit) -> None:
    path = edit_spec(
        GATES,
        "  latency: {prefill: [8], decode: 8}\n"
        "gates:\n"
        "  decode: {min: 1.2}\n"
        "  prefill: {min: 0.9}\n"
        "  memory: {max: 2GB}\n"
        "  size: {max: 1GB}\n"
        "  degenerate: {margin: 0.01}\n"
        "  accuracy: [{vs: release, margin: 0.01}, {margin: 0.02}]\n"
        "  top1: {min: 0.9}\n"
        "  kl_long: {max: 0.2}\n"
        "  kl_p99_ratio: {max: 1.25}\n"
        "  kl_ratio: {vs: release, max: 1.1}\n"
        "  kl: {max: 0.1}\n"
        "  perplexity_ratio: [{max: 1.05}, {vs: release, max: 1.01}]\n",
    )
    assert limits(path) == [
        ("perplexity_ratio", "perplexity", "baseline", "max", 1.05),
        ("perplexity_ratio", "perplexity", "release", "max", 1.01),
        ("kl", "kl", "baseline", "max", 0.1),
        ("kl_ratio", "kl", "release", "max", 1.1),
        ("kl_p99_ratio", "kl_p99", "release", "max", 1.25),
        ("kl_long", "kl_long", "baseline", "max", 0.2),
        ("top1", "top1", "baseline", "min", 0.9),
        ("accuracy", "accuracy", "release", "min", -0.01),
        ("accuracy", "accuracy", "baseline", "min", -0.02),
        ("degenerate", "degenerate", "baseline", "max", 0.01),
        ("size", "size", None, "max", 1e9),
        ("memory", "memory", None, "max", 2e9),
        ("prefill", "prefill", "baseline", "min", 0.9),
        ("decode", "decode", "baseline", "min", 1.2),
    ]


def test_tasks_is_a_tripwire_on_each_task_and_each_slice(edit_spec: Edit) -> None:
    path = edit_spec(GATES, "gates:\n  tasks: {vs: release, margin: 0.03, level: warn}\n")
    found = gate_limits(load_spec(path), 4, ALL)
    assert [limit.metric for limit in found] == ["accuracy:facts", "accuracy:talk", "accuracy@en", "accuracy@ja"]
    assert {(limit.gate, limit.family, limit.level, limit.vs, limit.limit) for limit in found} == {
        ("tasks", "tasks", "warn", "release", -0.03)
    }
    assert gate_limits(load_spec(path), 4, NOTHING) == ()


def test_a_limit_knows_its_place_and_level(edit_spec: Edit) -> None:
    path = edit_spec(GATES, "gates:\n  accuracy:\n    - {vs: release, margin: 0.01}\n    - {margin: 0.02, level: warn}\n  kl: {max: 1}\n")
    kl, release, baseline = gate_limits(load_spec(path), 4, ALL)
    assert (kl.where, release.where, baseline.where) == (f"{path}:16:3", f"{path}:14:7", f"{path}:15:7")
    assert (release.level, baseline.level) == ("error", "warn")


def test_the_defaults_ask_only_for_what_is_measured(edit_spec: Edit) -> None:
    path = edit_spec(GATES, "")
    text = [("perplexity_ratio", "baseline", 1.05), ("kl_ratio", "release", 1.10), ("kl_p99_ratio", "release", 1.25)]
    items = [("accuracy", "release", -0.01), ("accuracy", "baseline", -0.02), ("tasks", "release", -0.03)]

    def default(measured: Measured) -> list[tuple[Any, ...]]:
        return [(gate, vs, limit) for gate, _, vs, _, limit in limits(path, measured=measured)]

    one = Measured(text=False, tasks={"facts": 100}, slices={}, generations=0)
    assert default(NOTHING) == []
    assert default(Measured(text=True, tasks={}, slices={}, generations=0)) == text
    assert default(one) == items
    assert default(ALL) == [*text, *items, *[items[-1]] * 3, ("degenerate", "baseline", 0.01)]


def test_the_default_on_generations_needs_as_many_as_could_pass_it(edit_spec: Edit) -> None:
    path = edit_spec(GATES, "")

    def has_it(generations: int) -> bool:
        measured = Measured(text=False, tasks={"talk": generations}, slices={}, generations=generations)
        return any(gate == "degenerate" for gate, *_ in limits(path, measured=measured))

    assert [has_it(230), has_it(231)] == [False, True]


def test_the_default_on_the_tail_only_warns(edit_spec: Edit) -> None:
    path = edit_spec(GATES, "")
    assert [limit.gate for limit in gate_limits(load_spec(path), 4, ALL) if limit.level == "warn"] == ["kl_p99_ratio"]


@pytest.mark.parametrize(("bits", "ratio", "margin"), [(8, 1.01, -0.01), (4, 1.05, -0.02), (3, 1.15, -0.02), (2, 1.15, -0.02)])
def test_without_gates_the_budget_goes_by_bits(edit_spec: Edit, bits: int, ratio: float, margin: float) -> None:
    found = limits(edit_spec(GATES, ""), bits=bits)
    assert [limit for _, _, vs, _, limit in found if vs == "baseline"] == [ratio, margin, 0.01]


def test_what_was_measured_is_read_from_the_values() -> None:
    items = (
        {"task": "a", "item": "1", "correct": True, "slice": "ja"},
        {"task": "a", "item": "2", "correct": True, "slice": ""},
        {"task": "b", "item": "1", "correct": True, "slice": "ja", "degenerate": None},
    )
    windows = subject(nll=[[1.0]]).values.windows
    assert measured_of(Values(windows=windows, items=items)) == Measured(text=True, tasks={"a": 2, "b": 1}, slices={"ja": 2}, generations=1)
    assert measured_of(Values(windows=None, items=())) == NOTHING


def test_overrides_keep_their_order_and_place(edit_spec: Edit) -> None:
    path = edit_spec(
        GATES,
        "overrides:\n"
        '  - {candidate: gone, gate: accuracy, artifact: 3fa9c0ffee12, by: Ana, reason: "tickets-ja is being relabelled"}\n'
        f'  - {{candidate: bnb-nf4, gate: "accuracy@ja", artifact: "{"1" * 64}", by: Bo, reason: "known"}}\n',
    )
    first, second = overrides_of(load_spec(path))
    assert first == Override(
        candidate="gone",
        gate="accuracy",
        artifact="3fa9c0ffee12",
        by="Ana",
        reason="tickets-ja is being relabelled",
        where=f"{path}:13:5",
    )
    assert (second.gate, second.where) == ("accuracy@ja", f"{path}:14:5")
