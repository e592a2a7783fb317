"""Quantize with llm-compressor; runs in the environment `modern`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant_action.checkpoints.load import load_tokenizer
from quant_action.checkpoints.source import Source
from quant_action.checkpoints.writer import copy_companions, keep_weights, write_config
from quant_action.engines.calibration import requested_blocks
from quant_action.engines.llm_compressor.engine import ENGINE
from quant_action.model_files import read_config, read_tensors
from quant_action.workers.protocol import Progress, serve


def quantize(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """See `engines/interface.py` for request and answer. Raises `ModelError` for weights that are not finite."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    scheme, base, output = request["scheme"], Path(request["model"]), Path(request["output"])
    Source(base).check(progress)
    blocks = requested_blocks(request)
    progress("quantize", 1, 2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, trust_remote_code=False, use_safetensors=True)
    oneshot(
        model=model,
        tokenizer=load_tokenizer(base),
        dataset=Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in blocks]),
        recipe=_recipe(scheme),
        num_calibration_samples=len(blocks),
        max_seq_length=len(blocks[0]),
        shuffle_calibration_samples=False,  # they are shuffled already, with a seed; it would do it without one
    )
    model.save_pretrained(output, save_compressed=True)
    progress("quantize", 2, 2)
    write_config(base, output, quantization_config=read_config(output)["quantization_config"])
    keep_weights(output)
    copy_companions(base, output)
    return {
        "quantized": sorted(name.removesuffix(".weight_packed") for name in read_tensors(output) if name.endswith(".weight_packed")),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if request["device"] == "cuda" else None,
        "versions": {name: version(name) for name in ENGINE.requires},
    }


def _recipe(scheme: dict[str, Any]) -> list[Any]:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    grouped = scheme["group_size"] != -1
    weights = QuantizationArgs(
        num_bits=scheme["bits"],
        type="int",
        symmetric=scheme["symmetric"],
        strategy="group" if grouped else "channel",
        group_size=scheme["group_size"] if grouped else None,
        actorder="static" if scheme["act_order"] else None,
    )
    where: dict[str, Any] = {
        "config_groups": {"weights": QuantizationScheme(targets=["Linear"], weights=weights)},
        "ignore": ["lm_head"],
    }
    if scheme["method"] == "awq":
        return [AWQModifier(), QuantizationModifier(**where)]
    return [GPTQModifier(dampening_frac=scheme["damping"], actorder=weights.actorder, **where)]  # left out, it would be "static"


if __name__ == "__main__":
    serve(quantize)
