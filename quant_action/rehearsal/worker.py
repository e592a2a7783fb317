"""Makes what a rehearsal needs: the twin's folder, a short text, and two long documents. Reads the model's config and
tokenizer, none of its weights.

Its request, the output being an empty folder and `calibration`, `text` and `long_text` null where the spec has none:

    {"verb": "twin", "model": "/path", "dtype": "BF16", "output": "/path",
     "calibration": {"data": "/path.jsonl", "samples": 128, "tokens": 2048, "seed": 0}, "text": {"data": "/path.jsonl", "window": 2048},
     "long_text": "/path.jsonl"}

It writes `model/`, `text.jsonl` and `long.jsonl`, and answers `{}`. The calibration data is read in full, so that too little of
it is noticed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from quant_action.checkpoints.load import load_tokenizer
from quant_action.checkpoints.skeleton import model_config
from quant_action.checkpoints.writer import copy_companions
from quant_action.data import Row, read_rows
from quant_action.engines.calibration import sample_blocks
from quant_action.errors import ModelError
from quant_action.model_files import read_config
from quant_action.rehearsal.twin import COUNT, twin_config
from quant_action.scorer.prompt import Encoder
from quant_action.workers.protocol import Progress, serve

DTYPES = {"F16": torch.float16, "F32": torch.float32}
"""As safetensors spells them; a base in any other type gives a twin in bfloat16."""

WINDOWS, DOCUMENTS = 3, 2
SEED = 0


def make(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Answer one request. Raises `DataError` and `ModelError` for what the real run would stumble over, too."""
    base, output = Path(request["model"]), Path(request["output"])
    tokenizer = load_tokenizer(base)
    if asked := request["calibration"]:
        sample_blocks(tokenizer, Path(asked["data"]), samples=asked["samples"], tokens=asked["tokens"], seed=asked["seed"])
    if asked := request["text"]:
        shorten(Path(asked["data"]), output / "text.jsonl", Encoder(tokenizer), tokens=WINDOWS * asked["window"])
    if data := request["long_text"]:
        write_rows(output / "long.jsonl", read_rows(Path(data))[:DOCUMENTS])
    progress("make the twin", 1, 2)
    write_twin(base, output / "model", dtype=DTYPES.get(request["dtype"], torch.bfloat16))
    progress("make the twin", 2, 2)
    return {}


def shorten(data: Path, output: Path, encoder: Encoder, *, tokens: int) -> None:
    """The first rows of `data` that together have so many tokens, or all of them."""
    kept, found = [], 0
    for row in read_rows(data):
        kept.append(row)
        found += len(encoder.encode(encoder.text(row), where=row.where))
        if found >= tokens:
            break
    write_rows(output, kept)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Without their slices, each of which would need windows of its own."""
    values = [{key: value for key, value in row.value.items() if key != "slice"} for row in rows]
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")


def write_twin(base: Path, output: Path, *, dtype: torch.dtype) -> None:
    """A model folder with random weights as the architecture initialises them, the same each time. Raises `ModelError`."""
    resolved = model_config(base)
    count_key = resolved.attribute_map.get(COUNT, COUNT)
    config = twin_config(read_config(base), resolved.to_dict(), count_key=count_key)
    output.mkdir()
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    torch.manual_seed(SEED)
    try:
        twin_of = AutoConfig.from_pretrained(output, trust_remote_code=False, local_files_only=True)
        model = AutoModelForCausalLM.from_config(twin_of, dtype=dtype, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"cannot be built with two layers ({str(error).strip().splitlines()[0]})",
            where=str(base / "config.json"),
            remedy="The architecture must be a decoder-only language model that the installed transformers has.",
        ) from error
    model.save_pretrained(output)
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    copy_companions(base, output)


if __name__ == "__main__":
    serve(make)
