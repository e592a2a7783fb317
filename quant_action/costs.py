"""What quantizing and scoring cost: seconds, host memory, GPU memory, disk, from the size of the work (`work.py`).

The formulas follow what the code does; they stand here and not beside the engines because an engine's folder decides the keys of its
results, and a better constant must not make results stale. All constants are in the tables below, each with where it comes from:

- [M] measured on 2 cores of an x86-64 server, torch 2.13.0+cpu, transformers 5.17.0, with examples/tiny-llama and examples/smollm2;
- [G] measured on an H200, torch 2.11.0+cu130, with examples/smollm2 and 8 layers of Llama-2-7B's shape (benchmarks/results/*-h200.json);
- [R] measured on an H200 by a prototype or by the libraries' own authors, not with this code;
- [A] assumed: arithmetic from data sheets, not measured.

Host memory is what the system counts for a process at its peak (`ru_maxrss`): its own, and the pages of files that it has mapped. Pages
of a model's files can be dropped when memory is short, so a process may get along with that much less, more slowly. Plans multiply
these figures by what earlier runs on the same machine measured (`estimate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from quant_action.records import BitsandbytesScheme, Estimate, WeightScheme
from quant_action.work import QuantizeWork, ScoreWork, Shape, artifact_bytes

MB, GB = 10**6, 10**9


@dataclass(frozen=True, kw_only=True)
class Process:
    """A worker before it works."""

    seconds: float
    """Start, imports, first use."""
    memory: int
    """Bytes of host memory, with everything imported and a model's classes made."""
    on_gpu: int = 1_400 * MB
    """More bytes of host memory where CUDA is used: its libraries and context [G]."""
    gpu_seconds: float = 8.0
    """More seconds there: larger libraries to load, and the context [G]."""


NATIVE = Process(seconds=4.5, memory=415 * MB, on_gpu=1_250 * MB)  # [M] [G]
CALIBRATED = 25 * MB  # [M] more where text is tokenized and a model is run
BITSANDBYTES = Process(seconds=5.5, memory=460 * MB, on_gpu=520 * MB)  # [M] [G]
GPTQMODEL = Process(seconds=13.0, memory=605 * MB, on_gpu=1_700 * MB)  # [M] [G]
LLM_COMPRESSOR = Process(seconds=8.0, memory=530 * MB)  # [M]
LEGACY = Process(seconds=12.0, memory=600 * MB)  # [A] AutoGPTQ and AutoAWQ with transformers 4
LIBRARY = Process(seconds=10.0, memory=600 * MB)  # [A] for engines that say nothing of themselves
SCORER = Process(seconds=5.5, memory=430 * MB, on_gpu=1_250 * MB)  # [M] [G]
SCORER_BITSANDBYTES = 60 * MB  # [M] more where the candidate's weights are bitsandbytes'
SCORER_INT8 = 4  # [M] bytes for each weight that LLM.int8 holds beside it on a CPU

CPU_RATE = 35e9  # [M] float32 operations per second and core, in matrix products
CPU_SCORE_RATE = 60e9  # [M] the same in the scorer, whose products are larger
COLUMN = {"native": 5e-5, "gptqmodel": 3e-4, "llm-compressor": 5e-5}  # [M] seconds of GPTQ's loop per input of a linear, CPU
PER_WEIGHT = 6e-8  # [M] seconds and core to read, round, pack and write one weight, CPU
CLIP = 1.7e-7  # [M] seconds and core of the clip search per weight, CPU
COMPARED = 7e-8  # [M] seconds and core per weight of the original to read, run and round a layer beside the candidate's, CPU
LOGIT = 2.4e-8  # [M] seconds and core for one logit in float64, CPU
STEP = 4e-4  # [M] seconds per layer and decoding step beside reading the weights, CPU; on a GPU a quarter [A]
CPU_BANDWIDTH = 8e9  # [A] bytes per second at which weights are read while decoding

AWQ_POINTS = 21  # of `engines/native/awq.py`: ratios that are tried, and none
AWQ_LIBRARY_POINTS = 21  # 20 ratios, and the weights as they were: AutoAWQ 0.2.9, GPTQModel 7.6, llm-compressor 0.14
AWQ_PARENTS = 1.3  # of a layer's forward pass: for each point attention, its output, the MLP and its last linear are run
AWQ_CLIP = 11 * 512 * 4  # bytes moved per weight: 10 clips, and none, of products with 512 tokens, written and read in 16 bits
AWQ_CLIP_OUTPUTS = (256, 64)  # that are tried at once, where they divide the outputs, else the second
AWQ_FORWARD = 4e-4  # [G] seconds of one module run once for one sample, where llm-compressor tries a point
LEGACY_LAYER = 1.0  # [G] seconds that the archived libraries take for a layer beside what is counted here
PARALLEL_TOKENS = 16384  # of `engines/autoawq/worker.py`
AUTOAWQ_COPYING = 10e9  # [A] bytes per second between GPU and host, where AutoAWQ keeps the outputs of each point
AUTO_GPTQ_PASSES = 5  # over a Llama layer: one for each of its four inputs, one for what the next layer gets
SHARED_INPUTS = 4 / 7  # a Llama layer's seven linears have four different inputs: native keeps one Gram matrix for each of them
SHARD = 2 * GB  # of `checkpoints/writer.py`
CHUNK = 4096  # of `engines/native/streaming.py`: tokens in one forward pass
VALUES = 20  # [M] bytes of kept values per token of text
HEAD_CHUNK = (1024, 4096)  # of `scorer/head.py`: positions and vocabulary


@dataclass(frozen=True, kw_only=True)
class GpuRate:
    """Of matrix products, operations per second."""

    half: float
    """bfloat16 or float16 in, float32 sums."""
    single: float
    """IEEE float32."""


GPU_RATES = {
    "H200": GpuRate(half=600e12, single=52e12),  # [R] performance.md section e and native.md section 1: GEMM 790-818, float32 Gram 52
    "H100": GpuRate(half=600e12, single=45e12),  # [A]
    "A100": GpuRate(half=220e12, single=14e12),  # [A]
    "L40": GpuRate(half=130e12, single=50e12),  # [A]
    "A10": GpuRate(half=80e12, single=20e12),  # [A]
    "L4": GpuRate(half=70e12, single=18e12),  # [A]
    "V100": GpuRate(half=80e12, single=11e12),  # [A]
    "T4": GpuRate(half=35e12, single=5e12),  # [A]
}
OTHER_GPU = GpuRate(half=80e12, single=15e12)  # [A]
LAUNCH = 4e-6  # [R] seconds between two GPU kernels that Python starts (performance.md: 3 to 5)
LAUNCHES = {"native": 30, "gptqmodel": 15, "llm-compressor": 15}  # [G], [R] kernels per column of GPTQ's loop (performance.md section e)
GPU_BANDWIDTH = 2e12  # [A] bytes per second
GPU_SAVING = 1.2e9  # [R] bytes per second from the GPU to a synced file (native.md: 3.11 GiB in 2.6 and 2.8 s)
GPU_READING = 2e9  # [A] bytes per second from disk through the host to the GPU
LIBRARY_ON_GPU = 90 * MB  # [G] GPU memory that a library holds beside what is counted here
CUDA_CONTEXT = 600 * MB  # [A] GPU memory of a process beside its tensors; torch's own count, which records keep, is without it


def rate_of(gpu: str) -> GpuRate:
    return next((rate for name, rate in GPU_RATES.items() if name in gpu), OTHER_GPU)


# Quantizing ---------------------------------------------------------------------------------------------------------


def native(work: QuantizeWork) -> Estimate:
    """Layer by layer (`engines/native/streaming.py`).

    Time: one forward pass, 2 operations per weight and token; one Gram matrix per input of a layer, 2 n^2 per token; GPTQ's loop over
    inputs, the AWQ search (2 n per weight and point), the clip search, reading and packing.

    Host memory: the mapped files, and the shard that is being filled. On a CPU that twice while it is saved, a copy of the embedding
    while its values are looked at, and what the GPU holds otherwise: `_layer_bytes`, `_hidden_bytes`.
    """
    shape, scheme = work.shape, work.scheme
    assert isinstance(scheme, WeightScheme)
    calibrated = work.tokens > 0
    artifact = artifact_bytes(shape, scheme)
    forward = 2.0 * shape.linear_parameters * work.tokens
    gram = 2.0 * work.tokens * _squares(shape) * SHARED_INPUTS
    search = 2.0 * AWQ_POINTS * _cubes(shape) if scheme.scales else 0.0
    columns = _columns(shape) * SHARED_INPUTS if scheme.method == "gptq" else 0.0
    clipped = shape.linear_parameters if scheme.clip else 0
    if work.gpu is None:
        seconds = (forward + gram + search) / (CPU_RATE * work.cores) + columns * COLUMN["native"]
        seconds += (shape.linear_parameters * PER_WEIGHT + clipped * CLIP) / work.cores
    else:
        rate = rate_of(work.gpu)
        seconds = forward / rate.half + (gram + search) / rate.single + columns * LAUNCHES["native"] * LAUNCH
        seconds += NATIVE.gpu_seconds + shape.size / GPU_READING + artifact / GPU_SAVING
    bytes_per_value = 4 if work.gpu is None else 2
    working = _layer_bytes(shape, bytes_per_value) + (_hidden_bytes(shape, work.tokens, bytes_per_value) if calibrated else 0)
    memory = NATIVE.memory + CALIBRATED * calibrated + shape.size + min(artifact, SHARD)
    return Estimate(
        seconds=NATIVE.seconds + seconds,
        memory=memory + (working + min(artifact, SHARD) + 4 * shape.embedding if work.gpu is None else NATIVE.on_gpu),
        gpu_memory=None if work.gpu is None else working + bytes_per_value * shape.embedding,
        disk=artifact,
    )


def _layer_bytes(shape: Shape, bytes_per_value: int) -> int:
    """One layer at work: its float32 weights before and after, the copy that runs, four of its largest linear (as it was, what is carried
    to it, its errors, its codes), and five of its largest Gram matrix (in order and in reverse, its factor, each copied once).
    """
    running = shape.layer_parameters * (8 if bytes_per_value == 4 else 8 + bytes_per_value)
    return running + 16 * max(outputs * inputs for outputs, inputs in shape.layer) + 20 * shape.widest**2


def _hidden_bytes(shape: Shape, tokens: int, bytes_per_value: int) -> int:
    """All calibration tokens while they wait at the last linear: its input, and four times the hidden state (the layer's input, its
    output, the residual, the normalised one); and of one chunk three times the widest input.
    """
    return bytes_per_value * (tokens * (shape.widest + 4 * shape.hidden) + 3 * min(tokens, CHUNK) * shape.widest)


def bitsandbytes(work: QuantizeWork) -> Estimate:
    """transformers reads the model, quantizes each weight as it comes, and saves the whole.

    Host memory on a CPU: the mapped files and the quantized model, twice while it is saved. On a GPU the quantized model lies
    there, and the weight that is being quantized.
    """
    artifact = artifact_bytes(work.shape, work.scheme)
    seconds = work.shape.linear_parameters * PER_WEIGHT / work.cores
    if work.gpu is not None:
        seconds = BITSANDBYTES.gpu_seconds + work.shape.size / GPU_READING + artifact / GPU_SAVING
    largest = max(outputs * inputs for outputs, inputs in work.shape.layer)
    return Estimate(
        seconds=BITSANDBYTES.seconds + seconds,
        memory=BITSANDBYTES.memory + work.shape.size + (2 * artifact if work.gpu is None else BITSANDBYTES.on_gpu),
        gpu_memory=None if work.gpu is None else artifact + 2 * largest,
        disk=artifact,
    )


def gptqmodel(work: QuantizeWork) -> Estimate:
    """GPTQModel: see `_gptq_library` and `_awq_library`. On a GPU it keeps inputs and outputs of a layer there for all tokens."""
    if work.scheme.method == "awq":
        return _awq_library(work, GPTQMODEL)
    return _gptq_library(work, GPTQMODEL, COLUMN["gptqmodel"], LAUNCHES["gptqmodel"], tokens_on_gpu=True)


def llm_compressor(work: QuantizeWork) -> Estimate:
    """llm-compressor: see `_gptq_library` and `_awq_library`. For GPTQ it keeps the tokens in host memory."""
    if work.scheme.method == "awq":
        found = _awq_library(work, LLM_COMPRESSOR, states=12)  # [G] it keeps what goes into and comes out of every scaled module
        forwards = work.shape.layers * 4 * AWQ_LIBRARY_POINTS * work.samples if work.gpu else 0
        return found.model_copy(update={"seconds": found.seconds + forwards * AWQ_FORWARD})
    return _gptq_library(work, LLM_COMPRESSOR, COLUMN["llm-compressor"], LAUNCHES["llm-compressor"], tokens_on_gpu=False)


def auto_gptq(work: QuantizeWork) -> Estimate:
    """AutoGPTQ: see `_gptq_library`. One more pass for each input of a layer, and packing on one core of the host."""
    found = _gptq_library(work, LEGACY, COLUMN["gptqmodel"], LAUNCHES["gptqmodel"], tokens_on_gpu=True, passes=AUTO_GPTQ_PASSES)
    return found.model_copy(
        update={
            "seconds": found.seconds + work.shape.linear_parameters * PER_WEIGHT + work.shape.layers * LEGACY_LAYER,
            "gpu_memory": None if found.gpu_memory is None else found.gpu_memory - LIBRARY_ON_GPU,
        }
    )


def autoawq(work: QuantizeWork) -> Estimate:
    """AutoAWQ: see `_awq_library`. The host has the inputs of every linear of a layer, those of the widest twice more while their mean is
    taken, and the outputs of a point, which go there and back; the GPU has a layer, and a chunk of tokens or the clip search at work.
    """
    shape, found = work.shape, _awq_library(work, LEGACY)
    inputs, outputs = 2 * work.tokens * sum(columns for _, columns in shape.layer), 2 * 2 * work.tokens * shape.hidden
    memory = found.memory + inputs + 2 * 2 * work.tokens * shape.widest + outputs
    if work.gpu is None or found.gpu_memory is None:
        return found.model_copy(update={"memory": memory})
    copied = 2.0 * AWQ_LIBRARY_POINTS * 4 * shape.layers * 2 * work.tokens * shape.hidden
    chunk = 2 * min(work.tokens, PARALLEL_TOKENS) * (3 * shape.widest + 6 * shape.hidden)
    return found.model_copy(
        update={
            "seconds": found.seconds + copied / AUTOAWQ_COPYING + shape.layers * LEGACY_LAYER,
            "memory": memory,
            "gpu_memory": 4 * shape.layer_parameters + max(chunk, _clip_bytes(work)),
        }
    )


def library(work: QuantizeWork) -> Estimate:
    """An engine of another package that says nothing of itself, as if it were a typical library."""
    if work.scheme.method == "awq":
        return _awq_library(work, LIBRARY)
    return _gptq_library(work, LIBRARY, COLUMN["gptqmodel"], LAUNCHES["gptqmodel"], tokens_on_gpu=True)


def _gptq_library(work: QuantizeWork, process: Process, column: float, launches: int, *, tokens_on_gpu: bool, passes: int = 2) -> Estimate:
    """Libraries that bring a layer at a time to the device; see `_library_memory` for the host.

    Time: forward passes (one collects, one goes on with quantized weights), one float32 Hessian for every linear, GPTQ's loop over the
    inputs of every linear.

    Memory on the device: the float32 Hessians of a layer, a copy of the largest, its weights; and the hidden states of all tokens
    before and after a layer, in 16 bits, on a CPU in 32. On a GPU also the embedding, and what the libraries keep [G].
    """
    shape = work.shape
    artifact = artifact_bytes(shape, work.scheme)
    hidden = 2 * 2 * work.tokens * shape.hidden
    hessians = 4 * sum(inputs**2 for _, inputs in shape.layer) + 4 * shape.widest**2
    on_device = hessians + 2 * shape.layer_parameters
    forward, hessian = 2.0 * passes * shape.linear_parameters * work.tokens, 2.0 * work.tokens * _squares(shape)
    memory = _library_memory(work, process)
    if work.gpu is None:
        seconds = (forward + hessian) / (CPU_RATE * work.cores) + _columns(shape) * column
        return Estimate(seconds=process.seconds + seconds, memory=memory + 2 * hidden + on_device, gpu_memory=None, disk=artifact)
    rate = rate_of(work.gpu)
    seconds = forward / rate.half + hessian / rate.single + _columns(shape) * launches * LAUNCH
    seconds += shape.size / GPU_READING + artifact / GPU_SAVING
    return Estimate(
        seconds=process.seconds + process.gpu_seconds + seconds,
        memory=memory + process.on_gpu + (0 if tokens_on_gpu else hidden),
        gpu_memory=on_device + (hidden if tokens_on_gpu else 0) + 2 * shape.embedding + LIBRARY_ON_GPU,
        disk=artifact,
    )


def _awq_library(work: QuantizeWork, process: Process, *, states: int = 4) -> Estimate:
    """AWQ as AutoAWQ searches, and others after it: for each point the modules that a scale acts on are run again on all tokens.

    Memory on the device: the embedding, a layer's weights twice, the inputs of its widest linear and `states` times the hidden states of
    all tokens; or the clip search (`_clip_bytes`).
    """
    shape, scheme = work.shape, work.scheme
    assert isinstance(scheme, WeightScheme)
    artifact = artifact_bytes(shape, scheme)
    points = AWQ_LIBRARY_POINTS * AWQ_PARENTS
    search = 2.0 * (points + 2) * shape.linear_parameters * work.tokens
    tokens = 2 * work.tokens * (shape.widest + states * shape.hidden)
    on_device = 4 * shape.layer_parameters + max(tokens, _clip_bytes(work))
    memory = _library_memory(work, process)
    if work.gpu is None:
        seconds = search / (CPU_RATE * work.cores) + (shape.linear_parameters * CLIP / work.cores if scheme.clip else 0)
        return Estimate(seconds=process.seconds + seconds, memory=memory + 2 * on_device, gpu_memory=None, disk=artifact)
    seconds = search / rate_of(work.gpu).half + (shape.linear_parameters * AWQ_CLIP / GPU_BANDWIDTH if scheme.clip else 0)
    seconds += shape.size / GPU_READING + artifact / GPU_SAVING
    return Estimate(
        seconds=process.seconds + process.gpu_seconds + seconds,
        memory=memory + process.on_gpu,
        gpu_memory=on_device + 2 * shape.embedding,
        disk=artifact,
    )


def _clip_bytes(work: QuantizeWork) -> int:
    """The products of 512 tokens with as many outputs as are tried at once, in 16 bits, twice."""
    if not (isinstance(work.scheme, WeightScheme) and work.scheme.clip):
        return 0
    many, few = AWQ_CLIP_OUTPUTS
    return max(2 * 2 * 512 * (few if outputs % many else many) * inputs for outputs, inputs in work.shape.layer)


def _library_memory(work: QuantizeWork, process: Process) -> int:
    """Of a host on which the whole model lies: the mapped files, which are the model itself where they hold 16 bits and beside a bfloat16
    copy where they hold 32, and the quantized model.
    """
    shape = work.shape
    copied = 2 * shape.parameters if shape.size > 3 * shape.parameters else 0
    return process.memory + shape.size + copied + artifact_bytes(shape, work.scheme)


def _squares(shape: Shape) -> float:
    """Sum over all linears of inputs^2."""
    return float(shape.layers * sum(inputs**2 for _, inputs in shape.layer))


def _cubes(shape: Shape) -> float:
    """Sum over all linears of outputs * inputs^2."""
    return float(shape.layers * sum(outputs * inputs**2 for outputs, inputs in shape.layer))


def _columns(shape: Shape) -> float:
    """Inputs of all linears."""
    return float(shape.layers * sum(inputs for _, inputs in shape.layer))


# Scoring ------------------------------------------------------------------------------------------------------------


def score(work: ScoreWork) -> Estimate:
    """One model through text and tasks (`scorer/worker.py`).

    Time: a forward pass, 2 operations per weight and token; attention over long documents; logits of every scored position, where they
    are compared also the baseline's, summed up in float64; for every decoding step all weights once; and for a candidate the original's
    layers, read and rounded (`scorer/reconstruction.py`).

    Memory on the device: `_held_weights` and `_held_by_a_batch`. On a CPU the model's files are mapped while it is loaded, and the
    original's while a candidate's layers are compared with its; on a GPU they are what the host holds. Disk: the baseline leaves the
    final hidden state of every position, and its head.
    """
    shape, scheme = work.shape, work.scheme
    stored = shape.size if scheme is None else artifact_bytes(shape, scheme)
    width = 4 if work.gpu is None else 2
    weights, working = _held_weights(work, stored, width), _held_by_a_batch(work, width)
    process = SCORER.memory + (SCORER_BITSANDBYTES if isinstance(scheme, BitsandbytesScheme) else 0)
    kept = work.text_tokens + work.long_documents * work.long_scored
    ids = 8 * work.long_documents * work.long_tokens
    states = width * shape.hidden * (kept + shape.vocabulary) + ids if kept and not work.compared else 0
    original = shape.size * shape.linear_parameters // shape.parameters if work.checked else 0
    compared = original + 2 * width * shape.layer_parameters if work.checked else 0
    return Estimate(
        seconds=SCORER.seconds + _score_seconds(work, weights),
        memory=process + (weights + max(stored, working, compared) if work.gpu is None else SCORER.on_gpu + max(stored, original)),
        gpu_memory=None if work.gpu is None else weights + working,
        disk=states + VALUES * kept,
    )


def _held_weights(work: ScoreWork, stored: int, width: int) -> int:
    """All weights in the compute dtype; bitsandbytes' stay packed."""
    shape = work.shape
    if not isinstance(work.scheme, BitsandbytesScheme):
        return width * shape.parameters
    beside = SCORER_INT8 * shape.linear_parameters if work.gpu is None and work.scheme.bits == 8 else 0
    return stored + (width - 2) * (shape.parameters - shape.linear_parameters) + beside


def _held_by_a_batch(work: ScoreWork, width: int) -> int:
    """Activations of a batch; keys and values of all layers where answers are written; six chunks of logits in float64, and for a
    candidate's comparison more of the baseline's, and its head. Computing a weight from packed ones takes a linear twice in float32.

    On a CPU what is freed is not given back at once, and the parts add up [M]; on a GPU the larger part decides [G].
    """
    shape, tokens = work.shape, max(work.batch_tokens, work.long_tokens)
    activations = width * tokens * (3 * shape.widest + 6 * shape.hidden)
    cache = 2 * width * tokens * shape.layers * min(outputs for outputs, _ in shape.layer) if work.steps else 0
    positions, vocabulary = HEAD_CHUNK
    if work.long_scored and not (work.text_tokens or work.task_tokens):
        positions = min(positions, work.long_scored * max(work.batch_tokens // work.long_tokens, 1))
    logits = 6 * 8 * positions * min(vocabulary, shape.vocabulary)
    if not work.compared:
        return max(activations + cache, logits) if work.gpu else activations + cache + logits
    head = width * shape.embedding if work.text_tokens or work.long_tokens else 0
    unpacking = 8 * max(outputs * inputs for outputs, inputs in shape.layer) if work.scheme else 0
    if work.gpu:
        return max(activations + cache, logits * 3 // 2 + head, unpacking)
    return max(activations + cache + 2 * logits + head, unpacking)


def _score_seconds(work: ScoreWork, weights: int) -> float:
    shape = work.shape
    tokens = work.text_tokens + work.long_documents * work.long_tokens + work.task_tokens + work.written_tokens
    heads = 2 if work.compared else 1
    scored = work.text_tokens + work.long_documents * work.long_scored
    logits = shape.vocabulary * (heads * scored + work.task_tokens / 4 + work.written_tokens)
    attention = work.long_documents * work.long_tokens**2 * shape.layers * shape.hidden  # half of the keys come before a token
    operations = 2.0 * (shape.linear_parameters * tokens + attention + logits * shape.hidden)
    if work.gpu is None:
        decoding = work.steps * (shape.layers * STEP + weights / CPU_BANDWIDTH)
        compared = shape.linear_parameters * COMPARED / work.cores if work.checked else 0.0
        return operations / (CPU_SCORE_RATE * work.cores) + logits * LOGIT / work.cores + decoding + compared
    rate = rate_of(work.gpu)
    decoding = work.steps * (shape.layers * STEP / 4 + weights / GPU_BANDWIDTH)
    read = weights + (shape.size if work.checked else 0)
    return SCORER.gpu_seconds + operations / rate.half + 8 * 10 * logits / GPU_BANDWIDTH + decoding + read / GPU_READING
