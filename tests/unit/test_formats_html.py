from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser

import pytest

from quant_action.formats.html import render
from quant_action.formats.interface import Report
from tests.golden.hostile import hostile_report
from tests.golden.records import broken_report, next_report, report

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """What a page is made of; every element that is opened must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data


@cache
def page_of(make: Callable[[], Report]) -> str:
    return render(make())


@pytest.fixture
def page() -> str:
    return page_of(report)


def test_the_page_asks_for_nothing_from_anywhere(page: str) -> None:
    parsed = Page(page)
    assert not {"link", "img", "iframe", "object", "form", "a"} & set(parsed.tags)
    addresses = [value or "" for name, value in parsed.attributes if name in {"src", "href", "xlink:href", "action"}]
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'; script-src 'sha256-" in page


def test_the_policy_knows_the_one_script_by_its_digest(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page


def test_without_its_script_the_page_shows_every_regressed_item_and_no_controls(page: str) -> None:
    shown = sum(len(found.worst) for found in report().regressions)
    assert page.count('<tr data-candidate="') == shown == 125
    assert '<div id="controls" hidden>' in page
    assert "hidden" not in page.split('<table id="regressions">')[1].split("</table>")[0]


def test_gates_link_to_their_lines_where_the_address_is_known() -> None:
    run = next_report()
    links = {value for name, value in Page(page_of(next_report)).attributes if name == "href" and value and not value.startswith("#")}
    assert links == {f"{run.links}#L{line}" for line in (21, 22, 23, 24, 25, 31)}


def test_a_page_against_a_release_has_its_columns_plots_and_digests() -> None:
    text = " ".join(Page(page_of(next_report)).text.split())
    for words in (
        "KL, × release90% interval",
        "accuracy change from release",
        "Every comparison with the last release",
        "KL divergence over releases: ██▆▆▅ 0.0412 (v1.0.0) → 0.0215 (gptq-w4-g128)",
        "Accuracy, change from last release",
        "support-8b@v1.3.0",
        "samples: hash-only",
    ):
        assert words in text
    assert "Ticket 1:" not in text


def test_a_broken_run_and_overrides_stand_before_the_candidates() -> None:
    before, _, _ = " ".join(Page(render(broken_report())).text.split()).partition("Candidates")
    assert "🚫 Broken: the measurement is wrong, and nothing is decided" in before
    assert "🚫 Void gates" in before
    assert "gate accuracy of bnb-nf4, artifact" in before
    assert "by Ana: tickets-ja was being relabelled (changes nothing in this run) at quant.yml:31" in before


def test_the_page_says_the_verdict_before_anything_else(page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert (
        text.index("✅ Approved: release gptq-w4-g128") < text.index("Candidates") < text.index("Why not the others") < text.index("Plots")
    )


def test_the_page_holds_the_numbers_of_the_table(page: str) -> None:
    text = " ".join(Page(page).text.split())
    for words in (
        "×1.021",
        "[1.019, 1.024]",
        "−11.33 pp",
        "[−14.06, −8.53]",
        "n = 24 windows",
        "n = 600 items",
        "16.1 GB",
        "90% Bonett-Price",
        "torch 2.13.0",
    ):
        assert words in text


def test_hostile_text_adds_no_element_and_no_hidden_character() -> None:
    parsed = Page(render(hostile_report()))
    assert parsed.tags.count("script") == 1
    assert not {"img", "a", "b"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "\u202e" not in parsed.text
    assert "<img src=x onerror=alert(1)>" in parsed.text


def test_the_same_report_gives_the_same_bytes(page: str) -> None:
    assert render(report()) == page


def test_a_report_without_text_and_without_tasks_is_a_page_too() -> None:
    run = report()
    bare = {"metrics": {}, "changes": {}, "window_kl": (), "checks": ()}
    nothing = {"regressions": (), "floor": None, "nearest": None}
    rows = tuple(row.model_copy(update=bare) for row in run.rows)
    baseline = run.baseline.model_copy(update={"metrics": {}})
    text = Page(render(run.model_copy(update={"rows": rows, "baseline": baseline} | nothing))).text
    assert "not measured" in text
    assert "Plots" not in text
