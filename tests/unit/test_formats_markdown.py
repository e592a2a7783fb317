from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from quant_action.formats.interface import Report
from quant_action.formats.markdown import LIMIT, MOST_ROWS, escape, marker, render
from tests.golden.records import report

GFM = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "@octocat please",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<https://evil.example>",
    "see www.evil.example or http://evil.example",
    "<img src=x onerror=alert(1)>",
    "<!-- quant_action:report:v1:quant.yml -->",
    "--> <script>",
    "a | b | c",
    "\\| still one cell",
    "```\nout of the fence\n```",
    "`code` ``code``",
    "~~gone~~ **bold** _it_ __it__ $x$",
    "&lt;b&gt; &#64;octocat",
    "#1 owner/repo#2 GH-3",
    "</details><h1>Approved</h1>",
    "\u202egnp.exe\u202c\u2066x\u2069",
    "line one\n\n## Approved\n- x",
    "\x00\x1b[31mred\x07",
]


def rendered_cell(text: str) -> str:
    """The HTML of `text` in the second cell of a table row, by an independent implementation of Markdown."""
    page = GFM.render(f"| a | b | c |\n|---|---|---|\n| 1 | x {escape(text)} y | 3 |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, flags=re.DOTALL)
    assert len(cells) == 3, page
    assert cells[2] == "3"
    return cells[1]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    shown = rendered_cell(text)
    assert "<" not in shown
    visible = html.unescape(shown)
    assert not re.search(r"@\w|#\d|://|www\.|GH-\d", visible)
    assert all(char.isprintable() or char == "\u200b" for char in visible)


@given(st.text(alphabet=st.sampled_from("ab1 @#<>|`*_[]()!~\\&;$:/.-\n\t\u202e\u200b"), max_size=60))
def test_any_text_reads_as_it_was_and_makes_no_element(text: str) -> None:
    shown = rendered_cell(text)
    assert "<" not in shown
    expected = " ".join("".join(char for char in text if char.isprintable() or char.isspace()).split())
    assert html.unescape(shown).replace("\u200b", "") == f"x {expected} y".replace("x  y", "x  y")


def test_plain_names_are_left_alone() -> None:
    assert escape("gptq-w4-g128 perplexity_ratio v1.2") == "gptq-w4-g128 perplexity_ratio v1.2"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("quant.yml", "<!-- quant_action:report:v1:quant.yml -->"),
        ("models/a b/quant.yml", "<!-- quant_action:report:v1:models/a%20b/quant.yml -->"),
        ("x-->.yml", "<!-- quant_action:report:v1:x%2D%2D%3E.yml -->"),
    ],
)
def test_the_marker_is_one_comment_whatever_the_path(spec: str, line: str) -> None:
    assert marker(spec) == line


def hostile_report(rows: int = 6) -> Report:
    """Every string that a spec or a model can decide is hostile."""
    run, text = report(), " ".join(HOSTILE)
    checks = tuple(check.model_copy(update={"gate": text, "reason": text, "where": text}) for check in run.rows[0].checks)
    row = run.rows[0].model_copy(update={"scheme": text, "engine": text, "checks": checks})
    return run.model_copy(
        update={
            "name": text,
            "spec": text,
            "model": text,
            "reason": text,
            "winner": text,
            "rows": tuple(row.model_copy(update={"id": text if index == 0 else f"{text} {index}"}) for index in range(rows)),
            "objections": tuple(objection.model_copy(update={"id": text, "text": text, "where": text}) for objection in run.objections),
            "method": tuple(fact.model_copy(update={"label": text, "text": text}) for fact in run.method),
            "versions": (text,),
        }
    )


def test_a_hostile_report_has_only_our_own_elements_and_one_marker() -> None:
    page = GFM.render(render(hostile_report()))
    ours = {
        "h2",
        "p",
        "strong",
        "em",
        "code",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "br",
        "sub",
        "ul",
        "li",
        "pre",
        "details",
        "summary",
    }
    assert set(re.findall(r"<(\w+)", page)) <= ours
    assert page.count("<!--") == 1
    assert page.startswith("<!-- quant_action:report:v1:")


@pytest.mark.parametrize("rows", [1, 40, 400])
def test_a_comment_always_fits_and_says_when_it_was_shortened(rows: int) -> None:
    run = report()
    many = tuple(run.rows[index % 5].model_copy(update={"id": f"candidate-{index}"}) for index in range(rows))
    page = render(run.model_copy(update={"rows": many, "objections": run.objections * rows}))
    assert len(page) <= LIMIT
    assert (f"And {rows - MOST_ROWS} more candidates" in page) == (rows > MOST_ROWS)
    left_out = [
        fold for fold in ("Why not the others", "<summary>Gates", "<summary>Time and memory", "<summary>Method") if fold not in page
    ]
    assert page.endswith("_Shortened: the rest is in the HTML report._\n") == bool(left_out)
    assert bool(left_out) == (rows > 1)


def test_a_hostile_comment_fits_too() -> None:
    assert len(render(hostile_report(rows=400))) <= LIMIT


def test_the_verdict_comes_first_and_the_baseline_heads_the_table() -> None:
    lines = render(report()).splitlines()
    assert lines[2] == "## ✅ Approved: release gptq-w4-g128"
    table = [line for line in lines if line.startswith("| ")]
    assert table[2].startswith("| baseline<br>")
    assert table[3].startswith("| **gptq-w4-g128** 🏆 winner<br>")
    assert "×1.021 \\[1.019, 1.024\\]" in table[3]
