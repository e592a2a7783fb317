from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quant_action.errors import DataError, EngineError
from quant_action.metrics import measure_all
from quant_action.records import Protocol, TaskProtocol, TextProtocol
from quant_action.scorer.reconstruction import rounded
from quant_action.scorer.worker import evaluate, versions
from quant_action.values import Values
from tests.unit.scoring import llama, silent, tokenizer, write_rows

TEXT = [{"text": "a b c d e f g ah bg ci dj ek fl h i j"}, {"text": "k l m n o p q r s t a c e g i k m"}]
CHOICE = [{"prompt": f"a {word}", "choices": [" b", " c d"], "answer": 0} for word in "efgh"]
GENERATE = [{"prompt": f"b {word}", "answer": "c"} for word in "ijk"]


def save_model(folder: Path, *, seed: int) -> Path:
    llama(seed=seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_rounded(folder: Path) -> Path:
    """What an honest engine makes of the model of seed 0."""
    model = llama(seed=0)
    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = rounded(module.weight.data, bits=4, group_size=-1)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def request_for(tmp_path: Path) -> Any:
    protocol = Protocol(
        tokenizer="2",
        dtype="float32",
        batch_tokens=2048,
        text=TextProtocol(data="text", digest="0", window=8),
        tasks=(
            TaskProtocol(id="pick", kind="choice", data="pick", digest="1", max_tokens=1, limit=3),
            TaskProtocol(id="write", kind="generate", data="write", digest="2", max_tokens=3, limit=None),
        ),
    )
    tasks = {"pick": str(write_rows(tmp_path / "pick.jsonl", CHOICE)), "write": str(write_rows(tmp_path / "write.jsonl", GENERATE))}
    data = {"text": str(write_rows(tmp_path / "text.jsonl", TEXT)), "tasks": tasks}

    def request(
        model: Path,
        *,
        name: str,
        baseline: Path | None = None,
        kind: str | None = None,
        after: float = 0.0,
        upto: float = 1.0,
        earlier: str | None = None,
    ) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        subject = kind or ("candidate" if baseline else "baseline")
        return {
            "verb": "evaluate",
            "subject": subject,
            "model": str(model),
            "baseline": {"model": str(baseline), "states": str(tmp_path / "base" / "states")} if baseline else None,
            "rounding": {"bits": 4, "group_size": -1} if subject == "candidate" and not earlier else None,
            "look": {"after": after, "upto": upto, "earlier": str(tmp_path / earlier) if earlier else None},
            "device": "cpu",
            "protocol": protocol.model_dump(mode="json"),
            "data": data,
            "output": str(tmp_path / name),
        }

    return request


def test_a_baseline_and_a_candidate_leave_paired_values_and_their_metrics(tmp_path: Path, request_for: Any) -> None:
    base, other = save_model(tmp_path / "m0", seed=0), save_rounded(tmp_path / "m1")

    baseline = evaluate(request_for(base, name="base"), silent)
    candidate = evaluate(request_for(other, name="candidate", baseline=base), silent)

    for answer, name in ((baseline, "base"), (candidate, "candidate")):
        values = Values.load(tmp_path / name)
        assert values.windows is not None
        assert values.windows.nll.shape == (4, 7)
        assert [item["task"] for item in values.items] == ["pick"] * 3 + ["write"] * 3
        assert answer["metrics"] == {id: measured.model_dump() for id, measured in measure_all(values).items()}
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert set(answer["metrics"]) == {
            "perplexity",
            "bits_per_byte",
            "kl",
            "kl_p50",
            "kl_p99",
            "kl_p999",
            "top1",
            "accuracy",
            "accuracy:pick",
            "accuracy:write",
            "degenerate",
        }
    assert baseline["metrics"]["kl"] == {"value": 0.0, "n": 4}
    assert baseline["metrics"]["top1"] == {"value": 1.0, "n": 4}
    assert candidate["metrics"]["kl"]["value"] > 1e-4
    assert candidate["peak_gpu_memory"] is None
    assert torch.__version__ in candidate["versions"]["torch"]


def test_a_copy_of_the_baseline_scores_exactly_like_it(tmp_path: Path, request_for: Any) -> None:
    base = save_model(tmp_path / "m0", seed=0)

    baseline = evaluate(request_for(base, name="base"), silent)
    again = evaluate(request_for(base, name="again", baseline=base), silent)

    assert again["metrics"] == baseline["metrics"]
    first, second = Values.load(tmp_path / "base"), Values.load(tmp_path / "again")
    assert first.windows is not None
    assert second.windows is not None
    np.testing.assert_array_equal(first.windows.nll, second.windows.nll)
    assert first.items == second.items


def test_the_floor_is_the_baseline_in_other_batches(tmp_path: Path, request_for: Any) -> None:
    base = save_model(tmp_path / "m0", seed=0)
    steps: list[tuple[str, int, int]] = []

    requests = [request_for(base, name="base"), request_for(base, name="floor", baseline=base, kind="floor")]
    for request in requests:
        request["protocol"]["batch_tokens"] = 24  # three windows of eight in the first batch, then one each, last first
    baseline = evaluate(requests[0], silent)
    floor = evaluate(requests[1], lambda *step: steps.append(step))

    assert [step for step in steps if step[0] == "score text"] == [("score text", done, 4) for done in (1, 2, 3, 4)]
    first, second = Values.load(tmp_path / "base"), Values.load(tmp_path / "floor")
    assert first.windows is not None
    assert second.windows is not None
    np.testing.assert_allclose(second.windows.nll, first.windows.nll, atol=1e-5)
    assert 0 <= second.windows.kl.max() < 1e-6
    assert [(item["item"], item["correct"]) for item in second.items] == [(item["item"], item["correct"]) for item in first.items]
    assert not (tmp_path / "floor/states").exists()
    assert floor["metrics"]["perplexity"]["value"] == pytest.approx(baseline["metrics"]["perplexity"]["value"], rel=1e-6)


def test_looks_add_items_to_what_the_look_before_left(tmp_path: Path, request_for: Any) -> None:
    base, other = save_model(tmp_path / "m0", seed=0), save_rounded(tmp_path / "m1")
    evaluate(request_for(base, name="base"), silent)
    evaluate(request_for(other, name="whole", baseline=base), silent)

    first = evaluate(request_for(other, name="first", baseline=base, upto=0.5), silent)
    steps: list[str] = []
    second = evaluate(
        request_for(other, name="second", baseline=base, after=0.5, earlier="first"), lambda step, done, total: steps.append(step)
    )

    whole, half, both = (Values.load(tmp_path / name) for name in ("whole", "first", "second"))
    assert [item["task"] for item in half.items] == ["pick"] * 2 + ["write"] * 2
    assert set(steps) == {"task pick", "task write"}  # neither text nor layers are looked at again
    assert [(item["task"], item["item"], item["correct"]) for item in both.items] == [
        (item["task"], item["item"], item["correct"]) for item in whole.items
    ]
    assert half.windows is not None
    assert both.windows is not None
    np.testing.assert_array_equal(both.windows.kl, half.windows.kl)
    assert first["metrics"]["accuracy"]["n"] == 4
    assert second["metrics"]["accuracy"]["n"] == 6
    assert second["metrics"]["kl"] == first["metrics"]["kl"]


def test_a_release_is_compared_as_it_is(tmp_path: Path, request_for: Any) -> None:
    """Its layers are not held to a rounding: whoever made it checked it, and its scheme is not known here."""
    base, other = save_model(tmp_path / "m0", seed=0), save_model(tmp_path / "m1", seed=1)
    evaluate(request_for(base, name="base"), silent)

    release = evaluate(request_for(other, name="release", baseline=base, kind="release"), silent)

    assert release["metrics"]["kl"]["value"] > 0.1


def test_perplexity_is_that_of_transformers_own_loss(tmp_path: Path, request_for: Any) -> None:
    base = save_model(tmp_path / "m0", seed=0)
    ids = tokenizer()("\n\n".join(row["text"] for row in TEXT)).input_ids
    windows = torch.tensor(ids[: len(ids) // 8 * 8]).view(-1, 8)

    answer = evaluate(request_for(base, name="base"), silent)

    loss = llama()(input_ids=windows, labels=windows).loss.item()
    assert answer["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(loss), rel=1e-5)


def with_long_text(request: dict[str, Any], data: Path) -> dict[str, Any]:
    write_rows(data, [{"text": " ".join("klmnopqrstabcdefghij"[(n * step) % 20] for n in range(40))} for step in (3, 7)])
    request["protocol"]["long_text"] = {"data": "long", "digest": "3", "tokens": 30, "scored": 3}
    request["data"]["long_text"] = str(data)
    return request


def test_long_text_is_scored_beside_the_windows(tmp_path: Path, request_for: Any) -> None:
    base, other = save_model(tmp_path / "m0", seed=0), save_rounded(tmp_path / "m1")

    baseline = evaluate(with_long_text(request_for(base, name="base"), tmp_path / "long.jsonl"), silent)
    candidate = evaluate(with_long_text(request_for(other, name="candidate", baseline=base), tmp_path / "long.jsonl"), silent)

    assert baseline["metrics"]["kl_long"] == {"value": 0.0, "n": 2}
    assert candidate["metrics"]["kl_long"]["value"] > 1e-4
    long = Values.load(tmp_path / "candidate").long
    assert long is not None
    assert long.nll.shape == (2, 3)
    assert baseline["scoring"] == {"start_token": 0, "attention": "sdpa", "windows": 4, "tokens": 28, "bytes": 59, "documents": 2}


def test_long_text_alone_is_enough(tmp_path: Path, request_for: Any) -> None:
    base, other = save_model(tmp_path / "m0", seed=0), save_rounded(tmp_path / "m1")
    for name, model, against in (("base", base, None), ("candidate", other, base)):
        request = with_long_text(request_for(model, name=name, baseline=against), tmp_path / "long.jsonl")
        request["protocol"] |= {"text": None, "tasks": []}
        assert set(evaluate(request, silent)["metrics"]) == {"kl_long"}


def test_hash_only_leaves_no_text_in_any_file_but_the_states(tmp_path: Path, request_for: Any) -> None:
    base, other = save_model(tmp_path / "m0", seed=0), save_rounded(tmp_path / "m1")
    secrets = ["ah bg ci dj", "k l m n o", "a e", "b i", " c d"]  # of text, of prompts, of choices
    for samples in ("text", "hash-only"):
        for name, model, against in ((f"base {samples}", base, None), (f"candidate {samples}", other, base)):
            request = request_for(model, name=name, baseline=against)
            request["protocol"]["samples"] = samples
            if against:
                request["baseline"]["states"] = str(tmp_path / f"base {samples}" / "states")
            answer = evaluate(request, silent)
            (tmp_path / name / "answer.json").write_text(json.dumps(answer))
            files = [path for path in (tmp_path / name).rglob("*") if path.is_file() and path.parent.name != "states"]
            assert {path.name for path in files} == {"windows.npz", "items.jsonl", "answer.json"}
            with np.load(tmp_path / name / "windows.npz") as arrays:
                written = b"".join(arrays[key].tobytes() for key in arrays) + b"".join(path.read_bytes() for path in files)
            if samples == "hash-only":
                assert [secret for secret in secrets if secret.encode() in written] == []
                assert all("output" not in item and "ids" not in item for item in Values.load(tmp_path / name).items)
            else:
                assert b"a e" in written


def test_another_tokenizer_is_refused_before_the_model_is_loaded(tmp_path: Path, request_for: Any) -> None:
    base = save_model(tmp_path / "m0", seed=0)
    other = tokenizer()
    other.add_tokens(["b c"])
    other.save_pretrained(tmp_path / "m1")  # there is no model in it

    with pytest.raises(EngineError, match="tokenizer gives other ids"):
        evaluate(request_for(tmp_path / "m1", name="candidate", baseline=base), silent)


def test_a_window_longer_than_the_context_is_refused(tmp_path: Path, request_for: Any) -> None:
    base = save_model(tmp_path / "m0", seed=0)
    request = request_for(base, name="base")
    request["protocol"]["text"]["window"] = 65
    write_rows(Path(request["data"]["text"]), TEXT * 4)

    with pytest.raises(DataError, match="of 65 tokens is longer than the model's context of 64"):
        evaluate(request, silent)


def test_versions_name_what_decides_a_number() -> None:
    assert {"python", "torch", "transformers", "tokenizers", "numpy"} <= set(versions())
