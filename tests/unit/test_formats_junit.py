from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from quant_action.formats.interface import Report
from quant_action.formats.junit import render
from quant_action.records import Outcome, Override
from tests.golden.records import broken_report, report

REPORT = report()


def test_one_suite_per_candidate_and_one_case_per_gate() -> None:
    root = ElementTree.fromstring(render(REPORT))
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [
        ("gptq-w4-g128", "6"),
        ("awq-w4-g128", "6"),
        ("bnb-int8", "6"),
        ("bnb-nf4", "6"),
        ("gptq-w3-g128", "6"),
        ("rtn-w2", "1"),
        ("baseline against itself", "3"),
    ]
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "34",
        "failures": "2",
        "errors": "3",
        "skipped": "9",
    }


def test_only_a_pass_is_green() -> None:
    root = ElementTree.fromstring(render(REPORT))
    elements = {(case.get("classname"), case.get("name")): next((child.tag for child in case), "green") for case in root.iter("testcase")}
    assert elements["support-8b.gptq-w4-g128", "accuracy"] == "green"
    assert elements["support-8b.gptq-w4-g128", "kl_ratio"] == "skipped"
    assert elements["support-8b.bnb-nf4", "accuracy"] == "error"
    assert elements["support-8b.gptq-w3-g128", "accuracy"] == "failure"
    assert elements["support-8b.rtn-w2", "evaluated"] == "error"


def verdicts(report: Report, suite: str) -> dict[str | None, tuple[str, str | None]]:
    found = next(found for found in ElementTree.fromstring(render(report)) if found.get("name") == suite)
    return {case.get("name"): next(((child.tag, child.get("message")) for child in case), ("green", None)) for case in found}


def test_a_gate_that_only_warns_or_was_overridden_or_is_an_open_tripwire_is_skipped_and_says_why() -> None:
    row = REPORT.rows[4]
    fail = row.checks[0]
    said = Override(candidate=row.id, gate="size", artifact="0" * 64, by="Ana", reason="agreed", where=None)
    checks = (
        fail.model_copy(update={"gate": "warns", "level": "warn"}),
        fail.model_copy(update={"gate": "overridden", "override": said}),
        fail.model_copy(update={"gate": "tasks", "metric": "accuracy:a", "family": "tasks", "outcome": Outcome.INCONCLUSIVE}),
        fail.model_copy(update={"gate": "tasks", "metric": "accuracy:b", "family": "tasks"}),
        fail.model_copy(update={"gate": "void", "level": "warn", "outcome": Outcome.VOID}),
    )
    found = verdicts(REPORT.model_copy(update={"rows": (row.model_copy(update={"checks": checks}),)}), row.id)
    reason = f"fail: {fail.reason}"
    assert found["warns"] == ("skipped", f"only warns: {reason}")
    assert found["overridden"] == ("skipped", f"overridden by Ana (agreed): {reason}")
    assert found["tasks (accuracy:a, baseline)"] == ("skipped", f"never blocks when open: inconclusive: {fail.reason}")
    assert found["tasks (accuracy:b, baseline)"] == ("failure", reason)
    assert found["void"][0] == "error"


def test_the_baseline_against_itself_is_a_suite_of_its_own_and_its_fails_are_errors() -> None:
    assert set(verdicts(REPORT, "baseline against itself").values()) == {("green", None)}
    assert {tag for tag, _ in verdicts(broken_report(), "baseline against itself").values()} == {"error"}


def test_the_runtime_check_is_a_case_and_skipped_where_it_is_not_asked_for() -> None:
    def cases(report: Report) -> list[tuple[str | None, str]]:
        found = ElementTree.fromstring(render(report)).iter("testcase")
        return [(case.get("classname"), case[0].get("message") or case[0].text or "") for case in found if case.get("name") == "runtime"]

    asked = cases(REPORT)
    assert asked[0][0] == "support-8b.gptq-w4-g128"
    assert asked[0][1].startswith("✅ computes what was scored: MarlinLinear × 224 (transformers 5.17.0 with gptqmodel 7.6.0, bfloat16)")
    rows = tuple(row.model_copy(update={"runtime": None}) for row in REPORT.rows)
    off = cases(REPORT.model_copy(update={"runtime": None, "rows": rows}))
    assert off == [(name, "not asked for (evaluation.runtime)") for name, _ in asked]


def test_a_case_knows_its_line_of_the_spec() -> None:
    case = next(ElementTree.fromstring(render(REPORT)).iter("testcase"))
    assert (case.get("file"), case.get("line")) == ("quant.yml", "21")


@given(st.text(max_size=50))
def test_any_text_gives_well_formed_xml(text: str) -> None:
    run = REPORT
    rows = (run.rows[4].model_copy(update={"checks": tuple(check.model_copy(update={"reason": text}) for check in run.rows[4].checks)}),)
    root = ElementTree.fromstring(render(run.model_copy(update={"name": text, "rows": rows})))
    assert root.get("failures") == "2"
