"""Records of imagined runs, written by hand: a winner, a larger pass, an undecided, a failed and a crashed candidate, twice.

Everything is deterministic: noise comes from `random.Random.random`, whose sequence Python keeps for ever. The verdict is the real judge's.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any, Literal

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
    Override,
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
    GateLimit(gate="top1", metric="top1", vs="baseline", bound="min", limit=0.93, where="quant.yml:25:3", level="warn"),
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
        slices=("en",) * (WINDOWS - 8) + ("ja",) * 8,
    )


CITIES = ("Oslo", "Lima", "Bern", "Kyiv")


def task_items(flips: tuple[int, int], *, hashed: bool = False) -> tuple[dict[str, Any], ...]:
    """The baseline is right on four of five; the first `flips[0]` right answers turn wrong and the first `flips[1]` wrong ones right.

    Choices are of two slices; the last generation of a model that flips anything is written otherwise, and as right as before.
    """
    losses, gains = flips
    items = []
    for index, (task, item) in enumerate((task, str(item)) for task, count in ITEMS.items() for item in range(count)):
        right, rank = index % 5 != 0, index // 5
        turned = rank < gains if not right else index % 5 == 1 and rank < losses
        correct = right != turned
        values = (
            choice_values(index, correct) if task == "tickets" else generated_values(index, correct, changed=losses > 0 and item == "199")
        )
        kept = {"task": task, "item": item, "correct": correct, **values}
        items.append(only_digests(kept) if hashed else kept)
    return tuple(items)


def choice_values(index: int, correct: bool) -> dict[str, Any]:
    answer = index % 4 if correct else (index + 1) % 4
    return {
        "slice": "ja" if index % 10 < 3 else "en",
        "prompt": f"Ticket {index}: which office?",
        "expected": CITIES[index % 4],
        "answer": answer,
        "answered": CITIES[answer],
        "scores": [-1.0 - index % 7 / 8 if choice == answer else -3.5 for choice in range(4)],
    }


def generated_values(index: int, correct: bool, *, changed: bool) -> dict[str, Any]:
    output = f"order {index}" if correct else "order " * 4
    return {
        "prompt": f"Extract the order number.\nDear all, it is {index}.",
        "expected": f"order {index}",
        "output": output + " " * changed,
        "answered": f"{output}, please" if changed else output,
        "ids": [9, index, *([7] if changed else [])] if correct else [9, 9, 9, 9],
        "ended": correct,
        "degenerate": None if correct else "loop",
    }


def only_digests(item: dict[str, Any]) -> dict[str, Any]:
    """As the scorer keeps items with `samples: hash-only`."""
    texts = {f"{key}_sha256": digest_of(item[key]) for key in ("prompt", "answered")}
    return {key: value for key, value in item.items() if key not in {"prompt", "expected", "answered", "output", "ids", "scores"}} | texts


VALUES = {BASELINE: Values(windows=text_values(0, 0), items=task_items((0, 0)))} | {
    id: Values(windows=text_values(damage, seed), items=task_items(FLIPS[id])) for seed, (id, damage) in enumerate(DAMAGE.items(), start=1)
}

FLOOR_VALUES = Values(windows=text_values(0.00002, 7), items=task_items((1, 1)))

RELEASE_VALUES = Values(windows=text_values(0.0262, 8), items=task_items((9, 8)))


def evaluation(
    id: str, size: int, memory: int, values: Values, subject: Literal["baseline", "floor", "release", "candidate"] = "candidate"
) -> Evaluation:
    return Evaluation(
        key=digest_of(["evaluation", id]),
        subject=subject,
        artifact=digest_of(["artifact", id]),
        protocol=digest_of(PROTOCOL.model_dump(mode="json")),
        size=size,
        metrics=measure_all(values),
        seconds=61.0,
        peak_memory=2_100 * MEBI,
        peak_gpu_memory=memory,
        device="NVIDIA H200",
        versions=VERSIONS,
    )


BASELINE_EVALUATION = evaluation(BASELINE, PLAN.model.size, 17_400_000_000, VALUES[BASELINE], "baseline")

BASELINE_SUBJECT = Subject(evaluation=BASELINE_EVALUATION, values=VALUES[BASELINE])

FLOOR = Subject(evaluation=evaluation("floor", PLAN.model.size, 17_400_000_000, FLOOR_VALUES, "floor"), values=FLOOR_VALUES)

RELEASE = Subject(evaluation=evaluation("release", 5_120_000_000, 6_420_000_000, RELEASE_VALUES, "release"), values=RELEASE_VALUES)

EVALUATIONS = {id: evaluation(id, size, size + 1_300_000_000, VALUES[id]) for id, size in SIZES.items()}

SUBJECTS = {id: Subject(evaluation=measured, values=VALUES[id]) for id, measured in EVALUATIONS.items()}

OVERRIDES = (
    Override(
        candidate="bnb-nf4",
        gate="accuracy",
        artifact=digest_of(["artifact", "bnb-nf4 of last month"])[:12],
        by="Ana",
        reason="tickets-ja was being relabelled",
        where="quant.yml:31:5",
    ),
)

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


def verdict(release: Subject | None = None, floor: Subject = FLOOR) -> Verdict:
    return judge(
        plan_key=PLAN.key,
        gates=dict.fromkeys(SCHEMES, GATES),
        baseline=BASELINE_SUBJECT,
        release=release,
        floor=floor,
        candidates={id: SUBJECTS.get(id) or FAILURES[id] for id in SCHEMES},
        required={job.id for job in PLAN.jobs if job.required},
        choose="smallest",
        overrides=OVERRIDES,
    )


@cache
def report() -> Report:
    """The first release."""
    return build_report(
        plan=PLAN,
        verdict=verdict(),
        baseline=BASELINE_SUBJECT,
        release=None,
        floor=FLOOR,
        candidates=CANDIDATES,
        subjects=SUBJECTS,
        runtimes=RUNTIMES,
        untimed={},
        failures=FAILURES,
    )


@cache
def next_report() -> Report:
    """A later one: against a release, with a history, samples as digests, and lines of the spec linked."""
    subjects = {
        id: Subject(evaluation=subject.evaluation, values=Values(windows=subject.values.windows, items=task_items(FLIPS[id], hashed=True)))
        for id, subject in SUBJECTS.items()
    }
    baseline = Subject(
        evaluation=BASELINE_SUBJECT.evaluation,
        values=Values(windows=BASELINE_SUBJECT.values.windows, items=task_items((0, 0), hashed=True)),
    )
    return build_report(
        plan=PLAN.model_copy(update={"release": PLAN.model.model_copy(update={"source": "support-8b@v1.3.0", "revision": None})}),
        verdict=verdict(RELEASE),
        baseline=baseline,
        release=RELEASE,
        floor=FLOOR,
        candidates=CANDIDATES,
        subjects=subjects,
        runtimes=RUNTIMES,
        untimed={},
        failures=FAILURES,
        history=[("v1.0.0", 0.0412), ("v1.1.0", 0.0396), ("v1.2.0", 0.0297), ("v1.3.0", 0.0268)],
        links="https://git.example/acme/support/blob/0e9e39f249a16976918f6564b8830bc894c89659/quant.yml",
    )


@cache
def broken_report() -> Report:
    """The first release again, on a machine where the baseline does not agree with itself."""
    noisy = Values(windows=text_values(0.2, 9), items=task_items((60, 2)))
    floor = Subject(evaluation=evaluation("floor", PLAN.model.size, 17_400_000_000, noisy, "floor"), values=noisy)
    return build_report(
        plan=PLAN,
        verdict=verdict(floor=floor),
        baseline=BASELINE_SUBJECT,
        release=None,
        floor=floor,
        candidates=CANDIDATES,
        subjects=SUBJECTS,
        runtimes=RUNTIMES,
        untimed={},
        failures=FAILURES,
    )
