"""What timing a candidate takes, by the constants of `costs.py`."""

from __future__ import annotations

from quant_action.costs import (
    CPU_BANDWIDTH,
    CPU_RATE,
    GPTQMODEL,
    GPU_BANDWIDTH,
    GPU_READING,
    SCORER,
    STEP,
    rate_of,
)
from quant_action.records import BitsandbytesScheme, Estimate, Scheme, SpeedCase, SpeedProtocol
from quant_action.work import Shape, artifact_bytes

WARM = 4
"""Runs of each model before those that count."""

UNPACKING = {"cpu": 3.0, "cuda": 1.5}  # [A] a candidate's run, over the baseline's


def timing(shape: Shape, scheme: Scheme, asked: SpeedProtocol, *, gpu: str | None, cores: int) -> Estimate:
    """Both models loaded once, and every case run until its time is up.

    Time of a run: 2 operations per weight and token; while decoding, for every step all weights once, and the calls of Python. Memory: both
    models, and the keys, values and activations of the largest case.
    """
    artifact = artifact_bytes(shape, scheme)
    process = SCORER if isinstance(scheme, BitsandbytesScheme) else GPTQMODEL
    device = "cpu" if gpu is None else "cuda"
    seconds = process.seconds
    for case in asked.cases:
        both = _run(shape, case, gpu=gpu, cores=cores) * (1 + UNPACKING[device])
        fewest, most = asked.pairs
        seconds += both * (WARM + min(max(asked.seconds / both, fewest), most))
    models, working = 2 * shape.parameters + artifact, max(_working(shape, case, asked.prompt) for case in asked.cases)
    if gpu is None:
        return Estimate(seconds=seconds, memory=process.memory + models + max(working, shape.size), gpu_memory=None, disk=0)
    seconds += process.gpu_seconds + (shape.size + artifact) / GPU_READING
    return Estimate(seconds=seconds, memory=process.memory + process.on_gpu + shape.size, gpu_memory=models + working, disk=0)


def _run(shape: Shape, case: SpeedCase, *, gpu: str | None, cores: int) -> float:
    rate = CPU_RATE * cores if gpu is None else rate_of(gpu).half
    work = 2.0 * shape.linear_parameters * case.tokens * case.batch / rate
    steps = 1 if case.phase == "prefill" else case.tokens
    reading = 2 * shape.parameters / (CPU_BANDWIDTH if gpu is None else GPU_BANDWIDTH)
    return work + steps * (shape.layers * STEP + reading)


def _working(shape: Shape, case: SpeedCase, prompt: int) -> int:
    """Keys and values of all layers, the activations of one, and logits of the last position, in 16 and 32 bits."""
    tokens = case.batch * (case.tokens + prompt)
    cache = 4 * tokens * shape.layers * min(outputs for outputs, _ in shape.layer)
    read = tokens if case.phase == "prefill" else case.batch
    return cache + 2 * read * (3 * shape.widest + 6 * shape.hidden) + 6 * case.batch * shape.vocabulary
