from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.formats import wording
from quant_action.records import Decision, Failure, Interval
from tests.golden.records import report


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_449_000, "1.4 MB"),
        (99_960_000, "100 MB"),
        (999_600_000, "1.0 GB"),
        (5.12e9, "5.1 GB"),
        (2e15, "2,000.0 TB"),
    ],
)
def test_bytes_are_decimal(size: int, words: str) -> None:
    assert wording.format_bytes(size) == words


def test_the_runtime_check_in_words() -> None:
    whole = report()
    row = next(row for row in whole.rows if row.id == "awq-w4-g128")
    assert wording.runtime_line(row, whole) == (
        "✅ computes what was scored: AwqMarlinLinear × 224 (transformers 5.17.0 with gptqmodel 7.6.0, float16); KL 0.00008 nats over "
        "256 tokens, rounding alone 0.00059; any logit within 0.0712 of their spread, rounding alone 0.190"
    )
    assert row.runtime
    told = row.model_copy(update={"runtime": row.runtime.model_copy(update={"backend": "marlin"})})
    assert "float16, only when told backend=marlin: its own choice refuses this model on this GPU)" in wording.runtime_line(told, whole)
    failure = Failure(id=row.id, stage="runtime", kind="EngineError", exit_code=4, message="differs", remedy=None)
    failed = row.model_copy(update={"runtime": None, "failure": failure})
    assert wording.runtime_line(failed, whole) == "❌ failed"
    assert wording.runtime_line(row, whole.model_copy(update={"runtime": None})) == "not asked for (evaluation.runtime)"


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.14159, "3.1 s"), (31.4, "31 s"), (59.6, "1 min 00 s"), (412, "6 min 52 s"), (7261, "2 h 01 min")]
)
def test_seconds(seconds: float, words: str) -> None:
    assert wording.format_seconds(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (1.02134, "1.021"),
        (15.2706, "15.27"),
        (123.456, "123.5"),
        (53210.4, "53,210"),
        (0.02148, "0.0215"),
        (0.00098, "0.00098"),
        (3e-7, "3.00e−07"),
        (-0.5, "−0.500"),
    ],
)
def test_numbers_keep_three_digits_that_matter(value: float, words: str) -> None:
    assert wording.format_number(value) == words


@pytest.mark.parametrize(("change", "words"), [(0.0017, "+0.17 pp"), (-0.1133, "−11.33 pp"), (0.0, "±0.00 pp"), (-0.00001, "±0.00 pp")])
def test_points_have_a_sign_unless_they_round_to_nothing(change: float, words: str) -> None:
    assert wording.format_points(change) == words


def test_intervals() -> None:
    interval = Interval(low=-0.0089, high=0.0122, level=0.9, method="t")
    assert wording.format_points_interval(interval) == "[−0.89, +1.22]"
    assert wording.format_ratio_interval(Interval(low=1.0104, high=1.0331, level=0.9, method="t")) == "[1.010, 1.033]"
    assert wording.format_ratio_interval(None) == ""


@given(st.text(max_size=300))
def test_clean_text_is_one_line_of_visible_characters(text: str) -> None:
    cleaned = wording.clean(text)
    assert all(char.isprintable() for char in cleaned)
    assert wording.clean(cleaned) == cleaned


def test_clean_removes_what_reorders_or_hides_text_and_cuts_the_rest() -> None:
    assert wording.clean("a\u202eb\u2066c\u200bd\x1b[31m\r\n e\tf\x00") == "abcd[31m e f"
    assert wording.clean("x" * 20, limit=5) == "xxxx…"


def test_the_headline_never_rests_on_a_symbol_alone() -> None:
    run = report()
    assert wording.headline(run) == "✅ Approved: release gptq-w4-g128"
    rejected = run.model_copy(update={"decision": Decision.REJECTED, "winner": None})
    assert wording.headline(rejected) == "❌ Rejected: no candidate may be released"
    undecided = run.model_copy(update={"decision": Decision.INCONCLUSIVE, "winner": None})
    assert wording.headline(undecided) == "❔ Inconclusive: more data is needed to decide"
    assert wording.tally(run) == "3 pass · 1 fail · 1 inconclusive · 1 not evaluated"
    assert all(words.split()[1:] for words in map(wording.outcome_words, wording.SYMBOLS))


def test_columns_say_what_they_count() -> None:
    assert wording.counted(report(), wording.PERPLEXITY) == "n = 24 windows"
    assert wording.counted(report(), wording.ACCURACY) == "n = 600 items"
    assert wording.level_words(report()) == "90% interval"
