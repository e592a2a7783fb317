"""The worker's answer to a request, its calibration blocks, and what the engine's description promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from quant_action.engines.calibration import sample_blocks
from quant_action.engines.native.engine import ENGINE
from quant_action.engines.native.worker import quantize
from quant_action.errors import DataError
from quant_action.records import BitsandbytesScheme
from quant_action.workers.protocol import Progress
from tests.unit.tiny_models import random_model, save, scheme

BOS, EOS = 1, 2
WORDS = {"<pad>": 0, "<s>": BOS, "</s>": EOS} | {f"w{number}": number + 3 for number in range(60)}


def tokenizer(*, bos: bool, template: str | None = None) -> Any:
    tokens = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokens.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>", eos_token="</s>", chat_template=template)


def rows(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def numbered(path: Path, count: int = 20) -> Path:
    """Each row is one word, five times."""
    return rows(path, [{"text": f"w{number} " * 5} for number in range(count)])


def test_blocks_are_full_joined_by_eos_and_begin_with_bos(tmp_path: Path) -> None:
    blocks = sample_blocks(tokenizer(bos=True), numbered(tmp_path / "c.jsonl"), samples=4, tokens=13, seed=0)
    assert [len(block) for block in blocks] == [13] * 4
    assert all(block[0] == BOS and BOS not in block[1:] for block in blocks)
    stream = [token for block in blocks for token in block[1:]]
    assert [token == EOS for token in stream] == [(position + 1) % 6 == 0 for position in range(48)]
    assert len({*stream} - {EOS}) == 8


def test_without_bos_the_whole_block_is_text(tmp_path: Path) -> None:
    blocks = sample_blocks(tokenizer(bos=False), numbered(tmp_path / "c.jsonl"), samples=2, tokens=12, seed=0)
    assert [block[5] for block in blocks] == [EOS, EOS]
    assert BOS not in blocks[0]


def test_the_seed_decides_which_rows_come_first(tmp_path: Path) -> None:
    path = numbered(tmp_path / "c.jsonl")
    draw = [sample_blocks(tokenizer(bos=True), path, samples=2, tokens=13, seed=seed) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


def test_chats_go_through_the_template(tmp_path: Path) -> None:
    path = rows(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "w7 w8"}]}] * 3)
    template = "<s>{% for message in messages %} w1 {{ message.content }}{% endfor %}"
    blocks = sample_blocks(tokenizer(bos=True, template=template), path, samples=1, tokens=9, seed=0)
    assert blocks == [[BOS, 4, 10, 11, EOS, 4, 10, 11, EOS]]


def test_a_chat_without_a_template_is_refused_with_its_line(tmp_path: Path) -> None:
    path = rows(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "w7"}]}])
    with pytest.raises(DataError, match="no chat template") as caught:
        sample_blocks(tokenizer(bos=True), path, samples=1, tokens=4, seed=0)
    assert caught.value.where == f"{path}:1"


def test_too_little_text_says_how_much_there_is_and_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 120 tokens; 11 samples of 13 need 132"):
        sample_blocks(tokenizer(bos=True), numbered(tmp_path / "c.jsonl"), samples=11, tokens=13, seed=0)


def test_a_request_is_answered_with_a_model_folder(tmp_path: Path) -> None:
    model = save(random_model("llama"), tmp_path / "model")
    tokenizer(bos=True).save_pretrained(model)
    (tmp_path / "output").mkdir()
    request = {
        "verb": "quantize",
        "scheme": scheme(method="awq", symmetric=False, scales="awq", clip=True).model_dump(mode="json"),
        "model": str(model),
        "output": str(tmp_path / "output"),
        "device": "cpu",
        "calibration": {"data": str(numbered(tmp_path / "c.jsonl")), "samples": 4, "tokens": 16, "seed": 0},
    }
    answer = quantize(request, Progress())
    assert json.loads(json.dumps(answer)) == answer
    assert len(answer["quantized"]) == 14
    assert answer["peak_gpu_memory"] is None
    assert set(answer["versions"]) == set(ENGINE.requires)
    assert {path.name for path in (tmp_path / "output").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((tmp_path / "output/config.json").read_text())["quantization_config"]["quant_method"] == "awq"


def test_the_engine_refuses_what_it_cannot_do_and_says_why() -> None:
    assert ENGINE.refuses(scheme(), "cpu") is None
    assert "no 5-bit weights" in str(ENGINE.refuses(scheme(bits=5), "cuda"))
    assert "act_order is an option of GPTQ" in str(ENGINE.refuses(scheme(method="awq", act_order=True), "cpu"))
    assert "no method bitsandbytes" in str(ENGINE.refuses(BitsandbytesScheme(method="bitsandbytes", type="nf4"), "cpu"))
    assert "damping" in str(ENGINE.refuses(scheme(damping=0), "cpu"))


def test_only_plain_rounding_needs_no_calibration() -> None:
    assert not ENGINE.needs_calibration(scheme(method="rtn"))
    assert ENGINE.needs_calibration(scheme(method="rtn", clip=True))
    assert ENGINE.needs_calibration(scheme(method="awq", scales="awq"))
    assert ENGINE.needs_calibration(scheme())
