"""Findings on machines that are not here: what stands there, how grave it is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quant_action.check import (
    broken_engine_findings,
    disk_findings,
    engine_findings,
    environment_disk_findings,
    environment_findings,
    gpu_findings,
    memory_findings,
    token_finding,
    torch_findings,
    weight_findings,
)
from quant_action.errors import DataError, EngineError
from quant_action.estimate import Expected, Forecast, JobForecast
from quant_action.findings import Finding, Findings, machine_error, of_error, ok, warning
from quant_action.hardware import Machine
from quant_action.manifest import FileEntry
from quant_action.model_files import ModelFiles, RemoteWeights
from quant_action.records import BitsandbytesScheme, Estimate, Job
from quant_action.workers.torch_build import TorchBuild
from tests.golden.records import PLAN

from .machines import A100, GIB, T4, V100, gpu, machine

CPU = "cpu x86_64"
CUDA_13 = TorchBuild(version="2.13.0+cu130", cuda=(13, 0), installed=True)
CUDA_12 = TorchBuild(version="2.13.0+cu126", cuda=(12, 6), installed=True)
NO_CUDA = TorchBuild(version="2.13.0+cpu", cuda=None, installed=True)
TO_COME = TorchBuild(version="2.13.0", cuda=(13, 0), installed=False)
GPTQ = PLAN.jobs[0]


def levels(findings: Sequence[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def the_one(findings: Sequence[Finding], level: str) -> Finding:
    (found,) = [finding for finding in findings if finding.level == level]
    return found


# GPU and torch


def test_an_a100_is_fine() -> None:
    (found,) = gpu_findings(machine(A100), A100.name)
    assert found == ok("GPU", "NVIDIA A100-SXM4-80GB, compute capability 8.0, driver 580.65.06 (CUDA 13.0), 85.9 GB of 85.9 GB free")
    (torch,) = torch_findings(machine(A100), A100.name, {"host": CUDA_13})
    assert torch == ok("torch", "torch 2.13.0+cu130 is built for CUDA 13.0")


@pytest.mark.parametrize("older", [V100, T4])
def test_a_gpu_before_ampere_is_slow_and_lacks_kernels(older: Any) -> None:
    found = the_one(gpu_findings(machine(older), older.name), "warning")
    assert "below 8.0: bfloat16" in found.message
    assert "Marlin" in found.message
    assert found.remedy is not None


def test_a_v100_needs_a_torch_for_cuda_12() -> None:
    found = the_one(torch_findings(machine(V100), V100.name, {"host": CUDA_13}), "error")
    assert "no kernels for Tesla V100-SXM2-16GB: its compute capability is 7.0" in found.message
    assert found.exit_code == 4
    assert levels(torch_findings(machine(V100), V100.name, {"host": CUDA_12})) == ["ok"]
    assert levels(torch_findings(machine(T4), T4.name, {"host": CUDA_13})) == ["ok"]


def test_without_a_gpu_the_cpu_is_said() -> None:
    assert gpu_findings(machine(), CPU) == [ok("device", "cpu x86_64, 8 cores")]
    assert torch_findings(machine(), CPU, {"host": NO_CUDA}) == [ok("torch", "torch 2.13.0+cpu, on the CPU")]
    assert "its GPU (NVIDIA A100-SXM4-80GB) is left alone" in gpu_findings(machine(A100), CPU)[0].message


def test_a_driver_that_does_not_work_is_told() -> None:
    found = the_one(gpu_findings(machine(driver_fault="Driver/library version mismatch"), CPU), "warning")
    assert "(Driver/library version mismatch): the work runs on the CPU" in found.message
    assert "nvidia-smi" in str(found.remedy)


def test_a_torch_without_cuda_cannot_use_the_gpu() -> None:
    found = the_one(torch_findings(machine(A100), A100.name, {"host": NO_CUDA}), "error")
    assert found.message == "torch 2.13.0+cpu is built without CUDA and cannot use the GPU (NVIDIA A100-SXM4-80GB)"
    assert "--device cpu" in str(found.remedy)
    modern = the_one(torch_findings(machine(A100), A100.name, {"modern": NO_CUDA}), "error")
    assert modern.subject == "torch of modern"
    assert "environments --remove modern" in str(modern.remedy)


@pytest.mark.parametrize(
    ("driver", "build", "level"),
    [
        ("580.65.06", CUDA_13, "ok"),
        ("575.57.08", CUDA_13, "error"),
        ("575.57.08", CUDA_12, "ok"),
        ("525.60.13", CUDA_12, "ok"),
        ("470.82", CUDA_12, "error"),
        ("470.82", TO_COME, "warning"),
        ("odd", CUDA_12, "error"),
    ],
)
def test_a_driver_must_be_new_enough_for_the_cuda_of_each_torch(driver: str, build: TorchBuild, level: str) -> None:
    (found,) = torch_findings(machine(A100, driver=driver), A100.name, {"host": build})
    assert found.level == level
    if level != "ok":
        assert f"this machine has {driver}" in found.message
        assert "Update the NVIDIA driver" in str(found.remedy)


def test_an_environment_without_torch_has_nothing_to_be_said_of() -> None:
    assert torch_findings(machine(A100), A100.name, {"bare": None}) == []


def test_of_several_gpus_the_one_that_is_used_is_named() -> None:
    pair = (gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80, index=0), gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80, index=1))
    said = gpu_findings(machine(*pair, visible_devices="1"), A100.name)[-1]
    assert said == ok("GPU", "one of 2 is used: number 1 (CUDA_VISIBLE_DEVICES=1)")
    unset = gpu_findings(machine(*pair), A100.name)[-1]
    assert unset == ok("GPU", "one of 2 is used: number 0 (CUDA_VISIBLE_DEVICES is not set, 2 visible)")


def test_of_several_kinds_of_gpu_cuda_may_take_another() -> None:
    mixed = (gpu("Tesla T4", (7, 5), 15, index=0), gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80, index=1))
    found = gpu_findings(machine(*mixed), T4.name)[-1]
    assert (found.level, "fastest first" in found.message) == ("warning", True)
    assert gpu_findings(machine(*mixed, device_order="PCI_BUS_ID"), T4.name)[-1].level == "ok"
    assert gpu_findings(machine(*mixed, visible_devices="1"), A100.name)[-1].level == "ok"


def test_a_slice_of_a_gpu_is_not_taken_for_the_whole() -> None:
    found = the_one(gpu_findings(machine(A100, visible_devices="MIG-3f2a"), A100.name), "warning")
    assert "slice" in found.message


# Engines and environments


def job(**changes: Any) -> Job:
    return GPTQ.model_copy(update=changes)


def test_an_engine_that_builds_kernels_needs_its_compilers() -> None:
    jobs = [job(engine="gptqmodel", environment="modern"), job(engine="native")]
    bare = machine(A100, tools=frozenset({"cc"}))
    found = the_one(engine_findings(bare, A100.name, jobs), "warning")
    assert (found.subject, "nvcc and ninja" in found.message) == ("engine gptqmodel", True)
    assert levels(engine_findings(machine(A100), A100.name, jobs)) == ["ok"]
    assert engine_findings(bare, CPU, jobs) == []
    assert engine_findings(bare, A100.name, jobs[1:]) == []


def test_llm_int8_needs_a_turing_gpu() -> None:
    jobs = [job(id="b", scheme=BitsandbytesScheme(method="bitsandbytes", type="int8"), engine="bitsandbytes")]
    found = the_one(engine_findings(machine(V100), V100.name, jobs), "error")
    assert (found.subject, found.exit_code) == ("candidate b", 4)
    assert engine_findings(machine(T4), T4.name, jobs) == []


def test_a_broken_package_is_told_and_stops_nobody() -> None:
    broken = EngineError("engine a of b 2.0 cannot be loaded", where="b:ENGINE", remedy="Mend b.")
    assert broken_engine_findings([broken]) == [
        warning("engines", "engine a of b 2.0 cannot be loaded", where="b:ENGINE", remedy="Mend b.")
    ]


def test_environments_are_installed_or_to_be_installed() -> None:
    legacy, modern = environment_findings(["modern", "legacy"], ["legacy"])
    assert (legacy.level, legacy.remedy) == ("warning", "quant-action environments --install legacy")
    assert modern == ok("environment modern", "installed")


# Memory and disk


def forecast(*, memory: int = GIB, gpu_memory: int | None = None, disk: int = 1000, done: bool = False) -> Forecast:
    small = Expected(estimate=Estimate(seconds=1, memory=GIB // 2, gpu_memory=gpu_memory and GIB, disk=0), runs=0)
    large = Expected(estimate=Estimate(seconds=1, memory=memory, gpu_memory=gpu_memory, disk=disk), runs=0)
    return Forecast(
        jobs=(
            JobForecast(id="baseline", quantize=None, score=small, quantized=False, scored=done),
            JobForecast(id="a", quantize=large, score=small, quantized=done, scored=done),
        )
    )


def memory_of(here: Machine, expected: Forecast, *, device: str = CPU, mapped: int = 0) -> list[Finding]:
    return memory_findings(here, device, expected, mapped=mapped)


def test_memory_that_is_there() -> None:
    assert memory_of(machine(), forecast()) == [ok("memory", "64.4 GB free; the most is about 1.1 GB, for quantizing a")]
    assert memory_of(machine(), forecast(memory=999 * GIB, done=True)) == [ok("memory", "nothing is left to be computed")]


def test_memory_that_others_hold_is_a_warning_and_memory_that_is_not_there_an_error() -> None:
    taken = the_one(memory_of(machine(free_memory=2 * GIB), forecast(memory=3 * GIB)), "warning")
    assert taken.message == "quantizing a needs about 3.2 GB; this machine has 68.7 GB, of which 2.1 GB are free now"
    lacking = the_one(memory_of(machine(), forecast(memory=100 * GIB)), "error")
    assert lacking.message == "quantizing a needs about 107 GB; this machine has 68.7 GB"
    assert lacking.exit_code == 4


def test_all_that_does_not_fit_is_named_the_largest_first() -> None:
    found = the_one(memory_of(machine(memory_limit=GIB // 4), forecast(memory=4 * GIB)), "error")
    assert found.message == ("quantizing a needs about 4.3 GB, scoring baseline 537 MB, scoring a 537 MB; this container's limit is 268 MB")


def test_an_estimate_is_no_certainty_and_mapped_files_can_be_dropped() -> None:
    assert levels(memory_of(machine(), forecast(memory=80 * GIB))) == ["warning"]
    assert levels(memory_of(machine(), forecast(memory=100 * GIB), mapped=13 * GIB)) == ["warning"]


def test_the_limit_of_a_container_counts() -> None:
    small = machine(memory_limit=2 * GIB, limit_used=GIB)
    found = the_one(memory_of(small, forecast(memory=3 * GIB)), "error")
    assert found.message == "quantizing a needs about 3.2 GB; this container's limit is 2.1 GB"
    assert "container" in str(found.remedy)
    assert levels(memory_of(small, forecast(memory=3 * GIB // 2))) == ["warning"]
    assert levels(memory_of(small, forecast(memory=GIB // 2))) == ["ok"]


def test_a_gpu_that_others_use_and_one_that_is_too_small() -> None:
    full = gpu("Tesla T4", (7, 5), 15, free=2)
    warned = the_one(memory_of(machine(full), forecast(gpu_memory=4 * GIB), device=full.name), "warning")
    assert warned.subject == "GPU memory"
    assert "quantizing a needs about 4.9 GB; Tesla T4 has 16.1 GB, of which 2.1 GB are free now" in warned.message
    small = the_one(memory_of(machine(T4), forecast(gpu_memory=40 * GIB), device=T4.name), "error")
    assert "Tesla T4 has 16.1 GB" in small.message
    assert levels(memory_of(machine(A100), forecast(gpu_memory=40 * GIB), device=A100.name)) == ["ok", "ok"]
    assert levels(memory_of(machine(gpu("NVIDIA GB10", (12, 1), 0)), forecast(gpu_memory=40 * GIB), device="NVIDIA GB10")) == ["ok"]


def test_disk_for_results_and_for_environments() -> None:
    assert disk_findings(forecast(disk=10**9), 10**10, cache="c") == [ok("disk", "10.0 GB free; this plan still writes about 1.0 GB")]
    assert levels(disk_findings(forecast(disk=9 * 10**9), 10**10, cache="c")) == ["warning"]
    short = the_one(disk_findings(forecast(disk=2 * 10**10), 10**10, cache="c"), "error")
    assert (short.where, "--cache" in str(short.remedy)) == ("c", True)
    assert environment_disk_findings([], CPU, 0, folder="e") == []
    assert environment_disk_findings(["modern"], CPU, 2 * 10**9, folder="e") == []
    lacking = the_one(environment_disk_findings(["modern"], A100.name, 2 * 10**9, folder="e"), "error")
    assert "modern will take about 7.0 GB" in lacking.message


# Token


def test_of_a_token_only_its_presence_is_said() -> None:
    assert token_finding("with the token in HF_TOKEN") == ok("token", "the Hub is asked with the token in HF_TOKEN")
    assert token_finding("without a token").message.endswith("enough for a public model; a gated one needs HF_TOKEN")


def test_weights_that_are_still_on_the_hub(tmp_path: Path) -> None:
    here = ModelFiles(tmp_path, {}, {})
    there = replace(here, remote={"model.safetensors": RemoteWeights(entry=FileEntry(path="m", size=10**9, sha256="0" * 64), tensors={})})
    where = {"source": "acme/tiny", "revision": "f" * 40, "cache": "hub"}
    assert weight_findings(here, 0, **where) == []
    found = the_one(weight_findings(there, 2 * 10**9, **where), "warning")
    assert found.message == "1.0 GB still on the Hub; the first run fetches them"
    assert found.remedy == f"To have them before: hf download acme/tiny --revision {'f' * 40}"
    full = the_one(weight_findings(there, 10**6, **where), "error")
    assert full.message.endswith("the first run fetches them, and 1.0 MB are free")
    assert (full.where, full.exit_code) == ("hub", 4)


# Exit codes


def test_exit_codes_of_findings() -> None:
    broken = of_error("data", DataError("is not JSON", where="a.jsonl:2", remedy="Mend it."))
    assert (broken.where, broken.message, broken.remedy, broken.exit_code) == ("a.jsonl:2", "is not JSON", "Mend it.", 2)
    hot = warning("GPU", "old", remedy="wait")
    full = machine_error("disk", "full", remedy="free")
    assert Findings(findings=(ok("spec", "fine"), hot)).exit_code == 0
    assert Findings(findings=(hot, full)).exit_code == 4
    assert Findings(findings=(full, broken)).exit_code == 2
    assert Findings(findings=()).exit_code == 0
    record = Findings(findings=(ok("spec", "fine"), hot, full, broken))
    assert Findings.from_json(record.to_json(), where="x") == record
