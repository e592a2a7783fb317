"""What metrics make of answers: changed, degenerate, parted, reworded; and accuracy over groups and slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quant_action.metrics import metric
from quant_action.metrics.chrf import chrf
from quant_action.metrics.interface import Difference, Subject
from quant_action.metrics.intervals import bonett_price, paired_interval, wilson
from quant_action.metrics.shares import share_interval
from tests.unit.subjects import subject


def answers(*items: dict[str, Any], kind: Any = "candidate") -> Subject:
    return subject(kind=kind, items={"t": items})


def compare(id: str, candidate: Subject, reference: Subject | None) -> Difference:
    found = metric(id).compare(candidate, reference)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"),
    [  # sacreBLEU 2.6.0, CHRF().sentence_score, over 100
        ("the cat sat on the mat", "the cat sat on a mat", 0.720848317308462),
        ("返金は40日以内に", "返金は14日以内に", 0.351521164021164),
        ("72", "71", 0.25),
        ("abc", "xyz", 0.0),
        ("hello world", "hello world", 1.0),
        ("short", "a much longer reference answer", 0.03669724770642202),
        ("a b", "ab", 1.0),
        ("34 43 52 61 70", "34 43 52 61 71", 0.8590608465608466),
        ("", "x", 0.0),
        ("a", "ab", 0.5555555555555556),
    ],
)
def test_chrf_is_that_of_sacrebleu(hypothesis: str, reference: str, score: float) -> None:
    assert chrf(hypothesis, reference) == pytest.approx(score, abs=1e-12)


def test_two_empty_answers_are_equal() -> None:
    assert chrf("", " ") == 1.0


def test_chrf_of_a_model_is_the_mean_over_its_answers() -> None:
    found = compare(
        "chrf", answers({"output": "72"}, {"output": "a"}, {"answer": 0}), answers({"output": "71"}, {"output": "a"}, {"answer": 0})
    )
    assert (found.value, found.n, found.unit) == (0.625, 2, "%")
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "changed"),
    [
        ({"answer": 1}, {"answer": 2}, True),
        ({"answer": 1, "answered_sha256": "x"}, {"answer": 1, "answered_sha256": "x"}, False),
        ({"output": "a"}, {"output": "b"}, True),
        ({"answered_sha256": "x"}, {"answered_sha256": "x"}, False),
        ({"output": "long text", "answered": "long …"}, {"output": "long word", "answered": "long …"}, True),
    ],
)
def test_an_answer_is_changed_whether_it_is_right_or_not(mine: dict[str, Any], theirs: dict[str, Any], changed: bool) -> None:
    found = compare("answer_change", answers(mine), answers(theirs))
    assert (found.value, found.n) == (float(changed), 1)


def test_items_that_do_not_say_what_was_answered_are_left_out() -> None:
    assert metric("answer_change").compare(answers({}), answers({})) is None
    assert compare("answer_change", answers({}, {"answer": 1}), answers({}, {"answer": 0})).n == 1


@pytest.mark.parametrize(
    ("mine", "theirs", "change"),
    [
        ("loop", None, 1),
        ("empty", None, 1),
        ("no end", None, 1),
        ("no end", "no end", 0),
        ("loop", "no end", 1),
        ("loop", "empty", 0),
        (None, "no end", -1),
        ("no end", "loop", -1),
    ],
)
def test_a_fault_counts_against_the_reference_s(mine: str | None, theirs: str | None, change: int) -> None:
    found = compare("degenerate", answers({"degenerate": mine}), answers({"degenerate": theirs}))
    assert (found.value, found.unit, found.samples) == (change, "pp", "items")


def test_degenerate_answers_are_judged_by_the_interval_of_paired_shares() -> None:
    base = answers(*[{"degenerate": None}] * 300, {}, kind="baseline")
    worse = answers(*[{"degenerate": "loop"}] * 9, *[{"degenerate": None}] * 291, {})
    found = compare("degenerate", worse, base)
    assert (found.value, found.n) == (0.03, 300)
    assert found.interval == bonett_price(gains=9, losses=0, n=300)
    alone = compare("degenerate", worse, None)
    assert (alone.value, alone.unit, alone.interval) == (0.03, "%", wilson(successes=9, n=300))
    assert worse.evaluation.metrics["degenerate"].value == 0.03


def test_no_generation_has_nothing_degenerate() -> None:
    choices = answers({"answer": 1})
    assert "degenerate" not in choices.evaluation.metrics
    assert metric("degenerate").compare(choices, choices) is None
    assert metric("degenerate").compare(choices, None) is None


def test_first_divergence_is_the_median_over_answers_that_differ() -> None:
    mine = [[1, 2, 3], [1, 2, 3], [9], [1, 2], []]
    theirs = [[1, 2, 3], [1, 2, 4], [8, 1], [1, 2, 5, 6], [1]]
    found = compare("first_divergence", answers(*({"ids": ids} for ids in mine)), answers(*({"ids": ids} for ids in theirs)))
    assert (found.value, found.n, found.unit) == (1.0, 4, "tokens")  # of 2, 0, 2, 0
    assert found.interval is not None
    assert found.interval.low <= 1.0 <= found.interval.high
    same = answers({"ids": [1, 2]})
    assert metric("first_divergence").compare(same, same) is None


def test_recovery_is_shown_without_an_interval() -> None:
    found = compare("recovery", subject(items={"t": [True, False, False, False]}), subject(items={"t": [True, True, False, False]}))
    assert (found.value, found.interval, found.n, found.unit) == (0.5, None, 4, "%")
    hopeless = subject(items={"t": [False]})
    assert metric("recovery").compare(hopeless, hopeless) is None


@pytest.mark.parametrize("id", ["recovery", "answer_change", "first_divergence", "chrf"])
def test_it_takes_two_models(id: str) -> None:
    one = answers({"answer": 1, "output": "a", "ids": [1]})
    assert metric(id).compare(one, None) is None
    assert id not in one.evaluation.metrics


def test_accuracy_in_a_slice() -> None:
    mine = answers(*({"correct": n > 3, "slice": "ja" if n % 2 else "en"} for n in range(10)))
    theirs = answers(*({"correct": True, "slice": "ja" if n % 2 else "en"} for n in range(10)))
    found = compare("accuracy@ja", mine, theirs)
    assert (found.value, found.n) == (-2 / 5, 5)
    assert found.interval == bonett_price(gains=0, losses=2, n=5)
    assert mine.evaluation.metrics["accuracy@ja"].value == 3 / 5
    assert metric("accuracy@ja").name == "accuracy in ja"
    assert metric("accuracy@de").compare(mine, theirs) is None


def test_items_of_one_group_count_less() -> None:
    def grouped(right: Any) -> Subject:
        return answers(*({"correct": bool(right(n)), "group": f"passage {n // 10}"} for n in range(200)))

    base, lost = grouped(lambda n: True), grouped(lambda n: n >= 30)
    found = compare("accuracy", lost, base)
    groups = [("group", f"passage {n // 10}") for n in range(200)]
    assert found.interval == paired_interval([-1] * 30 + [0] * 170, groups)
    alone, flips = compare("accuracy", lost, None), compare("flips", lost, base)
    assert alone.interval == share_interval([False] * 30 + [True] * 170, groups)
    assert flips.interval == share_interval([True] * 30 + [False] * 170, groups)


def test_a_share_without_groups_has_wilson_s_interval() -> None:
    assert share_interval([True] * 7 + [False] * 13, list(range(20))) == wilson(successes=7, n=20)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_whole_groups_that_all_agree_are_worth_one_item_each(share: float) -> None:
    groups = [n // 5 for n in range(100)]
    assert share_interval([share == 1.0] * 100, groups) == wilson(successes=20 * share, n=20)


@pytest.mark.parametrize("correlated", [True, False])
def test_the_interval_of_a_share_of_grouped_items_holds_its_error_rate(correlated: bool) -> None:
    rng = np.random.default_rng(5)
    groups = [n // 5 for n in range(300)]
    misses, runs = np.zeros(2), 2000
    for _ in range(runs):
        hits = np.repeat(rng.random(60) < 0.3, 5) if correlated else rng.random(300) < 0.3
        interval = share_interval(hits.tolist(), groups)
        misses += [interval.low > 0.3, interval.high < 0.3]
    assert (misses / runs < 0.07).all()
    assert (misses / runs > 0.02).all()
