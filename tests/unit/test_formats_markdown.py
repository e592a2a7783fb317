from __future__ import annotations

import html
import re
from collections.abc import Callable

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given
from hypothesis import strategies as st

from quant_action.formats.interface import Report
from quant_action.formats.markdown import compose, render
from quant_action.formats.markdown.inert import escape, fenced, marker
from quant_action.formats.markdown.shape import LIMIT, SHAPES
from quant_action.records import Outcome
from tests.golden.hostile import EVERYTHING, HOSTILE, hostile_report
from tests.golden.records import broken_report, next_report, report

ALPHABET = st.sampled_from("ab1 @#<>|`*_[]()!~\\&;$:/.-+\n\t\u202e\u200b\u05d0")
INVISIBLE = {"\u200b", "\u2068", "\u2069"}
"""Ours: breaks and isolates."""

OURS = {"a", "br", "code", "details", "em", "h2", "li", "p", "pre", "strong", "sub", "summary"} | {
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
}


def gfm(text: str) -> str:
    """HTML by GitHub's own renderer, with its autolinks, raw HTML left as it is."""
    return str(cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE))


def rendered_cell(text: str) -> str:
    """The HTML of `text` in the second cell of a table row."""
    page = gfm(f"| a | b | c |\n|---|---|---|\n| 1 | x {escape(text)} y | 3 |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, flags=re.DOTALL)
    assert len(cells) == 3, page
    assert cells[2] == "3"
    return str(cells[1])


def assert_inert(shown: str) -> None:
    """No mention, issue, address or emoji can be found in what is shown."""
    assert not re.search(r"@\w|#\d|://|www\.|GH-\d|:[a-z_]+:", shown)
    assert all(char.isprintable() or char in INVISIBLE for char in shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    shown = rendered_cell(text)
    assert "<" not in shown
    assert_inert(html.unescape(shown))


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_any_text_reads_as_it_was_and_makes_no_element(text: str) -> None:
    shown = rendered_cell(text)
    assert "<" not in shown
    expected = " ".join("".join(char for char in text if char.isprintable() or char.isspace()).split())
    visible = "".join(char for char in html.unescape(shown) if char not in INVISIBLE)
    assert visible == f"x {expected} y".replace("x  y", "x  y")


@given(st.lists(st.text(alphabet=ALPHABET, max_size=40).map(lambda text: f"- {text}".replace("\n", " ")), min_size=1, max_size=4))
def test_no_line_ends_its_fence(lines: list[str]) -> None:
    page = gfm(f"before\n\n{fenced(lines, 'diff')}\n\nafter\n")
    inside = re.fullmatch(r'<p>before</p>\n<pre lang="diff"><code>(.*?)</code></pre>\n<p>after</p>\n', page, flags=re.DOTALL)
    assert inside, page
    assert "<" not in inside[1]
    assert len(html.unescape(inside[1]).rstrip("\n").splitlines()) == len(lines)


def test_right_to_left_text_is_isolated() -> None:
    assert escape("\u05d0\u05d1 12") == "\u2068\u05d0\u05d1 12\u2069"
    assert escape("\u202eabc") == "abc"


def test_plain_names_are_left_alone() -> None:
    assert escape("gptq-w4-g128 perplexity_ratio v1.2 quant.yml:21:3") == "gptq-w4-g128 perplexity_ratio v1.2 quant.yml:21:3"


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


def assert_only_ours(comment: str, run: Report) -> None:
    page = gfm(comment)
    assert set(re.findall(r"<(\w+)", page)) <= OURS
    assert set(re.findall(r'href="([^"]*)"', page)) <= {f"{run.links}#L{line}" for line in range(100)}
    assert page.count("<!--") == comment.count("<!--") == 1
    assert page.startswith("<!-- quant_action:report:v1:")
    assert page.count("<details>") == page.count("</details>")
    assert "\u202e" not in comment
    prose = re.sub(r"<pre.*?</pre>|<!--.*?-->", "", page, flags=re.DOTALL)
    assert_inert(html.unescape(re.sub(r"<[^>]*>", " ", prose)).replace("\n", " "))


def test_a_hostile_report_has_only_our_own_elements_and_one_marker() -> None:
    assert_only_ours(render(hostile_report()), hostile_report())


@given(st.text(alphabet=ALPHABET, min_size=1, max_size=30))
def test_a_report_of_any_text_has_only_our_own_elements(text: str) -> None:
    assert_only_ours(render(hostile_report(rows=2, text=text)), hostile_report())


@pytest.mark.parametrize("make", [report, next_report, broken_report])
def test_an_honest_report_has_only_our_own_elements_too(make: Callable[[], Report]) -> None:
    assert_only_ours(render(make()), make())


def many(rows: int) -> Report:
    run = report()
    candidates = tuple(run.rows[index % 5].model_copy(update={"id": f"candidate-{index}"}) for index in range(rows))
    return run.model_copy(update={"rows": candidates, "objections": run.objections * rows})


@pytest.mark.parametrize(("rows", "shortened"), [(1, False), (10, False), (40, True), (400, True)])
def test_a_comment_always_fits_and_says_when_it_was_shortened(rows: int, shortened: bool) -> None:
    page = render(many(rows))
    assert len(page.encode()) <= LIMIT
    assert ("_Shortened to fit a comment (samples" in page) == shortened
    assert (f"And {rows - 40} more candidates" in page) == (rows == 400)


def test_samples_go_first_then_the_table_per_task_then_candidates() -> None:
    folds = ("<summary>Worst regressions", "<summary>Per task and slice", "<summary>Gates", "| gptq-w3-g128<br>", "<summary>Method")
    comments = [compose(report(), shape) for shape in SHAPES]
    kept = ["".join("x" if fold in comment else "-" for fold in folds) for comment in comments]
    assert list(dict.fromkeys(kept)) == ["xxxxx", "-xxxx", "--xxx", "---xx", "-----"]
    assert [shape.samples for shape in SHAPES[:5]] == [12, 8, 4, 2, 0]
    assert "Shortened" not in comments[0]
    assert all("_Shortened to fit a comment (samples" in comment for comment in comments[1:])


@pytest.mark.parametrize("rows", [6, 400])
def test_a_hostile_comment_fits_too(rows: int) -> None:
    assert len(render(hostile_report(rows=rows)).encode()) <= LIMIT


@pytest.mark.parametrize("char", ["|", "@", "\U0001f600", "\u05d0"])
def test_the_longest_texts_of_the_most_expensive_characters_fit(char: str) -> None:
    run = hostile_report(rows=100, text=(char + "#1") * 600)
    worst = run.model_copy(
        update={
            "overrides": run.overrides * 100,
            "warnings": run.objections * 100,
            "objections": run.objections * 100,
            "floor": report().floor,
            "release": report().floor,
        }
    )
    assert len(render(worst).encode()) <= LIMIT


def test_the_verdict_comes_first_and_the_references_head_the_table() -> None:
    lines = render(next_report()).splitlines()
    assert lines[2] == "## ✅ Approved: release gptq-w4-g128"
    table = [line for line in lines if line.startswith("| ")]
    assert table[2].startswith("| baseline<br>")
    assert table[3].startswith("| release<br>")
    assert table[4].startswith("| **gptq-w4-g128** 🏆 winner<br>")
    assert "×1.021 \\[1.019, 1.024\\]" in table[4]
    assert "+0.33 pp \\[−0.34, +1.00\\] n = 600" in table[4]


def test_without_a_release_that_is_said_once() -> None:
    page = render(report())
    assert page.count("not applicable, first release") == 1
    assert "➖" not in page
    assert "accuracy change from release" not in page


def test_a_gate_links_to_its_line_where_the_address_is_known() -> None:
    assert f"at [<code>quant.yml:21</code>]({next_report().links}#L21): perplexity" in render(next_report())
    assert "at <code>quant.yml:21</code>: perplexity" in render(report())
    assert "](http" not in render(report())


def test_overrides_stand_in_plain_sight_of_earlier_artifacts_too() -> None:
    before, _, _ = render(report()).partition("| candidate |")
    assert "🕓 gate accuracy of bnb-nf4, artifact" in before
    assert "by Ana, saying “tickets-ja was being relabelled” (changes nothing in this run) at <code>quant.yml:31</code>" in before


def test_a_broken_run_says_so_before_anything_else() -> None:
    before, _, _ = render(broken_report()).partition("**Overrides**")
    assert before.splitlines()[2] == "## 🚫 Broken: the measurement is wrong, and nothing is decided"
    assert "Void gates" in before
    assert "- <code>accuracy</code> at <code>quant.yml:23</code>: accuracy −9.67 pp" in before


def test_private_samples_are_shown_as_digests() -> None:
    page = render(next_report())
    fold = page[page.index("<summary>Worst regressions of <code>gptq-w4-g128</code>") :]
    assert "samples: hash-only" in fold
    assert re.search(r"\n- baseline +sha256 [0-9a-f]{16}\n\+ gptq-w4-g128 +sha256 [0-9a-f]{16}\n", fold)
    assert "Ticket" not in page


def test_the_worst_regressions_are_differences_under_what_was_asked() -> None:
    page = render(report())
    assert "6 of 600 items right → wrong, 7 wrong → right; answered in other words: 1 (all shown)" in page
    assert "```diff\n  prompt        Ticket 1: which office?\n  expected      Lima\n- baseline      Lima\n+ gptq-w4-g128  Bern\n```" in page


def test_without_a_winner_the_nearest_candidate_s_are_shown() -> None:
    run = report()
    assert "Worst regressions of <code>bnb-nf4</code>" in render(run.model_copy(update={"winner": None, "nearest": "bnb-nf4"}))
    assert "Worst regressions" not in render(run.model_copy(update={"nearest": None}))


def test_the_trend_ends_at_this_run() -> None:
    assert "KL divergence over releases: ██▆▆▅ 0.0412 (v1.0.0) → 0.0215 (gptq-w4-g128)" in render(next_report())
    assert "over releases" not in render(report())


def test_nothing_that_decides_rests_on_colour_or_symbol_alone() -> None:
    page = render(report())
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_EVALUATED):
        assert str(outcome) in page
    assert EVERYTHING not in page
