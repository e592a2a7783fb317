from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant_action.data import item_id
from quant_action.errors import DataError, EngineError
from quant_action.records import Samples, TaskProtocol
from quant_action.scorer.batching import Batching
from quant_action.scorer.choice import continuations, log_likelihoods, score_choice
from quant_action.scorer.generate import first_line, greedy, score_generate
from quant_action.scorer.items import rows_between, task_rows
from quant_action.scorer.prompt import Encoder
from tests.unit.scoring import VOCABULARY, WORDS, llama, scored, silent, tokenizer, write_rows


def a_task(kind: Literal["choice", "generate"], *, limit: int | None = None, max_tokens: int = 6) -> TaskProtocol:
    return TaskProtocol(id="t", kind=kind, data="d", digest="0", max_tokens=max_tokens, limit=limit)


def rows_of(tmp_path: Path, kind: Literal["choice", "generate"], rows: list[dict[str, Any]], *, limit: int | None = None) -> list[Any]:
    return task_rows(a_task(kind, limit=limit), write_rows(tmp_path / "task.jsonl", rows))


def phrase(seed: int, length: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed + 3)) % len(WORDS)] for i in range(length))


CHOICE_ROWS = [
    {"id": f"q{n}", "prompt": phrase(n, 1 + n % 6), "choices": [f" {phrase(n + k, 1 + k % 3)}" for k in range(2 + n % 3)], "answer": n % 2}
    for n in range(9)
]


def naive_log_likelihood(model: Any, prompt: list[int], choice: list[int]) -> float:
    log_p = model(input_ids=torch.tensor([prompt + choice])).logits[0].detach().double().log_softmax(-1)
    return sum(float(log_p[len(prompt) + i - 1, token]) for i, token in enumerate(choice))


def ids_of(text: str) -> list[int]:
    return list(tokenizer()(text, add_special_tokens=False).input_ids)


def test_choices_score_as_one_by_one_without_padding(tmp_path: Path) -> None:
    model = llama()
    small = scored(model, batch_tokens=40)  # several batches, and padding in them

    items = score_choice(
        small, Encoder(tokenizer()), a_task("choice"), rows_of(tmp_path, "choice", CHOICE_ROWS), samples="text", progress=silent
    )

    for row, item in zip(CHOICE_ROWS, items, strict=True):
        expected = [naive_log_likelihood(model, [0, *ids_of(row["prompt"])], ids_of(choice)) for choice in row["choices"]]
        best = expected.index(max(expected))
        assert item["scores"] == pytest.approx(expected, abs=1e-5)
        assert item == {
            "task": "t",
            "item": row["id"],
            "correct": best == row["answer"],
            "answer": best,
            "scores": item["scores"],
            "prompt": row["prompt"],
            "expected": row["choices"][row["answer"]],
            "answered": row["choices"][best],
        }


def test_white_space_at_the_end_of_the_prompt_counts_to_the_choice(tmp_path: Path) -> None:
    row = rows_of(tmp_path, "choice", [{"prompt": "a b ", "choices": ["c", "d e"], "answer": 0}])[0]

    first, second = continuations(row, Encoder(tokenizer()))

    assert [VOCABULARY[id] for id in first.ids] == ["<s>", "a", " b", " c"]
    assert [VOCABULARY[id] for id in second.ids] == ["<s>", "a", " b", " d", " e"]
    assert (first.start, second.start) == (3, 3)


def test_choices_that_merge_with_the_prompt_are_scored_from_the_last_border_they_share(tmp_path: Path) -> None:
    row = rows_of(tmp_path, "choice", [{"prompt": "a b", "choices": ["g", " c"], "answer": 0}])[0]  # " bg" is one token

    first, second = continuations(row, Encoder(tokenizer()))

    assert [VOCABULARY[id] for id in first.ids] == ["<s>", "a", " bg"]
    assert [VOCABULARY[id] for id in second.ids] == ["<s>", "a", " b", " c"]
    assert (first.start, second.start) == (2, 2)


def test_chat_prompts_go_through_the_template(tmp_path: Path) -> None:
    row = rows_of(tmp_path, "choice", [{"messages": [{"role": "user", "content": "c"}], "choices": [" d", " e"], "answer": 0}])[0]

    first, _ = continuations(row, Encoder(tokenizer()))

    assert [VOCABULARY[id] for id in first.ids] == ["<s>", "c", "\n", "a", " b", " d"]
    assert first.start == 5


def test_an_empty_prompt_needs_a_start_token(tmp_path: Path) -> None:
    row = rows_of(tmp_path, "choice", [{"prompt": "", "choices": ["a", "b"], "answer": 0}])[0]

    assert [choice.start for choice in continuations(row, Encoder(tokenizer()))] == [1, 1]
    with pytest.raises(DataError, match=r"task.jsonl:1: the prompt is empty"):
        continuations(row, Encoder(tokenizer(bos=False)))


def test_the_first_of_equal_choices_is_the_answer(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "choice", [{"prompt": "a", "choices": [" b", " c"], "answer": 1}])

    (item,) = score_choice(scored(llama(sharpness=0.0)), Encoder(tokenizer()), a_task("choice"), rows, samples="text", progress=silent)

    assert (item["item"], item["answer"], item["correct"]) == ("1", 0, False)


def test_an_item_longer_than_the_context_is_an_error_with_its_line(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "choice", [CHOICE_ROWS[0], {"prompt": phrase(1, 63), "choices": [" a", " b"], "answer": 1}])

    with pytest.raises(DataError, match=r"task.jsonl:2: an item of 65 tokens is longer than the model's context of 64"):
        score_choice(scored(llama()), Encoder(tokenizer()), a_task("choice"), rows, samples="text", progress=silent)


def test_scores_that_are_not_finite_are_an_error_not_an_answer(tmp_path: Path) -> None:
    model = llama()
    parts = scored(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[ids_of("r")[0]] = torch.nan
    rows = rows_of(tmp_path, "choice", [CHOICE_ROWS[0], {"prompt": "r", "choices": [" a", " b"], "answer": 1, "id": "bad"}])

    with pytest.raises(EngineError, match="item 'bad' of task t are not finite"):
        score_choice(parts, Encoder(tokenizer()), a_task("choice"), rows, samples="text", progress=silent)


def naive_greedy(model: Any, prompt: list[int], max_tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(max_tokens):
        token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == 1:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_a_greedy_batch_writes_what_each_prompt_gets_alone() -> None:
    model = llama(seed=3)
    prompts = [[0, *ids_of(phrase(n, 1 + 2 * n))] for n in range(7)]

    written = greedy(scored(model), prompts, max_tokens=10, complete=lambda ids: False, where=[""] * 7)

    assert [answer.ids for answer in written] == [naive_greedy(model, prompt, 10) for prompt in prompts]
    assert [answer.ended for answer in written] == [len(answer.ids) < 10 for answer in written]
    assert len({tuple(answer.ids) for answer in written}) > 3


def always(*tokens: str) -> Any:
    """A model that writes these tokens in turn: each one's embedding points at the row of the head for the next."""
    model = llama(num_hidden_layers=1, hidden_size=128, tie_word_embeddings=False)
    order = [VOCABULARY.index(token) for token in tokens]
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(VOCABULARY), 128))
        model.lm_head.weight.zero_()
        for token, following in pairwise(order):
            model.lm_head.weight[following, token] = 1.0
    return model


@pytest.mark.parametrize(
    ("tokens", "output"),
    [
        (["a", " b", " c", "</s>"], "b c"),
        (["a", "\n", "b", " c", "\n", "d", "</s>"], "b c"),
        (["a", " b", "\n\n", "c", "</s>"], "b"),
        (["a", " b", " c", " d", " e", " f", " g", " h", " i"], "b c d e f g"),
    ],
    ids=["end token", "leading line end", "line end", "max_tokens"],
)
def test_an_answer_ends_where_the_model_the_line_or_the_budget_ends(tmp_path: Path, tokens: list[str], output: str) -> None:
    rows = rows_of(tmp_path, "generate", [{"prompt": "a", "answer": f" {output} "}, {"prompt": "a", "answer": output + "!"}])

    items = score_generate(scored(always(*tokens)), Encoder(tokenizer()), a_task("generate"), rows, samples="text", progress=silent)

    assert [(item["correct"], item["output"], item["answered"]) for item in items] == [(True, output, output), (False, output, output)]
    assert [item["expected"] for item in items] == [output, f"{output}!"]
    ended = "</s>" in tokens or "\n" in tokens
    assert [(item["ended"], item["degenerate"]) for item in items] == [(ended, None if ended else "no end")] * 2


def test_an_answer_that_loops_or_says_nothing_is_degenerate(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "generate", [{"prompt": "a", "answer": "b"}])
    looping = score_generate(
        scored(always("a", " b", " a", " b")),
        Encoder(tokenizer()),
        a_task("generate", max_tokens=40),
        rows,
        samples="text",
        progress=silent,
    )
    silence = score_generate(scored(always("a", "</s>")), Encoder(tokenizer()), a_task("generate"), rows, samples="text", progress=silent)
    assert [(item["degenerate"], item["ended"], len(item["ids"])) for item in looping] == [("loop", False, 40)]
    assert [(item["degenerate"], item["ended"], item["ids"]) for item in silence] == [("empty", True, [])]


def test_what_an_item_is_of_stands_in_its_values(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "choices": [" b", " c"], "answer": 0, "slice": "ja", "group": "p1"},
        {"prompt": "a", "choices": ["b", "c"], "answer": 0},
    ]
    items = score_choice(
        scored(llama()), Encoder(tokenizer()), a_task("choice"), rows_of(tmp_path, "choice", rows), samples="text", progress=silent
    )
    assert [(item.get("slice"), item.get("group")) for item in items] == [("ja", "p1"), (None, None)]


def test_texts_for_people_are_cut_and_the_output_is_not(tmp_path: Path) -> None:
    output = " ".join(["b"] * 250)
    rows = rows_of(tmp_path, "generate", [{"prompt": "a", "answer": f"{output} c"}])
    model = scored(always("a", " b", " b"))
    (item,) = score_generate(model, Encoder(tokenizer()), a_task("generate", max_tokens=50), rows, samples="text", progress=silent)
    assert item["output"] == " ".join(["b"] * 50)
    assert item["expected"] == output[:399] + "…"
    assert item["answered"] == item["output"]


@pytest.mark.parametrize("kind", ["choice", "generate"])
def test_hash_only_keeps_no_word(tmp_path: Path, kind: Literal["choice", "generate"]) -> None:
    row: dict[str, Any] = {"prompt": "a b", "id": "q", "slice": "s", "group": "g"}
    row |= {"choices": [" c", " d"], "answer": 0} if kind == "choice" else {"answer": "c"}
    score = score_choice if kind == "choice" else score_generate
    model, rows = scored(llama()), rows_of(tmp_path, kind, [row])

    def item(samples: Samples) -> dict[str, Any]:
        return score(model, Encoder(tokenizer()), a_task(kind), rows, samples=samples, progress=silent)[0]

    open, closed = item("text"), item("hash-only")
    facts = {"answer"} if kind == "choice" else {"ended", "degenerate"}
    assert closed.keys() == {"task", "item", "correct", "slice", "group", "prompt_sha256", "answered_sha256"} | facts
    assert {key: closed[key] for key in facts | {"correct"}} == {key: open[key] for key in facts | {"correct"}}
    assert closed["prompt_sha256"] == hashlib.sha256(b"a b").hexdigest()
    assert closed["answered_sha256"] == hashlib.sha256(f"a b\0{open['answered']}".encode()).hexdigest()


def test_an_answer_that_would_not_fit_is_an_error_with_its_line(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "generate", [{"prompt": phrase(1, 60), "answer": "a"}])

    with pytest.raises(DataError, match=r"task.jsonl:1: an item with its answer of 67 tokens"):
        score_generate(scored(llama()), Encoder(tokenizer()), a_task("generate"), rows, samples="text", progress=silent)


def test_generation_that_is_not_finite_names_the_line(tmp_path: Path) -> None:
    model = llama()
    parts = scored(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[ids_of("r")[0]] = torch.nan
    rows = rows_of(tmp_path, "generate", [{"prompt": "a b", "answer": "a"}, {"prompt": "r", "answer": "a"}])

    with pytest.raises(EngineError, match=r"task.jsonl:2: the hidden states of this item are not finite"):
        score_generate(parts, Encoder(tokenizer()), a_task("generate"), rows, samples="text", progress=silent)


@pytest.mark.parametrize(("text", "line"), [("\n  a b \nc", "a b"), ("", ""), ("a", "a"), (" \n\n", "")])
def test_first_line(text: str, line: str) -> None:
    assert first_line(text) == line


def test_a_limit_takes_the_items_of_least_hash_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "choice", CHOICE_ROWS, limit=4)

    least = sorted((f"q{n}" for n in range(9)), key=lambda id: hashlib.sha256(id.encode()).hexdigest())[:4]
    assert [item_id(row) for row in rows] == sorted(least)
    assert [item_id(row) for row in rows] != ["q0", "q1", "q2", "q3"]


def test_a_larger_limit_adds_items_and_swaps_none(tmp_path: Path) -> None:
    chosen = [{item_id(row) for row in rows_of(tmp_path, "choice", CHOICE_ROWS, limit=limit)} for limit in range(1, 12)]

    assert all(small <= large for small, large in pairwise(chosen))
    assert len(chosen[-1]) == 9


@pytest.mark.parametrize("limit", [None, 5])
def test_looks_ask_every_row_once_in_the_order_of_the_file(tmp_path: Path, limit: int | None) -> None:
    rows = rows_of(tmp_path, "choice", CHOICE_ROWS, limit=limit)

    asked = [rows_between(rows, after=after, upto=upto) for after, upto in pairwise((0, 0.25, 0.5, 1))]

    assert [len(portion) for portion in asked] == ([3, 2, 4] if limit is None else [2, 1, 2])
    assert sorted(row.line for portion in asked for row in portion) == [row.line for row in rows]
    assert all([row.line for row in portion] == sorted(row.line for row in portion) for portion in asked)


def test_a_row_of_another_kind_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task.jsonl:2"):
        rows_of(tmp_path, "choice", [CHOICE_ROWS[0], {"prompt": "a", "answer": "b"}])


@given(lengths=st.lists(st.integers(1, 50), max_size=30), tokens=st.integers(1, 120))
def test_batches_hold_everything_once_and_no_more_than_allowed(lengths: list[int], tokens: int) -> None:
    batches = Batching(tokens=tokens).by_length(lengths)

    other = Batching(tokens=tokens).other().by_length(lengths)

    for found, most in ((batches, tokens), (other, tokens // 2)):
        assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
        assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most for batch in found)
        assert all(lengths[batch[0]] == max(lengths[index] for index in batch) for batch in found)


def test_the_other_batching_starts_at_the_other_end() -> None:
    usual = Batching(tokens=12)

    assert usual.in_order(5, 6) == [range(2), range(2, 4), range(4, 5)]
    assert usual.other().in_order(5, 6) == [range(n, n + 1) for n in (4, 3, 2, 1, 0)]
    assert usual.in_order(2, 100) == [range(1), range(1, 2)]
    assert usual.by_length([3, 5, 3, 3, 1]) == [[1, 0], [2, 3, 4]]
    assert usual.other().by_length([3, 5, 3, 3, 1]) == [[0, 4], [3, 2], [1]]


def test_log_likelihoods_keep_the_order_they_were_asked_in(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "choice", CHOICE_ROWS)
    sequences = [choice for row in rows for choice in continuations(row, Encoder(tokenizer()))]
    model = scored(llama())

    forwards = log_likelihoods(model, sequences, step="s", progress=silent)
    backwards = log_likelihoods(model, sequences[::-1], step="s", progress=silent)

    assert forwards == pytest.approx(backwards[::-1], abs=1e-6)
