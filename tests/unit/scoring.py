"""Small real parts for the scorer's tests: a random Llama, and a tokenizer of words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quant_action.scorer.model import ScoredModel

torch.set_num_threads(1)  # on tensors this small, two threads spend their time waiting for each other

WORDS = [*"abcdefghijklmnopqrst", *(f"{left}{right}" for left in "abcdef" for right in "ghijkl")]
SPECIAL = ["<s>", "</s>", "<unk>", "\n", "\n\n", " "]
VOCABULARY = SPECIAL + WORDS + [f" {word}" for word in WORDS]


def tokenizer(*, bos: bool = True) -> Any:
    """Words, bare or with the space before them, as most tokenizers have them; and line ends."""
    tokens = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|\n\n|\n| "), behavior="isolated")
    tokens.decoder = decoders.Fuse()
    if bos:
        tokens.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    template = "{% for m in messages %}{{ '<s>' if loop.first }}{{ m.content }}\n{% endfor %}{{ 'a b' if add_generation_prompt }}"
    return PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template)


def llama(*, seed: int = 0, sharpness: float = 20.0, **changes: Any) -> LlamaForCausalLM:
    """A random model whose next-token distributions are far from uniform."""
    torch.manual_seed(seed)
    settings = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "bos_token_id": 0}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 1, "pad_token_id": None}
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    return model


def scored(model: Any, *, batch_tokens: int = 2048) -> ScoredModel:
    return ScoredModel.of(model, device="cpu", batch_tokens=batch_tokens, tokenizer=tokenizer())


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def silent(step: str, done: int, total: int) -> None:
    """Progress for nobody."""
