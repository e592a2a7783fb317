"""What the same bits cost: native GPTQ and AWQ against GPTQModel and llm-compressor, same samples, same text, same scorer.

    make benchmark

The model is SmolLM2-135M (examples/smollm2): 32 calibration samples of 512 tokens, 4 bits, groups of 64, on the CPU. Everything is
evaluated by the product's own scorer on the folder reloaded from disk. "CPU seconds" are those of the whole quantizing process, imports,
loading and saving included; on a machine that does other things they say more than the clock. Prints a Markdown table, versions and
hardware; the figures that the README quotes are in benchmarks/README.md with the date on which they were measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from quant_action.checkpoints.load import load_tokenizer
from quant_action.engines.calibration import sample_blocks
from quant_action.plan import BATCH_TOKENS, resolve_scheme
from quant_action.records import Protocol, TextProtocol
from quant_action.spec import AwqCandidate, GptqCandidate, RtnCandidate
from quant_action.workers.environment import interpreter
from quant_action.workers.process import run_worker

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples/smollm2"
SAMPLES, TOKENS, SEED, BITS, GROUP = 32, 512, 0, 4, 64

NATIVE = {
    "native RTN, symmetric": RtnCandidate(method="rtn", bits=BITS, group_size=GROUP),
    "native GPTQ, symmetric, no clip": GptqCandidate(method="gptq", bits=BITS, group_size=GROUP, clip=False),
    "native GPTQ, symmetric (default)": GptqCandidate(method="gptq", bits=BITS, group_size=GROUP),
    "native AWQ, no clip": AwqCandidate(method="awq", bits=BITS, group_size=GROUP, clip=False),
    "native AWQ (default)": AwqCandidate(method="awq", bits=BITS, group_size=GROUP),
    "native best-w4": GptqCandidate(method="gptq", bits=BITS, group_size=GROUP, symmetric=False, clip=True, scales="awq"),
}
PEERS = {"GPTQModel GPTQ, symmetric": "gptqmodel", "llm-compressor GPTQ, symmetric": "llm-compressor"}


@dataclass(frozen=True)
class Line:
    name: str
    seconds: float
    perplexity: float
    kl: float
    top1: float


def quantize_native(candidate: GptqCandidate | AwqCandidate | RtnCandidate, out: Path, device: str) -> float:
    out.mkdir()
    request = {
        "verb": "quantize",
        "scheme": resolve_scheme(candidate).model_dump(mode="json"),
        "model": str(EXAMPLE / "model"),
        "output": str(out),
        "device": device,
        "calibration": {"data": str(EXAMPLE / "data/calibration.jsonl"), "samples": SAMPLES, "tokens": TOKENS, "seed": SEED},
    }
    before = cpu_seconds()
    run_worker(
        environment="host", module="quant_action.engines.native.worker", request=request, log=out.with_suffix(".log"), on_progress=ignore
    )
    return cpu_seconds() - before


def cpu_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quantize_peer(library: str, calibration: Path, out: Path) -> tuple[float, str]:
    command = [str(interpreter("modern")), str(HERE / "peers_quantize.py"), library, str(EXAMPLE / "model"), str(calibration), str(out)]
    before = cpu_seconds()
    done = subprocess.run(
        [*command, "--bits", str(BITS), "--group-size", str(GROUP)], stdout=subprocess.PIPE, text=True, check=True, cwd=out.parent
    )
    result = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("RESULT "))[7:])
    return cpu_seconds() - before, f"{library} {result['version']}"


def evaluate(model: Path, out: Path, device: str, baseline: Path | None) -> dict[str, float]:
    out.mkdir()
    text = EXAMPLE / "data/heldout.jsonl"
    protocol = Protocol(
        tokenizer="",
        dtype="float32" if device == "cpu" else "bfloat16",
        batch_tokens=BATCH_TOKENS[device],
        text=TextProtocol(data=text.name, digest="", window=512),
        tasks=(),
    )
    request = {
        "verb": "evaluate",
        "subject": "candidate" if baseline else "baseline",
        "model": str(model),
        "baseline": {"model": str(EXAMPLE / "model"), "states": str(baseline / "states")} if baseline else None,
        "device": device,
        "protocol": protocol.model_dump(mode="json"),
        "data": {"text": str(text), "tasks": {}},
        "output": str(out),
    }
    result = run_worker(
        environment="host", module="quant_action.scorer.worker", request=request, log=out.with_suffix(".log"), on_progress=ignore
    )
    return {id: measured["value"] for id, measured in result.value["metrics"].items()}


def ignore(step: str, done: int, total: int) -> None:
    """No progress: the table is the output."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="measure only lines whose name has this text in it")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in ("torch", "transformers"))]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        samples = sample_blocks(
            load_tokenizer(EXAMPLE / "model"), EXAMPLE / "data/calibration.jsonl", samples=SAMPLES, tokens=TOKENS, seed=SEED
        )
        (work / "samples.json").write_text(json.dumps(samples))
        base = evaluate(EXAMPLE / "model", work / "baseline", arguments.device, None)
        print(f"baseline perplexity {base['perplexity']:.4f}\n", flush=True)
        print("| method | CPU seconds | perplexity ratio | KL | top-1 |\n|---|--:|--:|--:|--:|", flush=True)
        lines = {name: what for name, what in (NATIVE | PEERS).items() if arguments.only in name}
        for number, (name, what) in enumerate(lines.items()):
            out = work / f"model{number}"
            if isinstance(what, str):
                seconds, peer = quantize_peer(what, work / "samples.json", out)
                versions.append(peer)
            else:
                seconds = quantize_native(what, out, arguments.device)
            found = evaluate(out, work / f"evaluation{number}", arguments.device, work / "baseline")
            ratio = found["perplexity"] / base["perplexity"]
            print(f"| {name} | {seconds:.0f} | {ratio:.4f} | {found['kl']:.4f} | {found['top1']:.4f} |", flush=True)
    print("\n" + ", ".join([*versions, platform.machine(), arguments.device]))


if __name__ == "__main__":
    main()
