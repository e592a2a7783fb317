from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.data import Row, check_rows, item_id, read_rows, shared_text, slice_of
from quant_action.errors import DataError


def rows(*values: dict[str, object]) -> list[Row]:
    return [Row("data.jsonl", number, value) for number, value in enumerate(values, start=1)]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    return path


def test_rows_keep_their_line_numbers_across_empty_lines(tmp_path: Path) -> None:
    found = read_rows(written(tmp_path, '{"text": "a"}\n\n{"text": "b"}\n'))
    assert [(row.line, row.value) for row in found] == [(1, {"text": "a"}), (3, {"text": "b"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "data.jsonl:2: is not JSON"),
        ('{"text": "a"}\n[1]\n', "data.jsonl:2: is a JSON list, not an object"),
        ("[" * 100_000, "data.jsonl:1: is not JSON"),
        ("", "data.jsonl: has no rows"),
        ("\n \n", "data.jsonl: has no rows"),
    ],
)
def test_unreadable_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(written(tmp_path, text))
    assert message in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl: cannot be read \(No such file or directory\)"):
        read_rows(tmp_path / "data.jsonl")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", {"prompt": "a"}),
        ("text", {"text": 3}),
        ("text", {"text": "a", "messages": [{"role": "user", "content": "b"}]}),
        ("text", {"messages": [{"role": "user"}]}),
        ("choice", {"prompt": "a", "choices": ["b"], "answer": 0}),
        ("choice", {"prompt": "a", "choices": ["b", "c"], "answer": 2}),
        ("choice", {"prompt": "a", "choices": ["b", "c"], "answer": True}),
        ("choice", {"prompt": "a", "choices": ["b", ""], "answer": 0}),
        ("choice", {"choices": ["b", "c"], "answer": 0}),
        ("generate", {"prompt": "a", "answer": " "}),
        ("generate", {"prompt": "a", "answer": 4}),
    ],
)
def test_row_of_the_wrong_shape_is_named_by_line(kind: str, value: dict[str, object]) -> None:
    good = {
        "text": {"text": "a"},
        "choice": {"prompt": "a", "choices": ["b", "c"], "answer": 1},
        "generate": {"messages": [{"role": "user", "content": "a"}], "answer": "b"},
    }[kind]
    check_rows(rows(good), kind)
    with pytest.raises(DataError, match=r"^data\.jsonl:2: expected "):
        check_rows(rows(good, value), kind)


def test_items_need_ids_of_their_own() -> None:
    item = {"prompt": "a", "answer": "b"}
    assert [item_id(row) for row in rows(item, item | {"id": "x"})] == ["1", "x"]
    with pytest.raises(DataError, match="repeats the id '1' of line 1"):
        check_rows(rows(item, item | {"id": 1}), "generate")


@pytest.mark.parametrize("key", ["slice", "group"])
@pytest.mark.parametrize("name", ["", " ja", "ja\n", "a" * 65, "a\u202eb", "a\x00b", 3, None, ["ja"]])
def test_names_of_slices_and_groups_are_short_and_printable(key: str, name: object) -> None:
    kinds = {
        "text": {"text": "a"},
        "choice": {"prompt": "a", "choices": ["b", "c"], "answer": 1},
        "generate": {"prompt": "a", "answer": "b"},
    }
    for kind, row in kinds.items():
        check_rows(rows(row | {key: "日本 語@x:1"}), kind)
        with pytest.raises(DataError, match=rf'^data\.jsonl:2: expected "{key}", a name of 1 to 64 printable characters'):
            check_rows(rows(row | {"id": "x"}, row | {key: name}), kind)


def test_the_slice_of_a_row() -> None:
    assert [slice_of(row) for row in rows({"text": "a"}, {"text": "a", "slice": "ja"})] == ["", "ja"]


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00 \\ud83d"])
def test_half_a_surrogate_pair_is_no_text(tmp_path: Path, half: str) -> None:
    assert read_rows(written(tmp_path, '{"text": "\\ud83d\\ude00"}\n'))[0].value == {"text": "\U0001f600"}
    with pytest.raises(DataError, match=r"data\.jsonl:1: is not JSON .*surrogates not allowed"):
        read_rows(written(tmp_path, f'{{"text": "{half}"}}\n'))


LONG = "the quick brown fox jumps over the lazy dog while five old owls watch from far away"


def test_thirteen_shared_words_are_the_same_text_whatever_their_case_and_punctuation() -> None:
    shared = "Quick, brown fox jumps over the lazy dog while five old owls: WATCH"
    found = shared_text(rows({"text": "other"}, {"text": LONG}), rows({"text": "none"}, {"prompt": f"He said {shared}", "answer": "x"}))
    assert found is not None
    assert [row.line for row in found] == [2, 2]


def test_twelve_shared_words_are_not() -> None:
    assert shared_text(rows({"text": LONG}), rows({"text": "quick brown fox jumps over the lazy dog while five old owls"})) is None


def test_short_texts_must_be_equal_as_a_whole() -> None:
    assert shared_text(rows({"text": "3 + 4 = 7"}), rows({"prompt": "3 + 4 =", "answer": "7"})) is not None
    assert shared_text(rows({"text": "3 + 4 = 7"}), rows({"prompt": "3 + 5 =", "answer": "8"})) is None


def test_chat_messages_are_compared_too() -> None:
    chat = {"messages": [{"role": "user", "content": LONG}]}
    assert shared_text(rows({"text": LONG}), rows(chat)) is not None
