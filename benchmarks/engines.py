"""Quantize a model with every engine that can do it here, and measure all of them by the same ruler.

    python benchmarks/engines.py [--model examples/smollm2] [--shape llama-2-7b] [--layers N] [--only TEXT...] [--runtime] [--work DIR]

The folder holds `model/` and `data/`, as `examples/smollm2` makes them. Everything goes through `quant-action run`: the same calibration
samples, checks and scorer for everybody, every artifact reloaded from disk. What was measured before, in the same --work folder, is not
measured again. With `--shape`, a model of that shape with random weights takes the place of `model/`, to show time and memory, not quality.
Prints one table, the versions, and with `--evidence FILE` writes the records' figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from quant_action.hardware import read_machine
from quant_action.model_files import open_model
from quant_action.records import Candidate, Evaluation, Failure
from quant_action.report import describe
from quant_action.store import BASELINE, Store
from quant_action.work import Shape

SHAPES: dict[str, dict[str, int]] = {
    "llama-2-7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32, "layers": 32}
}


def candidates(group_size: int) -> dict[str, dict[str, Any]]:
    """Name -> as the spec has it. Symmetric GPTQ and asymmetric AWQ are what every engine has."""
    gptq = {"method": "gptq", "bits": 4, "group_size": group_size}
    awq = {"method": "awq", "bits": 4, "group_size": group_size}
    return {
        "native-rtn": {"method": "rtn", "bits": 4, "group_size": group_size},
        "native-gptq": {**gptq, "engine": "native"},
        "native-gptq-plain": {**gptq, "engine": "native", "act_order": False, "clip": False},
        "native-awq": {**awq, "engine": "native"},
        "native-best-w4": {"preset": "best-w4"} if group_size == 128 else {**gptq, "symmetric": False, "scales": "awq"},
        "gptqmodel-gptq": {**gptq, "engine": "gptqmodel"},
        "gptqmodel-awq": {**awq, "engine": "gptqmodel"},
        "llm-compressor-gptq": {**gptq, "engine": "llm-compressor"},
        "llm-compressor-awq": {**awq, "engine": "llm-compressor"},
        "auto-gptq": {**gptq, "engine": "auto-gptq"},
        "autoawq": {**awq, "engine": "autoawq"},
        "bitsandbytes-nf4": {"method": "bitsandbytes", "type": "nf4"},
        "bitsandbytes-fp4": {"method": "bitsandbytes", "type": "fp4"},
        "bitsandbytes-int8": {"method": "bitsandbytes", "type": "int8"},
    }


def random_model(shape: dict[str, int], layers: int, like: Path, folder: Path) -> None:
    """A Llama of that shape with the tokenizer of `like`; nothing but its size means anything."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from quant_action.checkpoints.load import load_tokenizer

    tokenizer = load_tokenizer(like)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{name: value for name, value in shape.items() if name != "layers"},
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save_pretrained(folder)


def repeated(path: Path, tokens: int, target: Path) -> None:
    """The rows of `path` again and again, numbered, until they hold about `tokens` tokens."""
    rows = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    with target.open("w", encoding="utf-8") as file:
        characters = number = 0
        while characters < tokens * 5:
            text = f"Part {number}. {rows[number % len(rows)]}"
            file.write(json.dumps({"text": text}) + "\n")
            characters, number = characters + len(text), number + 1


def write_spec(arguments: argparse.Namespace, folder: Path) -> Path:
    source, samples, tokens, window, group_size = arguments.model.resolve(), 32, 512, 512, 64
    model, calibration = source / "model", folder / "calibration.jsonl"
    shutil.copyfile(source / "data/calibration.jsonl", calibration)
    shutil.copyfile(source / "data/heldout.jsonl", folder / "heldout.jsonl")
    if arguments.shape:
        samples, tokens, window, group_size = 128, 2048, 2048, 128
        shape = SHAPES[arguments.shape]
        model = folder / f"{arguments.shape}-{arguments.layers or shape['layers']}"
        if not (model / "config.json").exists():
            random_model(shape, arguments.layers or shape["layers"], source / "model", model)
        repeated(source / "data/calibration.jsonl", samples * tokens, calibration)
    spec = {
        "version": 1,
        "name": "engines",
        "model": {"source": str(model)},
        "calibration": {"data": calibration.name, "samples": samples, "tokens": tokens},
        "candidates": {name: value for name, value in candidates(group_size).items() if any(text in name for text in arguments.only)},
        "evaluation": {"text": {"data": "heldout.jsonl", "window": window}, "runtime": arguments.runtime},
    }
    path = folder / f"{arguments.shape or 'quality'}.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def drop_what_cannot_run(path: Path) -> None:
    """Engines say themselves what they cannot do here; what they say is printed."""
    from quant_action.engines import choose_engine
    from quant_action.errors import QuantActionError
    from quant_action.hardware import device_class, device_of
    from quant_action.plan import resolve_scheme
    from quant_action.spec import load_spec

    spec, loaded = yaml.safe_load(path.read_text(encoding="utf-8")), load_spec(path).spec
    for name, candidate in loaded.candidates.items():
        try:
            choose_engine(resolve_scheme(candidate), device_of(device_class("auto", read_machine())), candidate.engine)
        except QuantActionError as error:
            print(f"without {name}: {error}", file=sys.stderr)
            del spec["candidates"][name]
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def figures(path: Path) -> list[dict[str, Any]]:
    """Of the last run: one entry for the baseline and one for each candidate."""
    run = Store(path.parent / ".quant").latest_run("engines")
    assert run is not None, "the run did not come to its end"
    baseline = Evaluation.load(run.evaluation(f"{BASELINE}.json"))
    rows = [{"id": BASELINE, "evaluation": baseline.model_dump(mode="json")}]
    for name in yaml.safe_load(path.read_text(encoding="utf-8"))["candidates"]:
        if run.failure(name).exists():
            rows.append({"id": name, "failure": Failure.load(run.failure(name)).model_dump(mode="json")})
            continue
        candidate = Candidate.load(run.candidate(name) / "candidate.json")
        evaluation = Evaluation.load(run.evaluation(f"{name}.json"))
        rows.append({"id": name, "candidate": candidate.model_dump(mode="json"), "evaluation": evaluation.model_dump(mode="json")})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    baseline = rows[0]["evaluation"]
    lines = [
        f"baseline perplexity {baseline['metrics']['perplexity']['value']:.4f}, {baseline['metrics']['perplexity']['n']} windows",
        "",
        "| engine | method | seconds | peak GPU memory, GB | peak host memory, GB | weights, MB | perplexity ratio | mean KL | top-1 |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows[1:]:
        if "failure" in row:
            lines.append(f"| {row['id']} | not evaluated: {row['failure']['message'].splitlines()[0][:150]} |" + " |" * 7)
            continue
        made = Candidate.model_validate(row["candidate"])
        metrics = {name: measured["value"] for name, measured in row["evaluation"]["metrics"].items()}
        cells = [
            made.engine,
            describe(made.scheme),
            f"{made.seconds:.1f}",
            "" if made.peak_gpu_memory is None else f"{made.peak_gpu_memory / 1e9:.2f}",
            f"{made.peak_memory / 1e9:.2f}",
            f"{made.weights / 1e6:.1f}",
            f"{metrics['perplexity'] / baseline['metrics']['perplexity']['value']:.4f}",
            f"{metrics['kl']:.4f}",
            f"{metrics['top1']:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parents[1] / "examples/smollm2")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--only", nargs="*", default=[""], help="candidates whose name has one of these in it")
    parser.add_argument("--runtime", action="store_true", help="also load each artifact with its real runtime")
    parser.add_argument("--work", type=Path, default=Path("engines-benchmark"))
    parser.add_argument("--evidence", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    spec = write_spec(arguments, arguments.work.resolve())
    drop_what_cannot_run(spec)
    done = subprocess.run([sys.executable, "-m", "quant_action", "run", str(spec)], stdout=sys.stderr, check=False)
    rows = figures(spec)
    print(f"$ python benchmarks/engines.py {' '.join(sys.argv[1:])}    (quant-action run ended with {done.returncode})\n")
    print(table(rows))
    versions = {name: version for row in rows if "evaluation" in row for name, version in row["evaluation"]["versions"].items()}
    versions |= {name: version for row in rows if "candidate" in row for name, version in row["candidate"]["versions"].items()}
    gpu = read_machine().gpu
    machine = gpu.name if gpu else f"CPU {platform.machine()}"
    model = open_model(Path(yaml.safe_load(spec.read_text())["model"]["source"]))
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{machine}; {model.architecture}, {model.size / 1e9:.2f} GB; {said}")
    if arguments.evidence:
        calibration = yaml.safe_load(spec.read_text())["calibration"]
        evidence = {"machine": machine, "shape": asdict(Shape.of(model)), "calibration": calibration, "rows": rows}
        arguments.evidence.write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
