"""Records of one imagined run, written by hand: a winner, a larger pass, an undecided, a failed and a crashed candidate.

Everything is deterministic: noise comes from `random.Random.random`, whose sequence Python keeps for ever. The verdict is the real judge's.
"""

from __future__ import annotations

import random

import numpy as np

from quant_action.formats.interface import Report
from quant_action.judge import judge
from quant_action.metrics import measure_all
from quant_action.metrics.interface import Subject
from quant_action.records import (
    BitsandbytesScheme,
    CalibrationRef,
    Candidate,
    Evaluation,
    Failure,
    GateLimit,
    Job,
    LogitDifference,
    ModelRef,
    Plan,
    Protocol,
    RuntimeCheck,
    RuntimeProtocol,
    Scheme,
    TaskProtocol,
    TextProtocol,
    Verdict,
    WeightScheme,
    digest_of,
)
from quant_action.report import build_report
from quant_action.store import BASELINE
from quant_action.values import Values, Windows

WINDOWS, POSITIONS, ITEMS = 24, 64, {"tickets": 400, "extract": 200}

MEBI = 1 << 20

PROTOCOL = Protocol(
    tokenizer=digest_of("tokenizer"),
    dtype="bfloat16",
    batch_tokens=16384,
    text=TextProtocol(data="data/heldout.jsonl", digest=digest_of("heldout"), window=POSITIONS + 1),
    tasks=(
        TaskProtocol(id="tickets", kind="choice", data="data/tickets.jsonl", digest=digest_of("tickets"), max_tokens=0, limit=None),
        TaskProtocol(id="extract", kind="generate", data="data/extract.jsonl", digest=digest_of("extract"), max_tokens=32, limit=200),
    ),
)


def weights(method: str, bits: int, **options: object) -> WeightScheme:
    settings = {"group_size": 128, "symmetric": True, "clip": False, "scales": None, "method": method, "bits": bits}
    return WeightScheme.model_validate(settings | options)


SCHEMES: dict[str, Scheme] = {
    "gptq-w4-g128": weights("gptq", 4, act_order=True, static_groups=True),
    "awq-w4-g128": weights("awq", 4, symmetric=False, clip=True, scales="awq"),
    "bnb-int8": BitsandbytesScheme(method="bitsandbytes", type="int8"),
    "bnb-nf4": BitsandbytesScheme(method="bitsandbytes", type="nf4"),
    "gptq-w3-g128": weights("gptq", 3),
    "rtn-w2": weights("rtn", 2, group_size=-1),
}

DAMAGE = {"gptq-w4-g128": 0.021, "awq-w4-g128": 0.016, "bnb-int8": 0.001, "bnb-nf4": 0.0489, "gptq-w3-g128": 0.31}
"""Nats by which the mean NLL rises."""

SIZES = {
    "gptq-w4-g128": 5_120_000_000,
    "awq-w4-g128": 5_210_000_000,
    "bnb-int8": 8_590_000_000,
    "bnb-nf4": 5_440_000_000,
    "gptq-w3-g128": 4_110_000_000,
}

FLIPS = {"gptq-w4-g128": (6, 7), "awq-w4-g128": (8, 10), "bnb-int8": (1, 1), "bnb-nf4": (17, 12), "gptq-w3-g128": (88, 20)}
"""Items that change from right to wrong, and from wrong to right."""

VERSIONS = {"torch": "2.13.0", "transformers": "5.17.0"}

PLAN = Plan(
    key=digest_of("plan"),
    name="support-8b",
    spec="quant.yml",
    spec_digest=digest_of("spec"),
    device="NVIDIA H200",
    model=ModelRef(
        source="acme/support-8b",
        revision="0e9e39f249a16976918f6564b8830bc894c89659",
        digest=digest_of("model"),
        architecture="LlamaForCausalLM",
        size=16_060_000_000,
    ),
    calibration=CalibrationRef(data="data/calibration.jsonl", digest=digest_of("calibration"), samples=128, tokens=2048, seed=0),
    protocol=PROTOCOL,
    scorer=digest_of("scorer"),
    baseline_key=digest_of("baseline"),
    runtime=RuntimeProtocol(),
    jobs=tuple(
        Job(
            id=id,
            key=digest_of(id),
            scheme=scheme,
            engine="bitsandbytes" if scheme.method == "bitsandbytes" else "native",
            engine_reason="fastest that can do this",
            environment="host",
            fingerprint=digest_of("engine"),
            required=id == "bnb-int8",
        )
        for id, scheme in SCHEMES.items()
    ),
)

GATES = (
    GateLimit(gate="perplexity_ratio", metric="perplexity", vs="baseline", bound="max", limit=1.05, where="quant.yml:21:3"),
    GateLimit(gate="kl_ratio", metric="kl", vs="release", bound="max", limit=1.10, where="quant.yml:22:3"),
    GateLimit(gate="accuracy", metric="accuracy", vs="baseline", bound="min", limit=-0.02, where="quant.yml:23:3"),
    GateLimit(gate="size", metric="size", vs=None, bound="max", limit=9e9, where="quant.yml:24:3"),
)

FAILURES = {
    "rtn-w2": Failure(
        id="rtn-w2", stage="quantize", kind="OutOfMemory", exit_code=4, message="the GPU's memory is full", remedy="Use a larger GPU."
    )
}


def text_values(damage: float, seed: int) -> Windows:
    """A text of easy and hard windows; a damaged model is worse in each by about `damage` nats."""
    text, noise = random.Random(0), random.Random(seed)
    nll = np.array([[1.2 + text.random() + 2 * text.random() for _ in range(POSITIONS)] for _ in range(WINDOWS)])
    harder = np.array([[0.5 + noise.random()] * POSITIONS for _ in range(WINDOWS)])
    spread = np.array([[noise.random() for _ in range(POSITIONS)] for _ in range(WINDOWS)])
    return Windows(
        nll=nll + damage * harder * 2 * spread,
        kl=damage * harder * 4 * spread**3,
        top1=spread > min(4 * damage, 0.6),
        bytes=np.full(WINDOWS, 4 * POSITIONS),
        slices=("",) * WINDOWS,
    )


def task_items(flips: tuple[int, int]) -> tuple[dict[str, object], ...]:
    """The baseline is right on four of five; the first `flips[0]` right answers turn wrong and the first `flips[1]` wrong ones right."""
    losses, gains = flips
    items = []
    for index, (task, item) in enumerate((task, str(item)) for task, count in ITEMS.items() for item in range(count)):
        right, rank = index % 5 != 0, index // 5
        turned = rank < gains if not right else index % 5 == 1 and rank < losses
        items.append({"task": task, "item": item, "correct": right != turned})
    return tuple(items)


VALUES = {BASELINE: Values(windows=text_values(0, 0), items=task_items((0, 0)))} | {
    id: Values(windows=text_values(damage, seed), items=task_items(FLIPS[id])) for seed, (id, damage) in enumerate(DAMAGE.items(), start=1)
}


def evaluation(id: str, size: int, memory: int) -> Evaluation:
    return Evaluation(
        key=digest_of(["evaluation", id]),
        subject="baseline" if id == BASELINE else "candidate",
        artifact=digest_of(["artifact", id]),
        protocol=digest_of(PROTOCOL.model_dump(mode="json")),
        size=size,
        metrics=measure_all(VALUES[id]),
        seconds=61.0,
        peak_memory=2_100 * MEBI,
        peak_gpu_memory=memory,
        device="NVIDIA H200",
        versions=VERSIONS,
    )


BASELINE_EVALUATION = evaluation(BASELINE, PLAN.model.size, 17_400_000_000)

EVALUATIONS = {id: evaluation(id, size, size + 1_300_000_000) for id, size in SIZES.items()}

CANDIDATES = {
    id: Candidate(
        key=digest_of(id),
        scheme=SCHEMES[id],
        engine="bitsandbytes" if id.startswith("bnb") else "native",
        artifact=digest_of(["artifact", id]),
        size=size + 9_400_000,
        weights=size,
        quantized_layers=224,
        quantized_parameters=6_979_321_856,
        seconds=31.4 if id.startswith("bnb") else 412.0,
        peak_memory=3_000 * MEBI,
        peak_gpu_memory=9_100_000_000,
        device="NVIDIA H200",
        versions=VERSIONS | ({"bitsandbytes": "0.50.2"} if id.startswith("bnb") else {}),
    )
    for id, size in SIZES.items()
}

KERNELS = {"gptq-w4-g128": "MarlinLinear", "awq-w4-g128": "AwqMarlinLinear", "gptq-w3-g128": "TritonV2Linear"}

RUNTIMES = {
    id: RuntimeCheck(
        key=digest_of(["runtime", id]),
        artifact=digest_of(["artifact", id]),
        runtime=f"transformers 5.17.0 with {'bitsandbytes 0.50.2' if id.startswith('bnb') else 'gptqmodel 7.6.0'}",
        dtype="float16" if id.startswith("awq") else "bfloat16",
        kernels={KERNELS.get(id, "Linear8bitLt" if id == "bnb-int8" else "Linear4bit"): 224},
        tokens=256,
        difference=LogitDifference(largest=0.0712, rms=0.0093, kl=8.1e-5, nll=0.0121),
        rounding=LogitDifference(largest=0.1904, rms=0.0187, kl=5.9e-4, nll=0.0437),
        layers_compared=0 if id.startswith("bnb") else 224,
        worst_layer=None if id.startswith("bnb") else "model.layers.3.mlp.down_proj",
        worst_layer_share=None if id.startswith("bnb") else 0.36,
        seconds=48.0,
        peak_memory=2_400 * MEBI,
        peak_gpu_memory=16_900_000_000,
        device="NVIDIA H200",
        versions=VERSIONS,
    )
    for id in SIZES
}


def verdict() -> Verdict:
    subjects = {id: Subject(evaluation=EVALUATIONS[id], values=VALUES[id]) if id in EVALUATIONS else FAILURES[id] for id in SCHEMES}
    return judge(
        plan_key=PLAN.key,
        gates=dict.fromkeys(SCHEMES, GATES),
        baseline=Subject(evaluation=BASELINE_EVALUATION, values=VALUES[BASELINE]),
        release=None,
        floor=None,
        candidates=subjects,
        required={job.id for job in PLAN.jobs if job.required},
        choose="smallest",
    )


def report() -> Report:
    return build_report(
        plan=PLAN,
        verdict=verdict(),
        baseline=BASELINE_EVALUATION,
        candidates=CANDIDATES,
        evaluations=EVALUATIONS,
        runtimes=RUNTIMES,
        failures=FAILURES,
        values=VALUES,
    )
