from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quant_action.errors import EngineError, EnvironmentMissing, OutOfMemory
from quant_action.runtimes import worker
from quant_action.runtimes.worker import BACKEND_CONFIGS, BACKENDS, first_that_loads, kernels_being_built, load_runtime, told_backend
from quant_action.workers.environment import KERNELS, Environment, worker_variables

from .tiny_models import random_model, save


def test_a_kernel_that_is_being_compiled_is_told_until_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTQMODEL_TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(worker, "BUILD_POLL_SECONDS", 0.01)
    for name in ("marlin_fp16", "machete"):
        (tmp_path / name / "0123abcd").mkdir(parents=True)
    (tmp_path / "marlin_fp16/0123abcd/build.ninja").write_text("")
    (tmp_path / "machete/0123abcd/build.ninja").write_text("")
    (tmp_path / "machete/0123abcd/machete.so").write_text("")
    said: list[tuple[str, int, int]] = []
    with kernels_being_built(lambda *step: said.append(step)):
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        (tmp_path / "marlin_fp16/0123abcd/marlin.so").write_text("")
        time.sleep(0.05)
        told = len(said)
        time.sleep(0.1)
    assert set(said) == {("compile the kernel marlin_fp16: minutes, once", 1, 4)}
    assert len(said) <= told + 1


def test_what_is_compiled_lies_beside_the_environment_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_ACTION_ENVIRONMENTS", str(tmp_path / "environments"))
    variables = worker_variables("modern", tmp_path, worker.__name__)
    folder = Environment("modern").folder
    kernels = folder.with_name(folder.name + KERNELS)
    assert Path(variables["GPTQMODEL_TORCH_EXTENSIONS_DIR"]).parent == kernels
    assert Path(variables["TORCH_EXTENSIONS_DIR"]).parent == kernels
    assert Path(variables["TRITON_CACHE_DIR"]).parent == kernels
    assert variables["GPTQMODEL_OFFLINE"] == "1"
    assert "GPTQMODEL_OFFLINE" not in worker_variables("host", tmp_path, worker.__name__)


def test_a_worker_cannot_write_outputs_or_variables_of_the_ci_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "ACTIONS_RUNTIME_URL"):
        monkeypatch.setenv(name, "/runner/file")
    assert not [name for name in worker_variables("host", tmp_path, worker.__name__) if name.startswith(("GITHUB_", "ACTIONS_"))]


@pytest.mark.parametrize(
    ("message", "kind", "remedy"),
    [
        ("Machete: GPTQMODEL_OFFLINE=1 and no verified CUTLASS v4 source cache is available", EnvironmentMissing, "GPTQMODEL_CUTLASS_DIR"),
        ("Unsupported format: `x`", EngineError, "The log has all that it said."),
    ],
)
def test_what_a_library_refuses_is_a_named_error(
    message: str, kind: type[Exception], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(random_model("llama"), tmp_path / "model")

    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(worker.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(kind) as caught:
        load_runtime(folder, "cpu")
    assert message in str(caught.value)
    assert remedy in caught.value.remedy  # type: ignore[attr-defined]


def refuse(message: str) -> Callable[[], object]:
    def way() -> object:
        raise NotImplementedError(message)

    return way


def test_the_second_kernel_is_asked_where_the_first_refuses_the_model() -> None:
    assert first_that_loads([refuse("out_features: 192"), lambda: "marlin", lambda: "exllama"]) == "marlin"


def test_where_every_kernel_refuses_the_first_refusal_is_told() -> None:
    with pytest.raises(EngineError, match="out_features: 192"):
        first_that_loads([refuse("out_features: 192"), refuse("other")])


def test_a_lack_of_memory_is_no_refusal() -> None:
    def starve() -> object:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory):
        first_that_loads([starve, lambda: "never asked"])


@pytest.mark.parametrize("method", BACKEND_CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_transformers_takes_the_backends_by_these_names(method: str, backend: str) -> None:
    config = BACKEND_CONFIGS[method](bits=4, backend=backend)
    assert config.get_loading_attributes()["backend"] == backend
    told = SimpleNamespace(config=SimpleNamespace(quantization_config=config))
    assert told_backend(told) == backend
    assert told_backend(SimpleNamespace(config=SimpleNamespace(quantization_config=BACKEND_CONFIGS[method](bits=4)))) is None
