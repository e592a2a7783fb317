"""What will not work, and what to do about it, told before anything is downloaded, loaded or paid for.

Pure: it looks at a `Machine`, at which torch each environment has, and at a plan with its estimates. Every function gives findings of one
kind, also good ones, so that a reader sees what was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from quant_action.costs import CUDA_CONTEXT
from quant_action.engines import engines
from quant_action.errors import EngineError
from quant_action.estimate import Forecast
from quant_action.findings import Finding, machine_error, ok, warning
from quant_action.formats.wording import format_bytes
from quant_action.hardware import Machine, device_of
from quant_action.model_files import ModelFiles
from quant_action.records import BitsandbytesScheme, Job
from quant_action.workers.environment import HOST
from quant_action.workers.torch_build import TorchBuild

LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA -> first driver that runs programs built for it: CUDA Compatibility guide, table "Minor Version Compatibility"."""

RECOMMENDED_CAPABILITY = (8, 0)
"""Ampere: the first with bfloat16 arithmetic, in which models run here, and what Marlin kernels (GPTQ, AWQ) are made for."""

LEAST_CAPABILITY = {13: (7, 5)}
"""CUDA -> the oldest GPUs that torch's builds for it have kernels for: pytorch/pytorch issue 190385."""

INT8_CAPABILITY = (7, 5)
"""What LLM.int8 needs: installation guide of bitsandbytes 0.50."""

CERTAIN = 0.75
"""Estimates of memory are held within a quarter: only what even three quarters of one do not fit into is an error."""

ENVIRONMENT_BYTES = {"cpu": 1_800_000_000, "cuda": 7_000_000_000}
"""An environment on disk: `lm-eval` with a CPU build of torch, measured; with CUDA's libraries, assumed."""


# The GPU and what drives it -----------------------------------------------------------------------------------------


def gpu_findings(machine: Machine, device: str) -> list[Finding]:
    """Which GPU is used, and whether it is new enough."""
    if device_of(device) == "cpu":
        idle = f"; its GPU ({machine.gpu.name}) is left alone" if machine.gpu else ""
        found = [ok("device", f"{device}, {machine.cores} cores{idle}")]
        if machine.driver_fault:
            message = f"there is an NVIDIA driver, and it does not work ({machine.driver_fault}): the work runs on the CPU"
            found.append(
                warning("GPU", message, remedy="See what nvidia-smi says; after an update of the driver the machine must restart.")
            )
        return found
    gpu = machine.gpu
    if gpu is None:
        return []  # asked for and not there: `device_class` has said so
    driver = f"driver {machine.driver}" + (f" (CUDA {_version(machine.driver_cuda)})" if machine.driver_cuda else "")
    found = [ok("GPU", f"{gpu.name}, compute capability {_version(gpu.capability)}, {driver}{_memory_note(machine)}")]
    if gpu.capability < RECOMMENDED_CAPABILITY:
        found.append(
            warning(
                "GPU",
                f"{gpu.name} has compute capability {_version(gpu.capability)}, below {_version(RECOMMENDED_CAPABILITY)}: bfloat16, in "
                "which models are run here, is emulated and several times slower, and Marlin kernels (fast GPTQ and AWQ) do not run",
                remedy="Use an Ampere GPU or newer (A10, A100, L4, H100, ...), or expect it to take several times as long as estimated.",
            )
        )
    return [*found, *_choice_of_gpu(machine)]


def _memory_note(machine: Machine) -> str:
    gpu = machine.gpu
    return f", {format_bytes(gpu.free)} of {format_bytes(gpu.memory)} free" if gpu and gpu.memory else ""


def _choice_of_gpu(machine: Machine) -> list[Finding]:
    set_to = f"CUDA_VISIBLE_DEVICES={machine.visible_devices}" if machine.visible_devices is not None else "CUDA_VISIBLE_DEVICES is not set"
    found = []
    if machine.visible_devices and "MIG-" in machine.visible_devices:
        found.append(
            warning(
                "GPU",
                f"{set_to} is a slice of a GPU: the memory said here is the whole GPU's",
                remedy="Compare the estimates of `quant-action plan` with the slice.",
            )
        )
    if len(machine.gpus) > 1 and machine.gpu:
        count = len(machine.usable_gpus)
        message = f"one of {len(machine.gpus)} is used: number {machine.gpu.index} ({set_to}{f', {count} visible' if count > 1 else ''})"
        if len({gpu.name for gpu in machine.usable_gpus}) > 1 and machine.device_order != "PCI_BUS_ID":
            message += "; they are of several kinds, and CUDA counts the fastest first, so it may be another one"
            remedy = "Set CUDA_DEVICE_ORDER=PCI_BUS_ID, or CUDA_VISIBLE_DEVICES to the UUID of one (nvidia-smi -L)."
            found.append(warning("GPU", message, remedy=remedy))
        else:
            found.append(ok("GPU", message))
    return found


def torch_findings(machine: Machine, device: str, builds: Mapping[str, TorchBuild | None]) -> list[Finding]:
    """Whether the torch of each environment can use the device: its build, the driver, the GPU's age."""
    return [_torch_finding(machine, device, name, build) for name, build in builds.items() if build]


def _torch_finding(machine: Machine, device: str, environment: str, build: TorchBuild) -> Finding:
    subject = "torch" if environment == HOST else f"torch of {environment}"
    if device_of(device) == "cpu":
        return ok(subject, f"torch {build.version}, on the CPU")
    if build.cuda is None:
        again = f"Where pip finds CUDA builds: quant-action environments --remove {environment}, then --install {environment}."
        ours = "Install a CUDA build of the same version (pip, without find-links to CPU builds), or use --device cpu."
        message = f"torch {build.version} is built without CUDA and cannot use the GPU ({device})"
        return machine_error(subject, message, remedy=ours if environment == HOST else again)
    built = f"torch {build.version} {'is' if build.installed else 'will be'} built for CUDA {_version(build.cuda)}"
    least = LEAST_DRIVER.get(build.cuda[0])
    if least and machine.driver and _major(machine.driver) < least:
        message = f"{built} and needs driver {least} or newer; this machine has {machine.driver}"
        remedy = f"Update the NVIDIA driver to {least} or newer, or install a torch that is built for an older CUDA."
        return machine_error(subject, message, remedy=remedy) if build.installed else warning(subject, message, remedy=remedy)
    oldest = LEAST_CAPABILITY.get(build.cuda[0])
    if oldest and machine.gpu and machine.gpu.capability < oldest:
        message = f"{built} and has no kernels for {machine.gpu.name}: its compute capability is {_version(machine.gpu.capability)}"
        remedy = f"Use a GPU of capability {_version(oldest)} or newer, or a torch that is built for CUDA 12.6."
        return machine_error(subject, message, remedy=remedy) if build.installed else warning(subject, message, remedy=remedy)
    return ok(subject, built)


def _major(driver: str) -> int:
    head = driver.split(".")[0]
    return int(head) if head.isdecimal() else 0


def _version(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


# Engines ------------------------------------------------------------------------------------------------------------


def engine_findings(machine: Machine, device: str, jobs: Sequence[Job]) -> list[Finding]:
    """What engines need beside their environment, on a GPU."""
    if device_of(device) == "cpu":
        return []
    found = []
    for name in dict.fromkeys(job.engine for job in jobs):
        missing = [tool for tool in engines()[name].builds_with if tool not in machine.tools]
        if missing:
            found.append(
                warning(
                    f"engine {name}",
                    f"builds GPU kernels at first use and needs {' and '.join(missing)} for it, not found here: "
                    "it falls back to slower ones, or fails",
                    remedy="Install the CUDA toolkit (nvcc), ninja and a C compiler, on PATH; or use engine native, which builds nothing.",
                )
            )
        elif engines()[name].builds_with:
            found.append(ok(f"engine {name}", "builds GPU kernels at its first use, which takes minutes once; all that it needs is here"))
    gpu = machine.gpu
    for job in jobs:
        if isinstance(job.scheme, BitsandbytesScheme) and job.scheme.type == "int8" and gpu and gpu.capability < INT8_CAPABILITY:
            message = f"LLM.int8 needs compute capability {_version(INT8_CAPABILITY)}; {gpu.name} has {_version(gpu.capability)}"
            found.append(machine_error(f"candidate {job.id}", message, remedy="Use a newer GPU, or type: nf4."))
    return found


def broken_engine_findings(broken: Iterable[EngineError]) -> list[Finding]:
    """Packages whose engine cannot be had. That stops only who asks for it, which is the candidate's finding."""
    return [warning("engines", str(error.args[0]), where=error.where, remedy=error.remedy or "Uninstall it.") for error in broken]


def environment_findings(needed: Iterable[str], missing: Iterable[str]) -> list[Finding]:
    """Environments that candidates, or their runtime checks, need beside the host's."""
    absent = set(missing)
    return [
        warning(
            f"environment {name}",
            "not installed: the first run installs it, which takes minutes and network",
            remedy=f"quant-action environments --install {name}",
        )
        if name in absent
        else ok(f"environment {name}", "installed")
        for name in sorted(needed)
    ]


# Memory and disk ----------------------------------------------------------------------------------------------------


def memory_findings(machine: Machine, device: str, forecast: Forecast, *, mapped: int) -> list[Finding]:
    """Estimates of all that is to be done against what is there; `mapped` are bytes of files in them that need not stay in memory."""
    tasks = [
        (f"{verb} {job.id}", expected.estimate)
        for job in forecast.jobs
        for verb, expected, done in (("quantizing", job.quantize, job.quantized), ("scoring", job.score, job.scored))
        if expected and not done
    ]
    if not tasks:
        return [ok("memory", "nothing is left to be computed")]
    limited = machine.memory_limit is not None and machine.memory_limit < machine.memory
    host = [(name, estimate.memory) for name, estimate in tasks]
    found = _fits(
        "memory",
        host,
        whole=machine.whole_memory,
        free=machine.room,
        spare=mapped,
        owner="this container's limit is" if limited else "this machine has",
        remedy="Raise the container's limit, or use a larger machine."
        if limited
        else "Use a machine with more memory, fewer or shorter calibration samples, or stop what else runs.",
    )
    gpu = machine.gpu
    if device_of(device) == "cuda" and gpu and gpu.memory:
        on_gpu = [(name, estimate.gpu_memory + CUDA_CONTEXT) for name, estimate in tasks if estimate.gpu_memory is not None]
        found += _fits(
            "GPU memory",
            on_gpu,
            whole=gpu.memory,
            free=gpu.free,
            spare=0,
            owner=f"{gpu.name} has",
            remedy="Use a larger GPU, fewer or shorter calibration samples, or stop what else runs on it (nvidia-smi).",
        )
    return found


def _fits(subject: str, tasks: Sequence[tuple[str, int]], *, whole: int, free: int, spare: int, owner: str, remedy: str) -> list[Finding]:
    """One finding for all that cannot fit, one for all that does not fit now, each naming what and how much; else a good one."""
    never = [(name, need) for name, need in tasks if CERTAIN * need - spare > whole]
    not_now = [(name, need) for name, need in tasks if need > free and (name, need) not in never]
    found = []
    if never:
        found.append(machine_error(subject, f"{_needed(never)}; {owner} {format_bytes(whole)}", remedy=remedy))
    if not_now:
        message = f"{_needed(not_now)}; {owner} {format_bytes(whole)}, of which {format_bytes(free)} are free now"
        found.append(warning(subject, message, remedy=remedy))
    if not found and tasks:
        name, need = max(tasks, key=lambda task: task[1])
        found.append(ok(subject, f"{format_bytes(free)} free; the most is about {format_bytes(need)}, for {name}"))
    return found


def _needed(tasks: Sequence[tuple[str, int]]) -> str:
    """`scoring a needs about 2.0 GB, quantizing a 3.1 GB`, the largest first."""
    (name, need), *others = sorted(tasks, key=lambda task: -task[1])
    return ", ".join([f"{name} needs about {format_bytes(need)}", *(f"{name} {format_bytes(need)}" for name, need in others)])


def disk_findings(forecast: Forecast, free: int, *, cache: str) -> list[Finding]:
    """What is to be written to the cache against what is free there."""
    need = forecast.total.disk
    message = f"{format_bytes(free)} free; this plan still writes about {format_bytes(need)}"
    remedy = "Free space, or point --cache at a larger disk."
    if need > free:
        return [machine_error("disk", message, where=cache, remedy=remedy)]
    if need > 0.8 * free:
        return [warning("disk", message, where=cache, remedy=remedy)]
    return [ok("disk", message)]


def environment_disk_findings(missing: Iterable[str], device: str, free: int, *, folder: str) -> list[Finding]:
    """Room for the environments that are yet to be installed."""
    names = sorted(set(missing))
    need = len(names) * ENVIRONMENT_BYTES[device_of(device)]
    if not names or need <= free:
        return []
    message = f"{format_bytes(free)} free; {', '.join(names)} will take about {format_bytes(need)}"
    return [machine_error("disk", message, where=folder, remedy="Free space, or point QUANT_ACTION_ENVIRONMENTS at a larger disk.")]


def weight_findings(model: ModelFiles, free: int, *, source: str, revision: str | None, cache: str) -> list[Finding]:
    """Weights that are still on the Hub, and room for them where it keeps what was fetched."""
    need = sum(weights.entry.size for weights in model.remote.values())
    if not need:
        return []
    message = f"{format_bytes(need)} still on the Hub; the first run fetches them"
    if need > free:
        remedy = "Free space, or set HF_HOME to a folder on a larger disk."
        return [machine_error("weights", f"{message}, and {format_bytes(free)} are free", where=cache, remedy=remedy)]
    return [warning("weights", message, remedy=f"To have them before: hf download {source} --revision {revision}")]


# The Hub ------------------------------------------------------------------------------------------------------------


def token_finding(used: str) -> Finding:
    """Which token the Hub was asked with, never what it is: `used` as `remotes.hub.token_source` says it."""
    gated = ", which is enough for a public model; a gated one needs HF_TOKEN" if used.startswith("without") else ""
    return ok("token", f"the Hub is asked {used}{gated}")
