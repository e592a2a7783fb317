"""Every candidate beside the unquantized model: how fast, by the library that serves it, on this machine.

    python benchmarks/speed.py [SPEC] [--only TEXT...] [--prefill 512 2048] [--decode 128] [--batch 1 32] [--work DIR] [--evidence FILE]

Without SPEC, `examples/smollm2` at native GPTQ with groups of 64, NF4 and INT8. Candidates are made by `quant-action quantize` and timed by
the product's own stage; nothing is evaluated. A line is printed as soon as it is measured, and one candidate that breaks does not stop the
others; what was made or timed before, in the same --work folder, is not done again. `--pairs` and `--seconds` shorten what is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from quant_action import pipeline
from quant_action.console import ConsoleListener, make_console
from quant_action.errors import QuantActionError
from quant_action.formats.speed import HEADER
from quant_action.metrics.speed import times_as_fast
from quant_action.records import Speed
from quant_action.session import Session, Settings, prepare

CANDIDATES = {
    "nf4": {"method": "bitsandbytes", "type": "nf4"},
    "int8": {"method": "bitsandbytes", "type": "int8"},
    "gptq-w4-g64": {"method": "gptq", "bits": 4, "group_size": 64, "engine": "native"},
}


def write_spec(arguments: argparse.Namespace) -> Path:
    """The spec with what is to be timed, in the work folder, with links to the model and the data beside it."""
    folder = arguments.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source = arguments.spec.resolve()
    spec: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    for name in ("model", "data"):
        link = folder / name
        if (source.parent / name).exists() and not link.exists():
            link.symlink_to((source.parent / name).resolve())
    if arguments.spec == DEFAULT:
        spec["candidates"] = CANDIDATES
    named = {id: asked for id, asked in spec["candidates"].items() if any(text in id for text in arguments.only)}
    latency = {"prefill": arguments.prefill, "decode": arguments.decode, "batch": arguments.batch}
    spec |= {"name": "speed", "candidates": named, "evaluation": {**spec["evaluation"], "latency": latency}}
    path = folder / "quant.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path


def shortened(session: Session, arguments: argparse.Namespace) -> Session:
    """The session with fewer runs than the product takes, where the command line says so."""
    asked = session.plan.speed
    assert asked is not None
    changes = {"pairs": tuple(arguments.pairs) if arguments.pairs else asked.pairs, "seconds": arguments.seconds or asked.seconds}
    return replace(session, plan=session.plan.model_copy(update={"speed": asked.model_copy(update=changes)}))


def lines(name: str, speed: Speed) -> list[str]:
    found = []
    for timed in speed.cases:
        ratio, interval = times_as_fast(timed)
        tokens = timed.case.tokens * timed.case.batch
        middles = [timing.quantiles[1] for timing in (timed.candidate, timed.baseline)]
        cells = [
            name,
            timed.case.id,
            f"{'⚠ ' if speed.unstable or timed.unstable else ''}×{ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
            *(f"{tokens / middle:,.0f}" for middle in middles),
            *(f"{1000 * middle:,.2f}" for middle in middles),
            str(len(timed.baseline.seconds)),
            *("" if side.peak_gpu_memory is None else f"{side.peak_gpu_memory / 1e9:.2f}" for side in (timed.candidate, timed.baseline)),
        ]
        found.append(f"| {' | '.join(cells)} |")
    return found


def facts(name: str, speed: Speed) -> str:
    doubts = [*speed.unstable, *(f"{timed.case.id}: {doubt}" for timed in speed.cases for doubt in timed.unstable)]
    gpu = speed.gpu.model_dump(exclude_none=True) if speed.gpu else {}
    return (
        f"{name}: {speed.runtime}, kernels {speed.kernels}, backend {speed.backend}, dtypes {speed.dtypes}, in turns by {speed.turns}, "
        f"{speed.measured}, {speed.device}, {gpu}, {speed.cpu.model_dump()}, torch {speed.versions.get('torch')}; "
        f"unstable: {'; '.join(doubts) or 'no'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--only", nargs="*", default=[""], help="candidates whose name has one of these in it")
    parser.add_argument("--prefill", type=int, nargs="*", default=[512, 2048])
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--pairs", type=int, nargs=2, metavar=("FEWEST", "MOST"))
    parser.add_argument("--seconds", type=float, help="of a case, beyond the fewest pairs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--work", type=Path, default=Path("speed-benchmark"))
    parser.add_argument("--evidence", type=Path)
    arguments = parser.parse_args()
    print(f"$ python benchmarks/speed.py {' '.join(sys.argv[1:])}\n")
    settings = Settings(spec=write_spec(arguments), device=arguments.device)
    headings = [*HEADER[:5], "time, ms", "baseline's time, ms", "pairs", "peak GPU memory, GB", "baseline's, GB"]
    print(f"| {' | '.join(headings)} |\n|---|---|{'--:|' * (len(headings) - 2)}", flush=True)
    records: dict[str, Speed] = {}
    with ConsoleListener(make_console()) as listener:
        jobs = prepare(settings).plan.jobs
        for job in jobs:
            try:
                session = shortened(pipeline.quantize_only(settings, job.id, listener), arguments)
                candidate = pipeline.make_candidate(session, job, listener)
                records[job.id] = pipeline.time_candidate(session, job, candidate, listener)
                print("\n".join(lines(job.id, records[job.id])), flush=True)
            except QuantActionError as error:
                print(f"| {job.id} | not timed: {str(error).splitlines()[0][:300]} |" + " |" * (len(headings) - 2), flush=True)
                print(f"{job.id}: {error}\n{error.remedy or ''}", file=sys.stderr, flush=True)
            if arguments.evidence:
                kept = {id: record.model_dump(mode="json") for id, record in records.items()}
                arguments.evidence.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print()
    for id, record in records.items():
        print(f"- {facts(id, record)}")


DEFAULT = Path(__file__).resolve().parents[1] / "examples/smollm2/quant.yml"

if __name__ == "__main__":
    main()
