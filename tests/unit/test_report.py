from __future__ import annotations

import math

import pytest

from quant_action.judge import judge
from quant_action.metrics.looks import looks_level
from quant_action.records import BitsandbytesScheme, Decision, Outcome, Plan
from quant_action.report import build_report, describe
from quant_action.store import BASELINE
from tests.golden import records


def test_the_winner_comes_first_then_outcomes_then_sizes() -> None:
    report = records.report()
    assert [row.id for row in report.rows] == ["gptq-w4-g128", "awq-w4-g128", "bnb-int8", "bnb-nf4", "gptq-w3-g128", "rtn-w2"]
    assert [row.outcome for row in report.rows] == [
        Outcome.PASS,
        Outcome.PASS,
        Outcome.PASS,
        Outcome.INCONCLUSIVE,
        Outcome.FAIL,
        Outcome.NOT_EVALUATED,
    ]
    assert (report.decision, report.winner) == (Decision.APPROVED, "gptq-w4-g128")


def test_a_row_holds_the_paired_differences_from_the_baseline() -> None:
    row = records.report().rows[0]
    mine, base = records.VALUES[row.id].windows, records.VALUES[BASELINE].windows
    assert mine
    assert base
    differences = [float(a) - float(b) for a, b in zip(mine.nll.ravel(), base.nll.ravel(), strict=True)]
    assert row.changes["perplexity"].value == pytest.approx(math.exp(math.fsum(differences) / len(differences)), rel=1e-12)
    losses, gains = records.FLIPS[row.id]
    assert row.changes["accuracy"].value == pytest.approx((gains - losses) / sum(records.ITEMS.values()))
    assert row.size_ratio == 5_120_000_000 / 16_060_000_000
    assert row.window_kl == pytest.approx([math.fsum(window) / len(window) for window in mine.kl.tolist()])


def test_each_task_is_compared_by_itself() -> None:
    row = next(row for row in records.report().rows if row.id == "gptq-w3-g128")
    pooled = sum(row.changes[f"accuracy:{task}"].value * count for task, count in records.ITEMS.items()) / sum(records.ITEMS.values())
    assert row.changes["accuracy"].value == pytest.approx(pooled)
    assert row.changes["accuracy:tickets"].n == 400


def test_the_baseline_has_values_but_no_outcome_and_no_changes() -> None:
    baseline = records.report().baseline
    assert (baseline.outcome, baseline.changes, baseline.size) == (None, {}, 16_060_000_000)
    assert baseline.metrics["accuracy"].value == pytest.approx(0.8)


def test_every_candidate_but_the_winner_has_an_objection() -> None:
    report = records.report()
    assert {objection.id for objection in report.objections} == {row.id for row in report.rows} - {report.winner}


def test_an_objection_names_the_gate_and_its_place_in_the_spec() -> None:
    failed = [objection for objection in records.report().objections if objection.id == "gptq-w3-g128"]
    assert [(objection.gate, objection.where) for objection in failed] == [
        ("perplexity_ratio", "quant.yml:21:3"),
        ("accuracy", "quant.yml:23:3"),
    ]


def test_a_crash_is_told_with_its_remedy() -> None:
    crash = next(objection for objection in records.report().objections if objection.outcome is Outcome.NOT_EVALUATED)
    assert crash.text == "quantize ended with OutOfMemory: the GPU's memory is full. Use a larger GPU."


def test_a_candidate_that_was_made_but_not_evaluated_shows_its_size() -> None:
    subjects = {id: subject for id, subject in records.SUBJECTS.items() if id != "bnb-nf4"}
    report = build_report(
        plan=records.PLAN,
        verdict=records.verdict(),
        baseline=records.BASELINE_SUBJECT,
        release=None,
        floor=None,
        candidates=records.CANDIDATES,
        subjects=subjects,
        runtimes=records.RUNTIMES,
        untimed={},
        failures=records.FAILURES,
    )
    row = next(row for row in report.rows if row.id == "bnb-nf4")
    assert (row.size, row.metrics, row.changes) == (5_440_000_000, {}, {})


def test_the_method_says_whether_runtimes_were_checked() -> None:
    def said(plan: Plan) -> str:
        report = build_report(
            plan=plan,
            verdict=records.verdict(),
            baseline=records.BASELINE_SUBJECT,
            release=None,
            floor=None,
            candidates=records.CANDIDATES,
            subjects=records.SUBJECTS,
            runtimes={},
            untimed={},
            failures=records.FAILURES,
        )
        return next(fact.text for fact in report.method if fact.label == "Runtime check")

    assert said(records.PLAN).startswith("on the first 128 tokens of 2 windows of the text")
    assert said(records.PLAN.model_copy(update={"runtime": None})) == "not asked for (evaluation.runtime)"


def test_the_method_names_data_by_digest_and_counts_tokens() -> None:
    facts = {fact.label: fact.text for fact in records.report().method}
    assert (
        facts["Text"] == f"data/heldout.jsonl, windows of 65 tokens, 24 windows, 1,536 scored tokens, sha256 {records.digest_of('heldout')}"
    )
    assert "revision 0e9e39f249a16976918f6564b8830bc894c89659" in facts["Model"]
    assert records.report().versions == ("bitsandbytes 0.50.2", "torch 2.13.0", "transformers 5.17.0")


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (records.weights("gptq", 4, group_size=64), "GPTQ 4-bit, groups of 64, symmetric"),
        (records.weights("awq", 4, symmetric=False, scales="awq", clip=True), "AWQ 4-bit, groups of 128, asymmetric, clipped"),
        (records.weights("gptq", 4, scales="awq"), "GPTQ 4-bit, groups of 128, symmetric, AWQ scales"),
        (
            records.weights("gptq", 3, act_order=True, static_groups=True),
            "GPTQ 3-bit, groups of 128, symmetric, activation order with static groups",
        ),
        (records.weights("rtn", 8, group_size=-1), "round to nearest 8-bit, one scale per channel, symmetric"),
        (BitsandbytesScheme(method="bitsandbytes", type="nf4", double_quant=True), "bitsandbytes NF4, scales quantized too"),
    ],
)
def test_a_scheme_is_described_for_people(scheme: records.Scheme, words: str) -> None:
    assert describe(scheme) == words


def test_the_floor_is_a_row_with_the_gates_against_the_baseline() -> None:
    floor = records.report().floor
    assert floor
    assert (floor.outcome, [check.gate for check in floor.checks]) == (None, ["perplexity_ratio", "accuracy", "top1"])
    assert 0 < floor.metrics["kl"].value < 0.0001
    assert records.report().void == ()


def test_a_gate_that_fails_on_the_floor_is_void() -> None:
    report = records.broken_report()
    assert (report.decision, report.winner) == (Decision.BROKEN, None)
    assert [check.gate for check in report.void] == ["perplexity_ratio", "accuracy", "top1"]


def test_a_release_is_compared_with_by_every_candidate() -> None:
    report = records.next_report()
    assert report.release
    assert report.release.changes["perplexity"].value == pytest.approx(1.02467, abs=1e-5)
    row = report.rows[0]
    losses, gains = records.FLIPS[row.id]
    released_losses, released_gains = 9, 8
    expected = ((gains - losses) - (released_gains - released_losses)) / sum(records.ITEMS.values())
    assert row.release_changes["accuracy"].value == pytest.approx(expected)
    assert row.release_changes["kl"].value == pytest.approx(row.metrics["kl"].value / report.release.metrics["kl"].value)
    assert records.report().rows[0].release_changes == {}


def test_the_trend_is_the_history_and_this_run_s_winner() -> None:
    report = records.next_report()
    assert [label for label, _ in report.trend] == ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "gptq-w4-g128"]
    assert report.trend[-1][1] == report.rows[0].metrics["kl"].value
    assert len(records.report().trend) == 1


def test_without_a_winner_the_nearest_is_the_undecided_one_with_the_least_divergence() -> None:
    assert records.report().nearest == "gptq-w4-g128"
    assert records.broken_report().nearest == "bnb-int8"


def test_only_warning_gates_warn_and_are_no_objection() -> None:
    report = records.report()
    assert [(warning.id, warning.gate) for warning in report.warnings] == [("bnb-nf4", "top1"), ("gptq-w3-g128", "top1")]
    assert "top1" not in {objection.gate for objection in report.objections}


def test_an_override_of_another_artifact_is_kept_and_lets_nothing_pass() -> None:
    assert [(note.override.by, note.checks) for note in records.report().overrides] == [("Ana", ())]


def test_an_override_of_this_artifact_lets_its_gate_pass_and_is_no_objection() -> None:
    said = records.OVERRIDES[0].model_copy(update={"artifact": records.digest_of(["artifact", "bnb-nf4"])[:12]})
    verdict = judge(
        plan_key=records.PLAN.key,
        gates=dict.fromkeys(records.SUBJECTS, records.GATES),
        baseline=records.BASELINE_SUBJECT,
        release=None,
        floor=records.FLOOR,
        candidates=records.SUBJECTS,
        required=(),
        choose="smallest",
        looks=(0.5, 1.0),
        overrides=(said,),
    )
    report = build_report(
        plan=records.PLAN,
        verdict=verdict,
        baseline=records.BASELINE_SUBJECT,
        release=None,
        floor=records.FLOOR,
        candidates=records.CANDIDATES,
        subjects=records.SUBJECTS,
        runtimes={},
        untimed={},
        failures={},
    )
    assert [(check.gate, check.outcome) for note in report.overrides for check in note.checks] == [("accuracy", Outcome.INCONCLUSIVE)]
    assert "accuracy" not in {objection.gate for objection in report.objections if objection.id == "bnb-nf4"}
    interval = report.rows[0].changes["accuracy"].interval
    assert interval
    assert interval.level == pytest.approx(looks_level((0.5, 1.0)))
    windows = report.rows[0].changes["perplexity"].interval
    assert windows
    assert windows.level == 0.90
    assert "after 50%, 100% of the items" in next(fact.text for fact in report.method if fact.label == "Looks")
