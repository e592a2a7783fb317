"""What this machine has to work with, asked without torch and without touching a GPU: names, free memory, driver, limits of a container.

`read_machine` asks; everything else here and in `check.py` is pure on the `Machine` that it returns.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from quant_action.errors import RunError

Device = Literal["cpu", "cuda"]
Wanted = Literal["auto", "cpu", "cuda"]

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""cgroup v1 says "no limit" with a number near 2**63."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    index: int
    """NVML's: by the order of the PCI bus."""
    uuid: str
    name: str
    capability: tuple[int, int]
    memory: int
    """Bytes; 0 where the driver does not say (GPUs that share the host's memory)."""
    free: int
    """Bytes that no process holds now."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    architecture: str
    """Of the processor, such as `x86_64`."""
    cores: int
    """That this process may run on."""
    memory: int
    """Bytes, of the machine."""
    free_memory: int
    """Bytes that a new process can have without swapping: free, and caches that can be dropped."""
    memory_limit: int | None = None
    """Bytes that the container (cgroup) may hold, None without a limit."""
    limit_used: int = 0
    """Bytes of the limit that are taken and cannot be dropped."""
    gpus: tuple[Gpu, ...] = ()
    """All that the driver shows, before `CUDA_VISIBLE_DEVICES`."""
    driver: str | None = None
    """Version of the NVIDIA driver, None without one."""
    driver_cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver runs."""
    driver_fault: str | None = None
    """What NVML answers where there is a driver that does not work."""
    visible_devices: str | None = None
    """`CUDA_VISIBLE_DEVICES`, None where it is not set."""
    device_order: str | None = None
    """`CUDA_DEVICE_ORDER`; CUDA's own default is `FASTEST_FIRST`, NVML always counts along the PCI bus."""
    tools: frozenset[str] = frozenset()
    """Of `TOOLS`, those that are there."""

    @property
    def whole_memory(self) -> int:
        """Bytes that a process could have at most: the machine's, or the container's limit."""
        return self.memory if self.memory_limit is None else min(self.memory, self.memory_limit)

    @property
    def room(self) -> int:
        """Bytes of host memory that a process can have now."""
        return self.free_memory if self.memory_limit is None else min(self.free_memory, max(self.memory_limit - self.limit_used, 0))

    @property
    def usable_gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that CUDA programs see, in the order in which they see them (as far as the variable says it).

        As CUDA reads `CUDA_VISIBLE_DEVICES`: indices or the beginnings of UUIDs; the first entry that names no GPU ends the list.
        """
        if self.visible_devices is None:
            return self.gpus
        seen: list[Gpu] = []
        for entry in self.visible_devices.split(","):
            found = next((gpu for gpu in self.gpus if _names(entry.strip(), gpu)), None)
            if found is None or found in seen:
                break
            seen.append(found)
        return tuple(seen)

    @property
    def gpu(self) -> Gpu | None:
        """The one that the work runs on."""
        return next(iter(self.usable_gpus), None)


def _names(entry: str, gpu: Gpu) -> bool:
    """A slice of a GPU (`MIG-...`) counts as the first one: NVML's handle of a GPU does not say which slices are its own."""
    return entry == str(gpu.index) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry)) or entry.startswith("MIG-")


def device_class(wanted: Wanted, machine: Machine) -> str:
    """What results belong to: the GPU's name, or `cpu` with the processor's architecture.

    Raises `RunError` when a GPU is wanted and there is none.
    """
    gpu = None if wanted == "cpu" else machine.gpu
    if gpu is not None:
        return gpu.name
    if wanted != "cuda":
        return f"cpu {machine.architecture}"
    if machine.gpus:
        raise RunError(
            f"CUDA_VISIBLE_DEVICES={machine.visible_devices!r} hides every GPU of this machine",
            remedy=f"Unset it, or set it to one of 0 to {len(machine.gpus) - 1}; or leave out --device.",
        )
    said = f" (the driver says: {machine.driver_fault})" if machine.driver_fault else " (or no driver)"
    raise RunError(f"no NVIDIA GPU{said} on this machine", remedy="Leave out --device to work on the CPU, or use a GPU runner.")


def device_of(device_class: str) -> Device:
    return "cpu" if device_class.startswith("cpu ") else "cuda"


# Asking -------------------------------------------------------------------------------------------------------------

TOOLS = ("nvcc", "ninja", "cc")
"""Programs that libraries call to build kernels at first use: NVIDIA's compiler, a build tool, a C compiler."""


def read_machine() -> Machine:
    meminfo = Path("/proc/meminfo")
    sizes = memory_of(meminfo.read_text(encoding="ascii")) if meminfo.is_file() else {}
    limit, used = container_limit(CGROUPS, Path("/proc/self/cgroup"))
    memory = sizes.get("MemTotal", 0)
    machine = Machine(
        architecture=platform.machine(),
        cores=cores(),
        memory=memory,
        free_memory=sizes.get("MemAvailable", memory),
        memory_limit=limit,
        limit_used=used,
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        device_order=os.environ.get("CUDA_DEVICE_ORDER"),
        tools=frozenset(name for name in TOOLS if _has(name)),
    )
    return _with_gpus(machine)


def cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the kernel has it, or its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.machine()


def free_disk(path: Path) -> int:
    """Bytes free where `path` is, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def memory_of(meminfo: str) -> dict[str, int]:
    """Name -> bytes, of the text of /proc/meminfo."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}


def container_limit(root: Path, membership: Path) -> tuple[int | None, int]:
    """Least memory limit of the cgroups that this process is in, v1 or v2, and the bytes of it in use; (None, 0) without one.

    `root` is where cgroups are mounted, `membership` is /proc/self/cgroup. Inside a container the path that it names may not be there:
    its own limit then stands at the root.
    """
    found: list[tuple[int, int]] = []
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _limits(root, path, limit="memory.max", used="memory.current")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, limit="memory.limit_in_bytes", used="memory.usage_in_bytes")
    return min(found, default=(None, 0), key=lambda pair: pair[0] - pair[1])


def _limits(root: Path, path: str, *, limit: str, used: str) -> list[tuple[int, int]]:
    """(limit, in use) of a cgroup and of all above it."""
    folder = root / path.lstrip("/")
    found = []
    for place in (folder, *folder.parents):
        if not place.is_relative_to(root):
            break
        most = _number(place / limit)
        if most is not None and most < UNLIMITED:
            found.append((most, max((_number(place / used) or 0) - _droppable(place / "memory.stat"), 0)))
    return found


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _droppable(stat: Path) -> int:
    """Bytes of file cache that count as used and go when they are needed."""
    try:
        sizes = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
        return int(sizes.get("total_inactive_file", sizes.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def _has(tool: str) -> bool:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if tool == "nvcc" and any(home and (Path(home) / "bin/nvcc").is_file() for home in homes):
        return True
    names = [os.environ["CC"]] if tool == "cc" and os.environ.get("CC") else ["cc", "gcc", "clang"] if tool == "cc" else [tool]
    return any(shutil.which(name) for name in names)


def _with_gpus(machine: Machine) -> Machine:
    """With what NVML says; as it is where there is no NVIDIA driver."""
    import pynvml

    absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    try:
        pynvml.nvmlInit()
        try:
            newest = pynvml.nvmlSystemGetCudaDriverVersion_v2()
            return replace(
                machine,
                gpus=tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())),
                driver=_text(pynvml.nvmlSystemGetDriverVersion()),
                driver_cuda=(newest // 1000, newest % 1000 // 10),
            )
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return machine if error.value in absent else replace(machine, driver_fault=str(error))


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        memory = None
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        capability=(major, minor),
        memory=memory.total if memory else 0,
        free=memory.free if memory else 0,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
