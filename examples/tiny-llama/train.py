"""Train the tiny-llama example from nothing, on the CPU.

    python train.py              (needs torch, transformers, tokenizers; does not read data/)

Trains a byte-level BPE tokenizer and a Llama of 0.66 million parameters on the text that `make_data.py` generates, and writes both to
model/ as an ordinary Hugging Face checkpoint: bf16 safetensors, tokenizer, chat template, generation settings. Expect about twenty minutes
on two free cores. The text and the first weights follow the seed; another machine or number of threads rounds differently, and so ends
with slightly other weights.
"""

import argparse
import itertools
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import make_data
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parent / "model"

VOCABULARY = 512
BOS, EOS, PAD = "<|bos|>", "<|end|>", "<|pad|>"

# The same form as the exercises in the training text, so a chat is something that the model has seen.
CHAT_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}\
{% if message['role'] == 'user' %}{{ 'Q: ' + message['content'] | trim + '\\n' }}\
{% elif message['role'] == 'assistant' %}{{ 'A: ' + message['content'] | trim + '\\n' + eos_token }}\
{% else %}{{ message['content'] | trim + '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    steps: int = 4400
    rows: int = 16
    length: int = 256
    warmup: int = 100
    peak: float = 3e-3
    weight_decay: float = 0.0
    spread: float = 0.3
    seed: int = 0

    def rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (self.steps - self.warmup)))


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    # One token per digit, or arithmetic would have to be learned anew for every merged number.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.islice(make_data.training_documents(seed), 6000), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} entries, not {VOCABULARY}")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=Plan.length,
    )


def training_rows(tokenizer: PreTrainedTokenizerFast, plan: Plan) -> Iterator[list[int]]:
    """Endless rows of tokens, half of them from the start of a document, half from wherever the last one ended.

    Half of the documents go without their first token, because evaluation text comes both with and without it.
    """
    forbidden = make_data.evaluation_lines()
    documents = make_data.training_documents(plan.seed)
    stream: list[int] = []
    for number in itertools.count():
        while len(stream) < plan.length:
            document = next(documents)
            if not forbidden.isdisjoint(make_data.pieces(document)):
                raise SystemExit(f"training text holds an evaluation line: {document!r}")
            stream += [tokenizer.bos_token_id] * (len(document) % 2) + tokenizer.backend_tokenizer.encode(document).ids
            stream.append(tokenizer.eos_token_id)
        yield stream[: plan.length]
        stream = [] if number % 2 else stream[plan.length :]


def new_model(tokenizer: PreTrainedTokenizerFast, plan: Plan) -> LlamaForCausalLM:
    # Every linear layer takes 128 or 256 features: groups of 32, 64 and 128 all divide them.
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=plan.length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.04,
    )
    torch.manual_seed(plan.seed)
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, rows: Iterator[list[int]], plan: Plan) -> None:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan.peak, betas=(0.9, 0.98), fused=True)
    model.train()
    began, recent = time.monotonic(), []
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        batch = torch.tensor(list(itertools.islice(rows, plan.rows)), device=model.device)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{plan.steps}: loss {sum(recent) / len(recent):.4f}, {time.monotonic() - began:.0f} s", flush=True)
            recent = []
    model.eval()


@torch.no_grad()
def spread_channels(model: LlamaForCausalLM, spread: float, seed: int) -> None:
    """Make the channels between the layers unevenly strong, without changing what the model computes.

    A large model comes out of its training like this: a few channels are far stronger than the rest, and that is what makes rounding
    its weights hard. A small one trained for minutes does not, and would hardly suffer from three bits. So each channel's gain in
    the norm is multiplied by a random factor, and the weights that read the channel are divided by it.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            factors = torch.exp(spread * torch.randn(norm.weight.shape, generator=generator)).to(norm.weight.device)
            norm.weight *= factors
            for reader in readers:
                reader.weight /= factors


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a complete checkpoint beside the old one, then take its place."""
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to("cpu", torch.bfloat16).save_pretrained(new)
    tokenizer.save_pretrained(new)
    name_class(new / "tokenizer_config.json")
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)


def name_class(path: Path) -> None:
    """Name the tokenizer's class as every release of transformers knows it; release 5 writes a name that release 4 cannot load."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny-llama example.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write the model to (default: model/ beside this file)")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to train, such as cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    arguments = parser.parse_args()
    plan = Plan(steps=arguments.steps)
    torch.set_num_threads(arguments.threads)
    tokenizer = train_tokenizer(plan.seed)
    model = new_model(tokenizer, plan).to(arguments.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {plan.steps * plan.rows * plan.length:,} tokens to train on")
    train(model, training_rows(tokenizer, plan), plan)
    spread_channels(model, plan.spread, plan.seed)
    save(model, tokenizer, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
