from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from quant_action.errors import DataError, EngineError, IntegrityError
from quant_action.metrics import measure_all
from quant_action.scorer.batching import Batching
from quant_action.scorer.prompt import Encoder
from quant_action.scorer.states import first_ids, load_states, save_states
from quant_action.scorer.text import Passages, score_text, text_windows
from quant_action.values import Values
from tests.unit.scoring import VOCABULARY, llama, scored, silent, tokenizer, write_rows

WINDOW = 12


def some_ids(count: int = 5, window: int = WINDOW) -> torch.Tensor:
    return torch.randint(0, len(VOCABULARY), (count, window), generator=torch.Generator().manual_seed(9))


def windows_of(ids: torch.Tensor) -> Passages:
    return Passages(kind="window", ids=ids, scored=ids.shape[1] - 1, bytes=np.ones(len(ids), dtype=np.int64), slices=("",) * len(ids))


def some_windows(count: int = 5, window: int = WINDOW) -> Passages:
    return windows_of(some_ids(count, window))


def textbook(model: torch.nn.Module, windows: torch.Tensor) -> list[list[float]]:
    """NLL of every position but the first of each window, one at a time, from the model's own logits."""
    rows = []
    for window in windows:
        logits = model(input_ids=window[None]).logits[0].detach().double()
        rows.append([float(torch.logsumexp(logits[i], 0) - logits[i, window[i + 1]]) for i in range(len(window) - 1)])
    return rows


def test_perplexity_equals_the_textbook_double_loop() -> None:
    model, windows = llama(), some_windows()

    values = score_text(scored(model), windows, baseline=None, states=None, progress=silent)

    terms = [nll for row in textbook(model, windows.ids) for nll in row]
    perplexity = measure_all(Values(windows=values, items=()))["perplexity"]
    assert perplexity.value == pytest.approx(math.exp(sum(terms) / len(terms)), rel=1e-6)
    assert perplexity.n == 5
    assert values.nll.shape == (5, WINDOW - 1)


def test_divergence_from_a_baseline_on_disk_equals_two_models_side_by_side(tmp_path: Path) -> None:
    base, model, windows = llama(seed=1), llama(seed=2), some_windows()
    log_b, log_q = (m(input_ids=windows.ids).logits[:, :-1].detach().double().log_softmax(-1) for m in (base, model))

    score_text(scored(base), windows, baseline=None, states=tmp_path, progress=silent)
    values = score_text(scored(model), windows, baseline=tmp_path, states=None, progress=silent)

    torch.testing.assert_close(torch.tensor(values.kl), (log_b.exp() * (log_b - log_q)).sum(-1), rtol=1e-5, atol=1e-6)
    assert values.top1.tolist() == (log_b.argmax(-1) == log_q.argmax(-1)).tolist()
    assert 0 < values.top1.mean() < 1


def test_each_model_is_read_through_its_own_head(tmp_path: Path) -> None:
    base, model, windows = llama(), llama(), some_windows()
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    log_b, log_q = (m(input_ids=windows.ids).logits[:, :-1].detach().double().log_softmax(-1) for m in (base, model))

    score_text(scored(base), windows, baseline=None, states=tmp_path, progress=silent)
    values = score_text(scored(model), windows, baseline=tmp_path, states=None, progress=silent)

    assert values.kl.mean() == pytest.approx(float((log_b.exp() * (log_b - log_q)).sum(-1).mean()), rel=1e-5)
    assert values.top1.all()


def test_softcapped_logits_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": len(VOCABULARY), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    model = Gemma2ForCausalLM(Gemma2Config(**sizes, num_attention_heads=2, num_key_value_heads=1, final_logit_softcapping=2.0)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(100)
    windows = some_windows(2)

    values = score_text(scored(model), windows, baseline=None, states=None, progress=silent)

    assert values.nll.tolist() == [pytest.approx(row, rel=1e-5) for row in textbook(model, windows.ids)]
    assert values.nll.max() - values.nll.min() <= 4.0


def test_a_model_against_itself_is_exactly_the_baseline(tmp_path: Path) -> None:
    windows = some_windows()

    base = score_text(scored(llama()), windows, baseline=None, states=tmp_path, progress=silent)
    again = score_text(scored(llama()), windows, baseline=tmp_path, states=None, progress=silent)

    assert (again.nll == base.nll).all()
    assert not again.kl.any()
    assert again.top1.all()


def test_states_of_another_text_are_refused(tmp_path: Path) -> None:
    model, windows = scored(llama()), some_windows()
    score_text(model, windows, baseline=None, states=tmp_path, progress=silent)

    with pytest.raises(IntegrityError, match="of another text"):
        score_text(model, windows_of(windows.ids.flip(0)), baseline=tmp_path, states=None, progress=silent)


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    model, windows = scored(llama()), some_windows()
    score_text(model, windows, baseline=None, states=tmp_path, progress=silent)
    (tmp_path / "window-00000.safetensors").write_bytes(b"not safetensors")

    with pytest.raises(IntegrityError, match="not readable"):
        score_text(model, windows, baseline=tmp_path, states=None, progress=silent)


@pytest.mark.parametrize(("asked", "shape"), [((1, 4), (1, 4)), ((2, 1000), (2, WINDOW)), ((1000, 3), (5, 3))])
def test_the_ids_that_were_scored_are_read_back(tmp_path: Path, asked: tuple[int, int], shape: tuple[int, int]) -> None:
    windows = some_windows()
    score_text(scored(llama(), batch_tokens=2 * WINDOW), windows, baseline=None, states=tmp_path, progress=silent)
    ids = first_ids(tmp_path, windows=asked[0], tokens=asked[1])
    assert ids.shape == shape
    assert torch.equal(ids, windows.ids[: shape[0], : shape[1]])


@pytest.mark.parametrize(("saved", "read"), [(2, 1), (2, 3), (3, 2), (5, 1), (1, 5)])
def test_states_are_read_in_other_batches_than_they_were_saved_in(tmp_path: Path, saved: int, read: int) -> None:
    windows, hidden = some_windows().ids, torch.randn(5, WINDOW - 1, 4)
    for batch, indices in enumerate(Batching(tokens=saved * WINDOW).in_order(5, WINDOW)):
        save_states(tmp_path, "window", batch, ids=windows[indices.start : indices.stop], hidden=hidden[indices.start : indices.stop])

    for indices in Batching(tokens=read * WINDOW, backwards=True).in_order(5, WINDOW):
        ids = windows[indices.start : indices.stop]
        assert torch.equal(load_states(tmp_path, "window", indices.start, ids=ids), hidden[indices.start : indices.stop])
    with pytest.raises(IntegrityError, match="of another text"):
        load_states(tmp_path, "window", 1, ids=windows[:1])


def test_ids_that_are_not_there_are_an_integrity_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="token ids are not readable"):
        first_ids(tmp_path, windows=2, tokens=8)


def test_a_window_that_is_not_finite_is_named() -> None:
    model, ids = llama(), torch.zeros(5, WINDOW, dtype=torch.int64)
    ids[3, 4] = 77
    parts = scored(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[77] = torch.nan

    with pytest.raises(EngineError, match="hidden states of window 4 are not finite"):
        score_text(parts, windows_of(ids), baseline=None, states=None, progress=silent)


def test_a_divergence_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model, windows = scored(llama()), some_windows()
    score_text(model, windows, baseline=None, states=tmp_path, progress=silent)
    hidden = torch.zeros(5, WINDOW - 1, 32)
    hidden[1] = torch.nan
    save_states(tmp_path, "window", 0, ids=windows.ids, hidden=hidden)

    with pytest.raises(EngineError, match="KL divergences of window 2 are not finite"):
        score_text(model, windows, baseline=tmp_path, states=None, progress=silent)


def test_windows_are_consecutive_tokens_of_the_joined_rows_after_one_start_token(tmp_path: Path) -> None:
    rows = [{"text": "a b c"}, {"messages": [{"role": "user", "content": "d e"}]}, {"text": "f g"}]
    encoder = Encoder(tokenizer())

    windows = text_windows(write_rows(tmp_path / "text.jsonl", rows), encoder, window=4)

    tokens = [VOCABULARY[id] for id in windows.ids.flatten()]
    # the template of the second row writes a start token and a line end of its own; the tail of one window is dropped
    assert tokens == ["<s>", "a", " b", " c", "\n\n", "<s>", "d", " e", "\n\n", "\n", "f", " g"]


@pytest.mark.parametrize(("bos", "first"), [(True, "<s>"), (False, "a")])
def test_the_start_token_comes_first_only_if_the_tokenizer_adds_one(tmp_path: Path, bos: bool, first: str) -> None:
    windows = text_windows(write_rows(tmp_path / "text.jsonl", [{"text": "a b c d e f"}]), Encoder(tokenizer(bos=bos)), window=2)

    assert VOCABULARY[windows.ids[0, 0]] == first


def test_too_little_text_is_counted(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"text": "a b c"}])

    with pytest.raises(DataError, match=r"has 4 tokens; 2 windows of 4 need 8"):
        text_windows(data, Encoder(tokenizer()), window=4)


def test_a_tokenizer_with_other_ids_is_refused(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"text": "a b c d"}])
    other = tokenizer()
    other.add_tokens(["b c"])

    with pytest.raises(EngineError, match=r"other ids than the base model's \(from token 2 on\)"):
        text_windows(data, Encoder(tokenizer(), other), window=2)


def test_a_tokenizer_that_lost_its_start_token_is_refused() -> None:
    with pytest.raises(EngineError, match="special tokens differ"):
        Encoder(tokenizer(), tokenizer(bos=False))


def test_a_changed_chat_template_is_refused(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"messages": [{"role": "user", "content": "a"}]}])
    other = tokenizer()
    other.chat_template = "{{ messages[0].content }} b"

    with pytest.raises(EngineError, match="chat template writes these messages differently"):
        text_windows(data, Encoder(tokenizer(), other), window=2)


@pytest.mark.parametrize(
    ("template", "message"), [(None, "need a chat template"), ("{{ raise_exception('roles must alternate') }}", "roles must alternate")]
)
def test_messages_that_no_template_takes_are_an_error_with_their_line(tmp_path: Path, template: str | None, message: str) -> None:
    data = write_rows(tmp_path / "text.jsonl", [{"text": "a"}, {"messages": [{"role": "user", "content": "a"}]}])
    base = tokenizer()
    base.chat_template = template

    with pytest.raises(DataError, match=message) as caught:
        text_windows(data, Encoder(base), window=2)
    assert caught.value.where == f"{data}:2"


def test_progress_counts_windows() -> None:
    seen: list[tuple[str, int, int]] = []

    model = scored(llama(max_position_embeddings=2048))
    score_text(model, some_windows(5, 1024), baseline=None, states=None, progress=lambda *at: seen.append(at))

    assert seen == [("score text", 2, 5), ("score text", 4, 5), ("score text", 5, 5)]
