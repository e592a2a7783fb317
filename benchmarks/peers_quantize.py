"""Quantize a model with a library that we are compared with; runs in the environment `modern`.

    python benchmarks/peers_quantize.py {gptqmodel|llm-compressor} MODEL CALIBRATION.json OUT --bits 4 --group-size 64

CALIBRATION.json holds a list of token id lists, the very samples that the native engine sees. GPTQModel writes a GPTQ checkpoint;
llm-compressor's result is saved with its weights dequantized, since only their values matter here. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # on two cores its default leaves no worker


def gptqmodel(arguments: argparse.Namespace, samples: list[list[int]]) -> None:
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(bits=arguments.bits, group_size=arguments.group_size, sym=True)
    model = GPTQModel.load(str(arguments.model), config, device="cpu")
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in samples]
    model.quantize(rows, batch_size=1)
    model.save(str(arguments.out))


def llm_compressor(arguments: argparse.Namespace, samples: list[list[int]]) -> None:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype="bfloat16")
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    data = Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in samples])
    weights = QuantizationArgs(num_bits=arguments.bits, type="int", symmetric=True, strategy="group", group_size=arguments.group_size)
    recipe = GPTQModifier(config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}, ignore=["lm_head"])
    oneshot(
        model=model, dataset=data, recipe=recipe, num_calibration_samples=len(samples), max_seq_length=len(samples[0]), tokenizer=tokenizer
    )
    save_dense(model, arguments.model, arguments.out)


def save_dense(model: object, base: Path, out: Path) -> None:
    """Save the values that the quantized weights stand for, as an ordinary model.

    llm-compressor leaves them in the weights after rounding; that they lie on the grid is checked, so that no layer is taken for quantized
    that is not.
    """
    import shutil

    import torch
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from safetensors.torch import save_file

    tensors = {}
    for name, module in model.named_modules():  # type: ignore[attr-defined]
        scheme = getattr(module, "quantization_scheme", None)
        for leaf, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{leaf}" if name else leaf
            if full == "lm_head.weight" or leaf.startswith("weight_"):
                continue
            value = parameter.data
            if scheme is not None and leaf == "weight":
                rounded = fake_quantize(value, module.weight_scale, module.weight_zero_point, scheme.weights)
                if not torch.allclose(rounded.float(), value.float(), rtol=1e-2, atol=1e-6):
                    raise RuntimeError(f"{name} is not on its grid")
            tensors[full] = value.contiguous()
    out.mkdir(parents=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for path in base.iterdir():
        if path.suffix in (".json", ".jinja") and not path.name.startswith("model.safetensors"):
            shutil.copyfile(path, out / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("gptqmodel", "llm-compressor"))
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    arguments = parser.parse_args()
    samples = json.loads(arguments.calibration.read_text())
    quantize = {"gptqmodel": gptqmodel, "llm-compressor": llm_compressor}[arguments.peer]
    quantize(arguments, samples)
    package = {"gptqmodel": "gptqmodel", "llm-compressor": "llmcompressor"}[arguments.peer]
    print("RESULT " + json.dumps({"version": version(package)}))


if __name__ == "__main__":
    main()
