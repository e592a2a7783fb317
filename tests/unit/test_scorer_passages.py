"""How text becomes windows and long documents: slices, bytes, and what is scored of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from quant_action.errors import DataError
from quant_action.records import LongTextProtocol
from quant_action.scorer.prompt import Encoder
from quant_action.scorer.text import Passages, long_documents, score_text, text_windows
from tests.unit.scoring import VOCABULARY, llama, scored, silent, tokenizer, write_rows

SCORED = 6


def byte_level() -> Any:
    """Every byte is a token, so that one character may be several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokens)


class SlowTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Characters, in Python: it does not say where its tokens were read."""

    def __init__(self, **options: Any) -> None:
        self.letters = "abc éß漢\n"
        super().__init__(**options)

    @property
    def vocab_size(self) -> int:
        return len(self.letters)

    def get_vocab(self) -> dict[str, int]:
        return {letter: index for index, letter in enumerate(self.letters)}

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self.letters.index(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.letters[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def tokens_of(passages: Passages) -> list[list[str]]:
    return [[VOCABULARY[id] for id in row] for row in passages.ids]


def test_windows_never_cross_slices(tmp_path: Path) -> None:
    rows = [
        {"text": "a b c", "slice": "x"},
        {"text": "k l m n o p", "slice": "y"},
        {"text": "d e f", "slice": "x"},
        {"text": "g h i j k l m"},
    ]
    found = text_windows(write_rows(tmp_path / "text.jsonl", rows), Encoder(tokenizer()), window=3)
    assert found.slices == ("x", "x", "y", "y", "", "")
    assert tokens_of(found) == [
        ["<s>", "a", " b"],
        [" c", "\n\n", "d"],
        ["<s>", "k", " l"],
        [" m", " n", " o"],
        ["<s>", "g", " h"],
        [" i", " j", " k"],
    ]


def test_one_slice_for_all_cuts_as_none_does(tmp_path: Path) -> None:
    rows = [{"text": "a b c d e"}, {"text": "f g h i j k l"}]
    encoder = Encoder(tokenizer())
    plain = text_windows(write_rows(tmp_path / "plain.jsonl", rows), encoder, window=4)
    sliced = text_windows(write_rows(tmp_path / "sliced.jsonl", [row | {"slice": "en"} for row in rows]), encoder, window=4)
    assert torch.equal(plain.ids, sliced.ids)
    assert plain.bytes.tolist() == sliced.bytes.tolist()
    assert (plain.slices, sliced.slices) == (("",) * 3, ("en",) * 3)


def test_a_slice_with_too_little_text_is_named(tmp_path: Path) -> None:
    rows = [{"text": "a b c d e f g h"}, {"text": "a b c", "slice": "ja"}]
    with pytest.raises(DataError, match=r"has 4 tokens of slice ja; 2 windows of 4 need 8"):
        text_windows(write_rows(tmp_path / "text.jsonl", rows), Encoder(tokenizer()), window=4)


def test_bytes_are_those_of_the_scored_text(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"text": "a b c ah bg ci dj ek fl h"}])
    # <s> a b c | ah bg ci dj | (ek fl h): the first of each window is not scored, a space counts to its word
    assert text_windows(data, Encoder(tokenizer()), window=4).bytes.tolist() == [5, 9]


@given(text=st.text(st.characters(exclude_categories=("Cs",)), min_size=12, max_size=60), window=st.integers(2, 5))
def test_bytes_of_all_tokens_are_the_text_s(text: str, window: int) -> None:
    encoder = Encoder(byte_level())
    encoded = encoder.encode_measured(text, where="here")
    assert len(encoded.ids) == len(text.encode())
    assert encoded.read is not None
    assert int(encoded.read[-1]) == len(text.encode())
    borders = [1, *range(window, len(encoded.ids), window), len(encoded.ids)]
    parts = [encoder.bytes_between(encoded, first, last) for first, last in pairwise(borders)]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == len(text.encode()) - len(text[0].encode())  # the first token has all of its character


def test_a_tokenizer_that_does_not_say_where_it_read_is_asked_to_decode(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"text": "aé漢b ßac"}])
    encoder = Encoder(SlowTokenizer(unk_token=None))
    assert encoder.encode_measured("ab", where="").read is None
    assert text_windows(data, encoder, window=4).bytes.tolist() == [2 + 3 + 1, 2 + 1 + 1]


def asked(tokens: int = 60, scored: int = SCORED) -> LongTextProtocol:
    return LongTextProtocol(data="long", digest="0", tokens=tokens, scored=scored)


def long_rows(count: int, length: int = 70) -> list[dict[str, Any]]:
    words = [token for token in VOCABULARY if token.isalpha()]
    return [{"text": " ".join(words[(row * 5 + n * (row + 2)) % len(words)] for n in range(length))} for row in range(count)]


def test_each_long_document_stands_by_itself(tmp_path: Path) -> None:
    rows = long_rows(3)
    rows[1]["slice"] = "ja"
    found = long_documents(write_rows(tmp_path / "long.jsonl", rows), Encoder(tokenizer()), asked())
    assert found.ids.shape == (3, 60)
    assert [VOCABULARY[row[0]] for row in found.ids] == ["<s>"] * 3
    assert found.slices == ("", "ja", "")
    ends = ["".join(VOCABULARY[id] for id in row[-SCORED:]) for row in found.ids]
    assert found.bytes.tolist() == [len(end) for end in ends]


def test_a_document_that_is_too_short_is_an_error_with_its_line_and_how_many_are_not(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "long.jsonl", [*long_rows(2), {"text": "a b"}, {"text": "c"}])
    with pytest.raises(DataError, match=r"is shorter than the 60 tokens that evaluation.long_text asks for; 2 of 4 rows are") as caught:
        long_documents(data, Encoder(tokenizer()), asked())
    assert caught.value.where == f"{data}:3"


def test_one_long_document_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one document"):
        long_documents(write_rows(tmp_path / "long.jsonl", long_rows(1)), Encoder(tokenizer()), asked())


def test_the_ends_of_long_documents_equal_a_float64_full_vocabulary_reference(tmp_path: Path) -> None:
    base, model = llama(seed=1), llama(seed=2)
    documents = long_documents(write_rows(tmp_path / "long.jsonl", long_rows(3)), Encoder(tokenizer()), asked())

    score_text(scored(base), documents, baseline=None, states=tmp_path, progress=silent)
    values = score_text(scored(model), documents, baseline=tmp_path, states=None, progress=silent)

    log_b, log_q = (m(input_ids=documents.ids).logits[:, -SCORED - 1 : -1].detach().double().log_softmax(-1) for m in (base, model))
    targets = documents.ids[:, -SCORED:, None]
    torch.testing.assert_close(torch.tensor(values.kl), (log_b.exp() * (log_b - log_q)).sum(-1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.tensor(values.nll), -log_q.gather(2, targets)[..., 0], rtol=1e-5, atol=1e-6)
    assert values.nll.shape == (3, SCORED)


def test_windows_and_documents_keep_their_states_apart_and_only_of_what_scores(tmp_path: Path) -> None:
    model, encoder = scored(llama()), Encoder(tokenizer())
    windows = text_windows(write_rows(tmp_path / "text.jsonl", long_rows(2)), encoder, window=10)
    documents = long_documents(write_rows(tmp_path / "long.jsonl", long_rows(2)), encoder, asked())
    first = [score_text(model, passages, baseline=None, states=tmp_path / "states", progress=silent) for passages in (windows, documents)]
    again = [score_text(model, passages, baseline=tmp_path / "states", states=None, progress=silent) for passages in (windows, documents)]
    for mine, theirs in zip(again, first, strict=True):
        np.testing.assert_array_equal(mine.nll, theirs.nll)
        assert not mine.kl.any()
    kept = (tmp_path / "states/document-00000.safetensors").stat().st_size
    assert kept < 4 * 2 * SCORED * 32 + 8 * 2 * 60 + 500  # float32 states of the scored positions, ids of all, a header


@pytest.mark.parametrize("batch_tokens", [12, 40, 100, 5000])
def test_values_do_not_depend_on_the_batch(tmp_path: Path, batch_tokens: int) -> None:
    encoder = Encoder(tokenizer())
    windows = text_windows(write_rows(tmp_path / "text.jsonl", long_rows(3)), encoder, window=12)
    base, model = scored(llama(seed=1)), llama(seed=2)
    score_text(base, windows, baseline=None, states=tmp_path / "2048", progress=silent)
    expected = score_text(scored(model), windows, baseline=tmp_path / "2048", states=None, progress=silent)

    small = scored(llama(seed=1), batch_tokens=batch_tokens)
    score_text(small, windows, baseline=None, states=tmp_path / "other", progress=silent)
    found = score_text(scored(model, batch_tokens=batch_tokens), windows, baseline=tmp_path / "other", states=None, progress=silent)

    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-4, atol=1e-6)
    assert found.top1.tolist() == expected.top1.tolist()
