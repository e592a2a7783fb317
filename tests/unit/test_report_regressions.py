from __future__ import annotations

from typing import Any

from quant_action.metrics.interface import Subject
from quant_action.report.regressions import MOST, regressions_of
from quant_action.values import Values
from tests.golden.records import BASELINE_EVALUATION, digest_of


def subject(*items: dict[str, Any]) -> Subject:
    return Subject(evaluation=BASELINE_EVALUATION, values=Values(windows=None, items=items))


def choice(item: str, correct: bool, scores: list[float], **more: object) -> dict[str, Any]:
    return {"task": "quiz", "item": item, "correct": correct, "answer": scores.index(max(scores)), "scores": scores, **more}


def generation(item: str, correct: bool, output: str, ids: list[int], **more: object) -> dict[str, Any]:
    return {"task": "write", "item": item, "correct": correct, "output": output, "ids": ids, "ended": True, "degenerate": None, **more}


def test_items_are_counted_by_what_became_of_them() -> None:
    baseline = subject(
        choice("1", True, [-1, -3]), choice("2", False, [-1, -3]), generation("3", False, "a", [1]), choice("4", True, [-1, -2])
    )
    candidate = subject(choice("1", False, [-3, -1]), choice("2", True, [-3, -1]), generation("3", False, "b", [2]))
    found = regressions_of("x", candidate, baseline)
    assert (found.n, found.lost, found.gained, found.rewritten) == (3, 1, 1, 1)
    assert [(item.item, item.lost) for item in found.worst] == [("1", True), ("3", False)]


def test_the_choice_that_fell_furthest_comes_first_and_says_how_far() -> None:
    baseline = subject(*(choice(item, True, [-1.0, -3.0, -5.0]) for item in "123"))
    candidate = subject(
        choice("1", False, [-2.0, -1.5, -9.0]), choice("2", False, [-6.0, -1.0, -9.0]), choice("3", False, [-3.0, -9.0, -1.0])
    )
    found = regressions_of("x", candidate, baseline)
    assert [item.item for item in found.worst] == ["2", "3", "1"]
    assert found.worst[0].note == "right choice ahead by 2.00 nats, now by −5.00"


def test_a_generation_that_breaks_off_comes_before_one_that_parts_early() -> None:
    baseline = subject(*(generation(item, True, "the answer", [1, 2, 3, 4]) for item in "123"))
    candidate = subject(
        generation("1", False, "then", [1, 2, 3, 9]),
        generation("2", False, "no", [9]),
        generation("3", False, "the the the", [1, 1, 1, 1], degenerate="loop"),
    )
    found = regressions_of("x", candidate, baseline)
    assert [item.item for item in found.worst] == ["3", "2", "1"]
    assert [item.note for item in found.worst] == [
        "first difference at token 2, loops",
        "first difference at token 1",
        "first difference at token 4",
    ]


def test_a_generation_that_only_goes_on_parts_where_the_other_ended() -> None:
    baseline, candidate = subject(generation("1", True, "a", [1])), subject(generation("1", True, "a b", [1, 2]))
    assert regressions_of("x", candidate, baseline).worst[0].note == "first difference at token 2"


def test_tasks_take_turns() -> None:
    baseline = subject(*(choice(item, True, [-1, -3]) for item in "123"), *(generation(item, True, "a", [1]) for item in "12"))
    candidate = subject(*(choice(item, False, [-3, -1]) for item in "123"), *(generation(item, False, "b", [2]) for item in "12"))
    assert [item.task for item in regressions_of("x", candidate, baseline).worst] == ["quiz", "write", "quiz", "write", "quiz"]


def test_texts_are_what_was_asked_expected_and_answered() -> None:
    baseline = subject(choice("1", True, [-1, -3], prompt="2 + 2?", expected=" 4", answered=" 4", slice="sums"))
    candidate = subject(choice("1", False, [-3, -1], prompt="2 + 2?", expected=" 4", answered=" 5", slice="sums"))
    item = regressions_of("x", candidate, baseline).worst[0]
    assert (item.slice, item.hashed, item.prompt, item.expected, item.before, item.after) == ("sums", False, "2 + 2?", " 4", " 4", " 5")


def test_what_is_kept_as_digests_is_told_apart_and_shown_by_digests() -> None:
    def item(correct: bool, answered: str) -> dict[str, Any]:
        digests = {"prompt_sha256": digest_of("prompt"), "answered_sha256": digest_of(answered)}
        return {"task": "write", "item": "1", "correct": correct, "ended": True, "degenerate": None, **digests}

    same = regressions_of("x", subject(item(True, "a")), subject(item(True, "a")))
    assert (same.rewritten, same.worst) == (0, ())
    changed = regressions_of("x", subject(item(True, "b")), subject(item(True, "a")))
    assert changed.rewritten == 1
    assert changed.worst[0].hashed
    assert changed.worst[0].after == f"sha256 {digest_of('b')[:16]}"
    assert changed.worst[0].expected is None


def test_a_report_carries_only_the_worst() -> None:
    baseline = subject(*(choice(str(item), True, [-1, -3]) for item in range(2 * MOST)))
    candidate = subject(*(choice(str(item), False, [-3, -1 - item]) for item in range(2 * MOST) if item < 2))
    assert len(regressions_of("x", candidate, baseline).worst) <= 2
    all_lost = subject(*(choice(str(item), False, [-3.0, -1.0]) for item in range(2 * MOST)))
    found = regressions_of("x", all_lost, baseline)
    assert (found.lost, len(found.worst)) == (2 * MOST, MOST)
