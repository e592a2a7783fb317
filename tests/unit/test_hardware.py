"""What is read of a machine, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant_action.errors import RunError
from quant_action.hardware import container_limit, cores, device_class, device_of, free_disk, memory_of, read_machine

from .machines import A100, GIB, T4, gpu, machine

PAIR = (gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80, index=0), gpu("Tesla T4", (7, 5), 15, index=1))


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 0 , 1 ", [0, 1]),
        ("GPU-1111", [1]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("MIG-3f2a", [0]),
    ],
)
def test_cuda_visible_devices_says_which_gpus_are_seen(visible: str | None, seen: list[int]) -> None:
    assert [gpu.index for gpu in machine(*PAIR, visible_devices=visible).usable_gpus] == seen


def test_results_belong_to_the_first_gpu_that_is_seen() -> None:
    assert device_class("auto", machine(*PAIR)) == A100.name
    assert device_class("auto", machine(*PAIR, visible_devices="1")) == T4.name
    assert device_class("cpu", machine(*PAIR)) == "cpu x86_64"
    assert device_class("auto", machine()) == "cpu x86_64"
    assert device_class("auto", machine(*PAIR, visible_devices="")) == "cpu x86_64"
    assert (device_of("cpu x86_64"), device_of(A100.name)) == ("cpu", "cuda")


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (machine(), r"no NVIDIA GPU \(or no driver\) on this machine"),
        (machine(driver_fault="Unknown Error"), r"no NVIDIA GPU \(the driver says: Unknown Error\) on this machine"),
        (machine(A100, visible_devices="-1"), "CUDA_VISIBLE_DEVICES='-1' hides every GPU of this machine"),
    ],
)
def test_a_gpu_that_is_wanted_and_not_seen(here: object, message: str) -> None:
    with pytest.raises(RunError, match=message) as caught:
        device_class("cuda", here)  # type: ignore[arg-type]
    assert caught.value.remedy


def test_memory_of_the_kernel_is_in_bytes() -> None:
    text = "MemTotal:       24630112 kB\nMemFree: 1 kB\nMemAvailable:   20971520 kB\nHugePages_Total:       0\n"
    assert memory_of(text) == {"MemTotal": 24630112 * 1024, "MemFree": 1024, "MemAvailable": 20 * GIB}


def test_a_container_has_the_room_that_its_limit_leaves() -> None:
    small = machine(memory_limit=2 * GIB, limit_used=GIB // 2)
    assert (small.whole_memory, small.room) == (2 * GIB, 3 * GIB // 2)
    assert machine(memory_limit=2 * GIB, limit_used=3 * GIB).room == 0
    assert (machine().whole_memory, machine().room) == (64 * GIB, 60 * GIB)
    assert machine(memory_limit=100 * GIB).whole_memory == 64 * GIB


def cgroup(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_limit_of_cgroup_v2_is_the_tightest_above_the_process(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    membership.write_text("0::/ci/job\n")
    stat = "anon 5\ninactive_file 300\n"
    cgroup(root, "ci/job", {"memory.max": "max\n"})
    cgroup(root, "ci", {"memory.max": "2000\n", "memory.current": "900\n", "memory.stat": stat})
    cgroup(root, ".", {"memory.max": "max\n"})
    assert container_limit(root, membership) == (2000, 600)
    cgroup(root, "ci/job", {"memory.max": "1500\n", "memory.current": "200\n"})
    assert container_limit(root, membership) == (1500, 200)


def test_limit_of_cgroup_v1_and_its_way_of_saying_none(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    membership.write_text("9:name=systemd:/\n4:cpu,memory:/docker/ab\n0::/\n")
    cgroup(root, "memory/docker/ab", {"memory.limit_in_bytes": "9223372036854771712\n"})
    assert container_limit(root, membership) == (None, 0)
    stat = "inactive_file 1\ntotal_inactive_file 100\n"
    cgroup(root, "memory", {"memory.limit_in_bytes": "4096\n", "memory.usage_in_bytes": "1100\n", "memory.stat": stat})
    assert container_limit(root, membership) == (4096, 1000)


def test_a_cgroup_that_is_not_shown_inside_the_container_stands_at_its_root(tmp_path: Path) -> None:
    membership = tmp_path / "self"
    membership.write_text("0::/../../outer\n")
    cgroup(tmp_path / "cgroup", ".", {"memory.max": "7000", "memory.current": "0"})
    assert container_limit(tmp_path / "cgroup", membership)[0] == 7000


def test_no_cgroups_no_limit(tmp_path: Path) -> None:
    assert container_limit(tmp_path, tmp_path / "nothing") == (None, 0)


def test_this_machine_is_read(tmp_path: Path) -> None:
    here = read_machine()
    assert 0 < here.free_memory <= here.memory
    assert here.cores == cores() >= 1
    assert free_disk(tmp_path / "not" / "there" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.01)
