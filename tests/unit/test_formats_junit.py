from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from quant_action.formats.interface import Report
from quant_action.formats.junit import render
from tests.golden.records import report

REPORT = report()


def test_one_suite_per_candidate_and_one_case_per_gate() -> None:
    root = ElementTree.fromstring(render(REPORT))
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [
        ("gptq-w4-g128", "5"),
        ("awq-w4-g128", "5"),
        ("bnb-int8", "5"),
        ("bnb-nf4", "5"),
        ("gptq-w3-g128", "5"),
        ("rtn-w2", "1"),
    ]
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "26",
        "failures": "2",
        "errors": "3",
        "skipped": "5",
    }


def test_only_a_pass_is_green() -> None:
    root = ElementTree.fromstring(render(REPORT))
    elements = {(case.get("classname"), case.get("name")): next((child.tag for child in case), "green") for case in root.iter("testcase")}
    assert elements["support-8b.gptq-w4-g128", "accuracy"] == "green"
    assert elements["support-8b.gptq-w4-g128", "kl_ratio"] == "skipped"
    assert elements["support-8b.bnb-nf4", "accuracy"] == "error"
    assert elements["support-8b.gptq-w3-g128", "accuracy"] == "failure"
    assert elements["support-8b.rtn-w2", "evaluated"] == "error"


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
