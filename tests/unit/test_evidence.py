"""Whether what will be measured can settle the gates: the numbers, and what to do about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from quant_action.evidence import evidence_findings, planned_of, resolvable_margin
from quant_action.findings import Finding
from quant_action.gates import Measured
from quant_action.inputs import open_inputs
from quant_action.metrics.intervals import bonett_price
from quant_action.plan import make_plan
from quant_action.spec import load_spec
from tests.golden.records import PLAN
from tests.unit.conftest import write_rows

CPU = "cpu x86_64"
GPTQ = PLAN.jobs[0]
GATE = "  perplexity_ratio: {vs: baseline, max: 1.05}"
Edit = Callable[[str, str], Path]


def levels(findings: Sequence[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def the_one(findings: Sequence[Finding], level: str) -> Finding:
    (found,) = [finding for finding in findings if finding.level == level]
    return found


def evidence(
    path: Path,
    items: int | Mapping[str, int],
    *,
    slices: Mapping[str, int] | None = None,
    generations: int = 0,
    text: bool = True,
    text_tokens: int = 10**6,
) -> list[Finding]:
    tasks = items if isinstance(items, Mapping) else {"facts": items} if items else {}
    measured = Measured(text=text, tasks=tasks, slices=slices or {}, generations=generations)
    return evidence_findings(load_spec(path), [GPTQ], measured, text_tokens=text_tokens)


@pytest.mark.parametrize(("items", "margin"), [(200, 0.039), (500, 0.025), (1000, 0.018), (3092, 0.01)])
def test_smallest_margin_that_items_resolve(items: int, margin: float) -> None:
    """Sample sizes of a paired non-inferiority test at 5% flips, 80% power, one-sided 5%."""
    assert resolvable_margin(items) == pytest.approx(margin, abs=0.0005)


def test_more_looks_resolve_a_little_less() -> None:
    assert resolvable_margin(1000, looks=(0.25, 0.5, 1)) == pytest.approx((2.01774 + 0.84162) * (0.05 / 1000) ** 0.5, rel=1e-5)


def test_a_margin_that_items_cannot_settle_is_told_before_the_work(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  accuracy: {vs: baseline, margin: 0.03}")
    assert levels(evidence(path, 800)) == ["ok"]
    found = the_one(evidence(path, 200), "warning")
    assert found.message == (
        "200 items resolve a loss of about 3.9 pp (where 5% of the answers change); the gate's margin against the baseline is 3.0 pp, "
        "so it will often be inconclusive"
    )
    assert found.where == f"{path}:13:3"
    assert found.remedy == "Give about 344 items, or a margin of 4.0 pp; divergence (kl, top1) needs far fewer."


def test_the_remedy_is_one(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  accuracy: {vs: baseline, margin: 0.03}")
    assert levels(evidence(path, 344)) == ["ok"]
    assert levels(evidence(edit_spec("margin: 0.03", "margin: 0.04"), 200)) == ["ok"]


def test_a_margin_that_can_never_pass(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  accuracy: {vs: baseline, margin: 0.005}")
    assert -bonett_price(gains=0, losses=0, n=400).low > 0.005
    found = the_one(evidence(path, 400), "warning")
    assert found.message.startswith(
        "a margin of 0.5 pp against the baseline can never pass with 400 items, not even where no answer changes"
    )


def test_looks_make_a_margin_harder_to_pass(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  accuracy: {vs: baseline, margin: 0.03}")
    assert levels(evidence(path, 400)) == ["ok"]
    found = the_one(evidence(edit_spec("  tasks:", "  looks: [0.25, 0.5, 1]\n  tasks:"), 400), "warning")
    assert "400 items resolve a loss of about 3.2 pp (where 5% of the answers change, after 3 looks)" in found.message


def test_every_reference_is_looked_at(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  accuracy:\n    - {vs: release, margin: 0.01}\n    - {vs: baseline, margin: 0.03}")
    release, baseline = evidence(path, 1000)
    assert (release.level, baseline.level) == ("warning", "ok")
    assert "against the release is 1.0 pp" in release.message
    assert release.where == f"{path}:14:7"


def test_tripwires_that_are_blind_are_named(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  tasks: {vs: release, margin: 0.03}")
    found = the_one(evidence(path, {"tickets": 900, "extract": 120}, slices={"ja": 60}), "warning")
    assert found.message == (
        "the margin against the release is 3.0 pp, and these resolve only a larger loss: ja 7.2 pp (60 items), extract 5.1 pp (120 items); "
        "their tripwires will often stay open, which never blocks, and seldom trip"
    )
    assert found.remedy == "Give each task and slice about 344 items, or a margin of 7.2 pp."
    assert the_one(evidence(path, {"tickets": 900}), "ok").message.endswith("a loss that can be resolved on tickets 1.9 pp (900 items)")


def test_many_tripwires_are_counted_not_listed(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  tasks: {vs: release, margin: 0.03}")
    found = the_one(evidence(path, {f"t{number}": 10 + number for number in range(9)}), "warning")
    assert " and 5 more;" in found.message


def test_generations_break_less_often_than_answers_change(edit_spec: Edit) -> None:
    path = edit_spec(GATE, "  degenerate: {margin: 0.01}")
    assert levels(evidence(path, 700, generations=700)) == ["ok"]
    found = the_one(evidence(path, 300, generations=300), "warning")
    assert found.message.startswith("300 items resolve a loss of about 1.4 pp (where 1% of the answers change)")


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("  accuracy: {margin: 0.03}", "there is a gate on accuracy, and no tasks to measure it: it will not apply"),
        ("  tasks: {margin: 0.03}", "there is a gate on tasks, and no tasks to measure it"),
        ("  degenerate: {margin: 0.03}", "there is a gate on degenerate, and no tasks of kind generate to measure it"),
        ("  kl: {max: 0.03}", "there is a gate on kl, and no text to measure it"),
    ],
)
def test_a_gate_that_nothing_measures(edit_spec: Edit, gate: str, message: str) -> None:
    found = the_one(evidence(edit_spec(GATE, gate), 0, text=False), "warning")
    assert message in found.message
    assert found.where is not None
    assert found.where.endswith("quant.yml:13:3")


def test_without_gates_the_default_margins_are_looked_at(edit_spec: Edit) -> None:
    path = edit_spec(f"gates:\n{GATE}\n", "")
    found = evidence(path, 200)
    assert [(finding.subject, finding.level, finding.where) for finding in found] == [
        ("accuracy", "warning", None),
        ("accuracy", "warning", None),
        ("tasks", "warning", None),
    ]
    assert ["1.0 pp" in found[0].message, "2.0 pp" in found[1].message, "3.0 pp" in found[2].message] == [True, True, True]
    assert evidence(path, 0) == []


def test_few_windows_of_text(workspace: Path) -> None:
    path = workspace / "quant.yml"
    assert evidence(path, 5, text_tokens=20 * 16) == []
    found = the_one(evidence(path, 5, text_tokens=19 * 16), "warning")
    assert found.message.startswith("about 19 windows of 16 tokens")


def test_a_plan_says_what_will_be_measured(edit_spec: Edit) -> None:
    path = edit_spec("kind: choice}", "kind: choice, limit: 20}\n    talk: {data: data/talk.jsonl, kind: generate}")
    slices = ["en"] * 30 + ["ja"] * 10
    rows = [{"prompt": f"What is {n}?", "choices": [f" {n}", " no"], "answer": 0, "slice": name} for n, name in enumerate(slices)]
    write_rows(path.parent / "data/choice.jsonl", rows)
    write_rows(path.parent / "data/talk.jsonl", [{"prompt": f"Say {n}.", "answer": f"{n}", "slice": "ja"} for n in range(7)])
    loaded = load_spec(path)
    inputs = open_inputs(loaded)
    assert planned_of(make_plan(loaded, inputs, CPU), inputs) == Measured(
        text=True, tasks={"facts": 20, "talk": 7}, slices={"en": 15, "ja": 12}, generations=7
    )
