from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quant_action.formats import wording
from quant_action.formats.interface import Change, Report
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
    change = Change(name="accuracy", value=0.0017, interval=interval, n=600, unit="pp", samples="items")
    assert wording.change_words(change) == "+0.17 pp [−0.89, +1.22]"
    ratio = Interval(low=1.0104, high=1.0331, level=0.9, method="t")
    assert wording.change_words(change.model_copy(update={"value": 1.0214, "interval": ratio, "unit": "x"})) == "×1.021 [1.010, 1.033]"
    assert wording.change_words(change.model_copy(update={"value": 0.0214, "interval": None, "unit": "nat"})) == "0.0214 nat"


@pytest.mark.parametrize(
    ("metric", "words"), [("accuracy:kl@x", "kl@x"), ("accuracy@ja", "slice ja"), ("kl@ja", "slice ja of the text, kl")]
)
def test_parts_have_names_for_people(metric: str, words: str) -> None:
    assert wording.part_words(metric) == words


def test_a_sparkline_is_drawn_from_zero() -> None:
    assert wording.sparkline([0.8, 0.4, 0.1, 0.0]) == "█▄▁▁"
    assert wording.sparkline([0.0, 0.0]) == "▁▁"
    assert wording.sparkline([]) == ""


def test_a_sample_takes_one_line_and_no_more_than_400_characters() -> None:
    assert wording.sample("\nDear all,\r\n\tit is \u202e7.\n") == "Dear all, ⏎ it is 7."
    assert wording.sample(" \n") == "(empty)"
    assert len(wording.sample("x" * 5000)) == 400


def test_text_of_right_to_left_letters_is_isolated_and_no_other() -> None:
    assert wording.isolate("abc é 1") == "abc é 1"
    assert wording.isolate("\u05d0 1") == "\u2068\u05d0 1\u2069"


def test_a_column_s_count_is_said_in_its_cells_where_candidates_were_stopped_at_different_looks() -> None:
    run = report()
    assert (wording.counted(run, wording.ACCURACY), wording.own_count(run, wording.ACCURACY, run.rows[0].changes["accuracy"])) == (
        "n = 600 items",
        "",
    )
    early = run.rows[0].changes["accuracy"].model_copy(update={"n": 150})
    row = run.rows[0].model_copy(update={"changes": run.rows[0].changes | {"accuracy": early}})
    stopped = run.model_copy(update={"rows": (row, *run.rows[1:])})
    assert (wording.counted(stopped, wording.ACCURACY), wording.own_count(stopped, wording.ACCURACY, early)) == ("", "n = 150")


def test_a_place_is_file_and_line_and_links_only_where_the_address_is_known() -> None:
    run = report()
    assert wording.place("a/quant.yml:21:3") == "a/quant.yml:21"
    assert wording.link_of("a/quant.yml:21:3", run) is None
    known = run.model_copy(update={"links": "https://git.example/a/quant.yml"})
    assert wording.link_of("a/quant.yml:21:3", known) == "https://git.example/a/quant.yml#L21"
    assert wording.link_of("nowhere", known) is None


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://x.example/a)b", "https://x.example/a b", "https://x.example/<a>"])
def test_an_address_that_would_need_escaping_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(report().model_dump() | {"links": address})


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
