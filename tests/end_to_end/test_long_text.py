"""Long documents through the scorer's own process: what they take, and that it is what was estimated."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from quant_action.estimate import expect_scoring
from quant_action.inputs import open_inputs
from quant_action.plan import make_plan
from quant_action.spec import parse_spec
from quant_action.values import Values
from quant_action.workers.process import run_worker
from tests.unit.scoring import WORDS, tokenizer, write_rows

pytestmark = pytest.mark.end_to_end

TOKENS, DOCUMENTS, VOCABULARY = 4096, 2, 65_536
SPEC = f"""
version: 1
name: long
model: {{source: model}}
candidates: {{a: {{method: rtn, bits: 8, group_size: channel}}}}
evaluation: {{long_text: {{data: long.jsonl, tokens: {TOKENS}}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose logits for a whole document would take a gigabyte in float32 alone."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    texts = [" ".join(WORDS[(start + n * n) % len(WORDS)] for n in range(TOKENS)) for start in range(DOCUMENTS)]
    write_rows(tmp_path / "long.jsonl", [{"text": text} for text in texts])
    return tmp_path


def test_a_long_document_takes_the_memory_and_the_disk_that_were_estimated(folder: Path) -> None:
    loaded = parse_spec(SPEC, folder / "quant.yml")
    inputs = open_inputs(loaded)
    plan = make_plan(loaded, inputs, "cpu x86_64")
    output = folder / "baseline"
    output.mkdir()
    done = run_worker(
        job="scoring",
        environment="host",
        module="quant_action.scorer.worker",
        request={
            "verb": "evaluate",
            "subject": "baseline",
            "model": str(folder / "model"),
            "baseline": None,
            "rounding": None,
            "look": {"after": 0.0, "upto": 1.0, "earlier": None},
            "device": "cpu",
            "protocol": plan.protocol.model_dump(mode="json"),
            "data": {"text": None, "long_text": str(folder / "long.jsonl"), "tasks": {}},
            "output": str(output),
        },
        log=folder / "log",
        on_progress=lambda *_: None,
    )
    estimate = expect_scoring(plan, "baseline", None, inputs)
    assert estimate.memory == pytest.approx(done.peak_memory, rel=0.25)
    assert done.peak_memory < 4 * TOKENS * VOCABULARY
    assert estimate.disk == pytest.approx(sum(path.stat().st_size for path in output.rglob("*") if path.is_file()), rel=0.05)
    long = Values.load(output).long
    assert long is not None
    assert long.nll.shape == (DOCUMENTS, TOKENS // 10)
    assert done.value["scoring"]["documents"] == DOCUMENTS
