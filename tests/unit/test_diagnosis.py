"""Texts as libraries, drivers and the C++ runtime word them."""

from __future__ import annotations

import errno

import pytest

from quant_action.errors import DataError, DiskFull, EnvironmentMissing, OutOfMemory, RunError
from quant_action.workers.diagnosis import expected, named_in

GPU = "the GPU's memory is full"
HOST = "the host's memory is full"


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has a total capacity of 139.81 GiB of which "
            "12.00 GiB is free. Including non-PyTorch memory, this process has 127.80 GiB memory in use.",
            OutOfMemory,
            GPU,
        ),
        ("torch.AcceleratorError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", OutOfMemory, GPU),
        ("RuntimeError: CUDA driver error: out of memory", OutOfMemory, GPU),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory, GPU),
        ("RuntimeError: cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`", OutOfMemory, GPU),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OutOfMemory, GPU),
        ("RuntimeError: Triton Error [CUDA]: out of memory", OutOfMemory, GPU),
        ("cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 1,024 bytes", OutOfMemory, GPU),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "1152921504606846976 bytes. Error code 12 (Cannot allocate memory)",
            OutOfMemory,
            HOST,
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc", OutOfMemory, HOST),
        ("memory allocation of 1179648 bytes failed", OutOfMemory, HOST),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 EiB for an array with shape (1152921504606846976,) "
            "and data type float64",
            OutOfMemory,
            HOST,
        ),
        ("OSError: [Errno 12] Cannot allocate memory", OutOfMemory, HOST),
        ("RuntimeError: unable to mmap 4976698672 bytes from file <model.safetensors>: Cannot allocate memory (12)", OutOfMemory, HOST),
        ("RuntimeError: can't start new thread", OutOfMemory, "no room for another thread"),
        ("libgomp: Thread creation failed: Resource temporarily unavailable", OutOfMemory, "no room for another thread"),
        (
            "OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 4: Resource temporarily unavailable",
            OutOfMemory,
            "no room for another thread",
        ),
        (
            "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)",
            DiskFull,
            "no space",
        ),
        ("AssertionError: Torch not compiled with CUDA enabled", EnvironmentMissing, "this build of torch has no CUDA"),
        (
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver",
            EnvironmentMissing,
            "no usable NVIDIA GPU or driver",
        ),
        ("RuntimeError: No CUDA GPUs are available", EnvironmentMissing, "no usable NVIDIA GPU or driver"),
        ("OSError: libcuda.so.1: cannot open shared object file: No such file or directory", EnvironmentMissing, "no usable NVIDIA GPU"),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
            EnvironmentMissing,
            "the GPU's driver is too old",
        ),
        (
            "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version",
            EnvironmentMissing,
            "the GPU's driver is too old",
        ),
        (
            "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
            EnvironmentMissing,
            "a library has no code for this GPU",
        ),
    ],
)
def test_words_of_libraries_have_a_name_and_a_remedy(text: str, error: type[RunError], what: str) -> None:
    found = named_in(f"Traceback (most recent call last):\n  File x\n{text}\nand more")
    assert type(found) is error
    assert str(found).startswith(what)
    assert text.splitlines()[0][:100] in str(found)
    assert found.remedy


@pytest.mark.parametrize(
    "text", ["", "ZeroDivisionError: division by zero", "ValueError: 3 is out of range", "RuntimeError: CUDA error: invalid"]
)
def test_anything_else_is_a_crash(text: str) -> None:
    assert named_in(text) is None
    assert expected(RuntimeError(text)) is None


def test_what_an_error_was_raised_from_counts_too() -> None:
    def wrapped() -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("the layer could not be loaded") from error

    with pytest.raises(ValueError, match="layer") as caught:
        wrapped()
    assert str(expected(caught.value)) == "the host's memory is full (MemoryError)"


def test_what_an_error_was_raised_in_spite_of_does_not_count() -> None:
    def unrelated() -> None:
        try:
            raise MemoryError
        except MemoryError:
            raise ValueError("something else") from None

    with pytest.raises(ValueError, match="something else") as caught:
        unrelated()
    assert expected(caught.value) is None


def test_a_chain_of_causes_that_closes_is_walked_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert expected(first) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_in_any_of_its_numbers(number: int) -> None:
    assert type(expected(OSError(number, "in another language"))) is DiskFull


def test_our_own_errors_stay_what_they_are() -> None:
    error = DataError("has 3 tokens", where="a.jsonl")
    assert expected(error) is error
