"""What we write, the ecosystem's loaders read: GPTQModel and transformers give the logits that our own loader gives.

They run in the environment `modern`, which `make test` installs.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from quant_action.checkpoints.load import load_model, load_tokenizer
from quant_action.workers.environment import Environment

from .conftest import EXAMPLE, Finished

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not Environment("modern").is_complete, reason="needs: quant-action environments --install modern"),
]


def ours(folder: Path, ids: list[list[int]], dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = load_model(folder, device="cpu", dtype=dtype)(input_ids=torch.tensor(ids)).logits.float()
    return logits


def far(logits: torch.Tensor, reference: torch.Tensor) -> float:
    """Root mean square of the difference, as a share of that of the reference."""
    return float((logits - reference).square().mean().sqrt() / reference.square().mean().sqrt())


def same_top(logits: torch.Tensor, reference: torch.Tensor) -> float:
    return float((logits.argmax(-1) == reference.argmax(-1)).float().mean())


def compare(library: str, folder: Path, tmp_path: Path) -> str:
    """Assert that they compute what we do, and return what they computed it with."""
    text = "\n".join(json.loads(line)["text"] for line in (EXAMPLE / "data/heldout.jsonl").read_text().splitlines()[:20])
    ids = load_tokenizer(EXAMPLE / "model").encode(text)
    ids = [ids[start : start + 64] for start in range(0, 256, 64)]
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    script, python = Path(__file__).with_name("peer_logits.py"), Environment("modern").python
    command = [python, script, library, folder, tmp_path / "ids.json", tmp_path / "out.safetensors"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        theirs, kernels = file.get_tensor("logits"), file.metadata()["kernels"]
    exact = ours(folder, ids, torch.float32)
    rounded = ours(folder, ids, torch.bfloat16)
    rounding = far(rounded, exact)
    assert far(theirs, exact) < 1.5 * rounding
    assert far(ours(EXAMPLE / "model", ids, torch.float32), exact) > 2 * rounding  # so near only because the same integers were read
    assert same_top(theirs, exact) > same_top(rounded, exact) - 0.05
    return str(kernels)


@pytest.mark.parametrize(
    ("library", "candidate"),
    [("gptqmodel", "gptq-w4"), ("gptqmodel", "gptq-w3"), ("transformers", "gptq-w4"), ("transformers", "awq-w4")],
)
def test_what_native_writes_they_read(finished: Finished, tmp_path: Path, library: str, candidate: str) -> None:
    kernels = compare(library, finished.run / "candidates" / candidate / "model", tmp_path)
    assert kernels != "Linear"  # they did not fall back to weights that are not quantized
