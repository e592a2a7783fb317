from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from quant_action.formats.html import render
from tests.golden.records import report
from tests.unit.test_formats_markdown import hostile_report

VOID = {"meta", "br"}


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
        if "style" not in self._open:
            self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return render(report())


def test_the_page_asks_for_nothing_from_anywhere(page: str) -> None:
    parsed = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(parsed.tags)
    addresses = [value or "" for name, value in parsed.attributes if name in {"src", "href", "xlink:href", "action"}]
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


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
    assert not {"script", "img", "a", "b"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "\u202e" not in parsed.text
    assert "<img src=x onerror=alert(1)>" in parsed.text


def test_the_same_report_gives_the_same_bytes(page: str) -> None:
    assert render(report()) == page


def test_a_report_without_text_and_without_tasks_is_a_page_too() -> None:
    run = report()
    bare = {"metrics": {}, "changes": {}, "window_kl": (), "checks": ()}
    rows = tuple(row.model_copy(update=bare) for row in run.rows)
    text = Page(render(run.model_copy(update={"rows": rows, "baseline": run.baseline.model_copy(update={"metrics": {}})}))).text
    assert "not measured" in text
    assert "Plots" not in text
