"""Which items lm-evaluation-harness asks, what is made of its samples, and that all models are asked the same documents."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.errors import DataError, IntegrityError
from quant_action.harness.items import asked_items, items_of
from quant_action.harness.run import refuse_other_documents

IDS = [str(number) for number in range(40)]


def test_the_items_asked_are_a_fixed_sample() -> None:
    assert asked_items(IDS, limit=4) == [8, 9, 29, 39]
    assert set(asked_items(IDS, limit=4)) < set(asked_items(IDS, limit=9))
    assert asked_items(IDS, limit=None) == asked_items(IDS, limit=99) == list(range(40))


@given(count=st.integers(1, 60), limit=st.none() | st.integers(1, 80), cuts=st.lists(st.floats(0.01, 0.99), max_size=4))
def test_portions_of_shares_make_up_the_whole(count: int, limit: int | None, cuts: list[float]) -> None:
    ids = [str(number) for number in range(count)]
    edges = [0.0, *sorted(cuts), 1.0]
    portions = [asked_items(ids, limit=limit, share_from=start, share_to=end) for start, end in pairwise(edges)]
    assert sorted(index for portion in portions for index in portion) == asked_items(ids, limit=limit)


def choice(doc: int, *, scores: tuple[float, ...], target: int, filter: str = "none", **metrics: float) -> dict[str, Any]:
    return {
        "doc_id": doc,
        "target": target,
        "arguments": [(f"prompt {doc}", f" choice {index}") for index in range(len(scores))],
        "resps": [[(score, False)] for score in scores],
        "filtered_resps": [(score, False) for score in scores],
        "filter": filter,
        "metrics": list(metrics),
        "doc_hash": f"{doc:064x}",
        **metrics,
    }


def written(doc: int, filter: str, **metrics: Any) -> dict[str, Any]:
    return {
        "doc_id": doc,
        "target": "4",
        "arguments": [("2 + 2 =", {"until": ["\n"]})],
        "resps": [[" 4 of course"]],
        "filtered_resps": ["4"],
        "filter": filter,
        "metrics": list(metrics),
        "doc_hash": "ab" * 32,
        **metrics,
    }


def test_an_item_of_a_choice() -> None:
    [item] = items_of("t", [choice(3, scores=(-2.0, -1.0), target=0, acc=0.0)], {3: "3"}, metric=None, hash_only=False)
    assert item == {
        "task": "t",
        "item": "3",
        "correct": False,
        "answer": 1,
        "scores": [-2.0, -1.0],
        "doc": "0" * 16,
        "prompt": "prompt 3",
        "expected": " choice 0",
        "answered": " choice 1",
    }


def test_scores_without_the_prompt_are_no_choices() -> None:
    sample = choice(3, scores=(-2.0, -1.0, 0.0, 0.0), target=0, acc=0.0, acc_mutual_info=1.0)
    [item] = items_of("t", [sample], {3: "3"}, metric=None, hash_only=False)
    assert (item["answer"], item["scores"]) == (1, [-2.0, -1.0])


def test_hash_only_keeps_no_text() -> None:
    [item] = items_of("t", [written(0, "none", exact_match=1.0)], {0: "0"}, metric=None, hash_only=True)
    assert set(item) == {"task", "item", "correct", "doc", "prompt_sha256", "answered_sha256"}
    assert "course" not in str(item)


def test_a_long_prompt_keeps_its_end() -> None:
    sample = written(0, "none", exact_match=1.0) | {"arguments": [("example " * 100 + "the question", {})]}
    [item] = items_of("t", [sample], {0: "0"}, metric=None, hash_only=False)
    assert len(item["prompt"]) == 400
    assert item["prompt"].startswith("…")
    assert item["prompt"].endswith("the question")


@pytest.mark.parametrize(
    ("metric", "right"),
    [(None, True), ("exact_match", True), ("exact_match,flexible", False), ("solved", False), ("solved,flexible", True)],
)
def test_the_metric_and_filter_that_were_asked_for(metric: str | None, right: bool) -> None:
    samples = [written(0, "strict", rouge=0.3, solved=0, exact_match=1.0), written(0, "flexible", rouge=0.3, solved=1, exact_match=0.0)]
    [item] = items_of("t", samples, {0: "0"}, metric=metric, hash_only=False)
    assert item["correct"] is right


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("rouge", "task t: rouge of item 0 is 0.3, and only what is 0 or 1 for each item can be judged"),
        ("f1", "task t has no metric 'f1'; it has: rouge,none, pair,none"),
        ("pair", r"task t: pair of item 0 is \(1, 2\)"),
        (None, "task t has no metric that is known to be right or wrong for each item; it has: rouge,none, pair,none"),
    ],
)
def test_metrics_that_are_not_right_or_wrong(metric: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        items_of("t", [written(0, "none", rouge=0.3, pair=(1, 2))], {0: "0"}, metric=metric, hash_only=False)


def test_a_data_set_that_was_fetched_anew_is_no_comparison() -> None:
    before, after = ({"task": "t", "item": "0", "correct": True, "doc": doc} for doc in ("aa", "bb"))
    refuse_other_documents([before], [before, {"task": "ours", "item": "0", "correct": True}], where="here")
    refuse_other_documents([after], [], where="here")
    with pytest.raises(IntegrityError, match="here: the data set of task t has changed since the baseline was measured: item 0"):
        refuse_other_documents([after], [before], where="here")
