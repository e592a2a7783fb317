"""Runs in the environment `modern`: the logits that another library computes from a folder that we wrote.

python peer_logits.py {gptqmodel|transformers} FOLDER IDS.json OUT.safetensors
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # on two cores its default leaves no worker

import torch
from safetensors.torch import save_file


def load(library: str, folder: str) -> Any:
    if library == "gptqmodel":
        from gptqmodel import GPTQModel

        return GPTQModel.load(folder, device="cpu", dtype=torch.bfloat16).model
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cpu")


def main() -> None:
    library, folder, ids, out = sys.argv[1:]
    model = load(library, folder).eval()
    kinds = {type(module).__name__ for name, module in model.named_modules() if name.endswith("_proj")}
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor(json.loads(Path(ids).read_text()))).logits
    save_file({"logits": logits.float().contiguous()}, out, metadata={"kernels": ",".join(sorted(kinds))})


if __name__ == "__main__":
    main()
