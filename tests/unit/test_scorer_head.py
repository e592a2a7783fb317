from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from quant_action.errors import EngineError
from quant_action.scorer import head as module
from quant_action.scorer.head import Head, chunks, score
from tests.unit.scoring import llama, scored


def a_head(seed: int, *, vocabulary: int = 301, bias: bool = False, softcap: float | None = None, scale: float = 1.0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    weight = 2 * torch.randn(vocabulary, 16, generator=generator)
    return Head(weight=weight, bias=torch.randn(vocabulary, generator=generator) if bias else None, scale=scale, softcap=softcap)


def some_states(seed: int, n: int = 37, hidden: int = 16) -> torch.Tensor:
    return torch.randn(n, hidden, generator=torch.Generator().manual_seed(seed))


def whole_logits(head: Head, states: torch.Tensor) -> torch.Tensor:
    """Full-vocabulary float64 reference, spelled without the code under test."""
    logits = states.double() @ head.weight.double().T
    logits = logits if head.bias is None else logits + head.bias.double()
    logits = logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


@pytest.fixture(params=[(10, 60), (512, 4096)], ids=str)
def chunk_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POSITIONS", request.param[0])
    monkeypatch.setattr(module, "VOCABULARY", request.param[1])


@pytest.mark.usefixtures("chunk_size")
@pytest.mark.parametrize("options", [{}, {"bias": True}, {"softcap": 5.0}, {"scale": 0.25}], ids=str)
def test_scores_equal_a_full_vocabulary_float64_reference(options: dict[str, float]) -> None:
    head, base, states, base_states = a_head(0, **options), a_head(1), some_states(2), some_states(3)
    targets = torch.arange(37) * 8
    log_q, log_b = (whole_logits(h, s).log_softmax(1) for h, s in ((head, states), (base, base_states)))

    scores = score(head, states, targets, baseline=(base, base_states))

    torch.testing.assert_close(scores.nll, -log_q[torch.arange(37), targets], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scores.kl, (log_b.exp() * (log_b - log_q)).sum(1), rtol=1e-5, atol=1e-6)
    assert scores.top1.tolist() == (log_b.argmax(1) == log_q.argmax(1)).tolist()


@pytest.mark.usefixtures("chunk_size")
def test_small_divergences_keep_their_digits() -> None:
    head, states = a_head(0), some_states(1)
    near = Head(weight=head.weight + 1e-3 * a_head(5).weight, bias=None, scale=1.0, softcap=None)
    log_q, log_b = (whole_logits(h, states).log_softmax(1) for h in (near, head))
    expected = (log_b.exp() * (log_b - log_q)).sum(1)

    kl = score(near, states, torch.zeros(37, dtype=torch.int64), baseline=(head, states)).kl

    assert float(expected.mean()) < 1e-4
    assert float(kl.mean()) == pytest.approx(float(expected.mean()), rel=1e-2)


def test_a_model_against_itself_diverges_by_exactly_nothing() -> None:
    head, states = a_head(0, vocabulary=9000), some_states(1)

    scores = score(head, states, torch.arange(37), baseline=(head, states))

    assert scores.kl.tolist() == [0.0] * 37
    assert scores.top1.all()


def test_huge_logits_do_not_overflow() -> None:
    head = Head(weight=torch.tensor([[1000.0], [0.0], [-1000.0]]), bias=None, scale=1.0, softcap=None)
    flat = Head(weight=torch.zeros(3, 1), bias=None, scale=1.0, softcap=None)

    scores = score(head, torch.ones(2, 1), torch.tensor([0, 2]), baseline=(flat, torch.ones(2, 1)))

    assert scores.nll.tolist() == [0.0, 2000.0]
    assert scores.kl.tolist() == pytest.approx([1000.0 - torch.log(torch.tensor(3.0)).item()] * 2)


def test_without_a_baseline_nothing_diverges() -> None:
    scores = score(a_head(0), some_states(1), torch.zeros(37, dtype=torch.int64))

    assert not scores.kl.any()
    assert scores.top1.all()


@pytest.mark.usefixtures("chunk_size")
def test_most_likely_is_argmax_and_the_lowest_among_equals() -> None:
    head = a_head(0)
    doubled = Head(weight=torch.cat([head.weight, head.weight]), bias=None, scale=1.0, softcap=None)

    assert doubled.most_likely(some_states(1)).tolist() == whole_logits(head, some_states(1)).argmax(1).tolist()


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(EngineError, match="301 tokens in its vocabulary and the baseline 300"):
        score(a_head(0), some_states(1), torch.zeros(37, dtype=torch.int64), baseline=(a_head(1, vocabulary=300), some_states(1)))


def test_a_saved_head_is_the_same_head(tmp_path: Path) -> None:
    head = a_head(0, bias=True, softcap=30.0, scale=0.1)
    path = tmp_path / "head.safetensors"

    head.save(path)
    loaded = Head.load(path, device="cpu")

    assert (loaded.scale, loaded.softcap) == (0.1, 30.0)
    assert torch.equal(loaded.logits(some_states(1), slice(None)), head.logits(some_states(1), slice(None)))


def test_a_model_that_scales_its_logits_is_read_right() -> None:
    sizes = {"vocab_size": 90, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = GraniteConfig(**sizes, num_key_value_heads=2, logits_scaling=8.0)
    torch.manual_seed(0)

    model = scored(GraniteForCausalLM(config).eval())  # compares with the model's own logits

    assert model.head.scale == 1 / 8


def test_a_head_that_does_something_else_is_refused() -> None:
    model = llama()
    model.lm_head.register_forward_hook(lambda module, inputs, output: output + torch.arange(output.shape[-1]))

    with pytest.raises(EngineError, match="not its last layer applied to its hidden states"):
        scored(model)


def test_a_quantized_head_is_refused() -> None:
    model = llama()
    model.lm_head = torch.nn.Sequential(model.lm_head)

    with pytest.raises(EngineError, match="last layer is a Sequential"):
        scored(model)


def test_a_model_of_nan_is_refused() -> None:
    model = llama()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan

    with pytest.raises(EngineError, match="not finite"):
        scored(model)


def test_chunks_cover_everything_once() -> None:
    assert chunks(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert chunks(0, 3) == []
