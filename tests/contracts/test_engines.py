"""What holds for every engine that is installed: a light and truthful description, artifacts that pass the same checks, the same bytes
twice where that is promised, and an error with a name when memory runs out or a library crashes.

An engine of another package is under this contract as soon as its entry point is installed:

    pytest tests/contracts/test_engines.py -k NAME

It need not do all of `SCHEMES`, but at least one of each method that it names. Work is done on the devices that this machine has.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from quant_action.artifact import check_artifact
from quant_action.engines import GROUP, choose_engine, engines
from quant_action.engines.interface import EVERY_DEVICE, Answer, Engine
from quant_action.engines.table import HEADINGS, row
from quant_action.errors import InputError, OutOfMemory, WorkerCrashed
from quant_action.hardware import Device, cores, read_machine
from quant_action.manifest import Manifest
from quant_action.model_files import companions, open_model, read_config
from quant_action.records import BitsandbytesScheme, Scheme, WeightScheme
from quant_action.report import describe
from quant_action.work import QuantizeWork, Shape
from quant_action.workers.environment import HOST, Environment
from quant_action.workers.process import OnProgress, WorkerResult, run_worker
from quant_action.workers.torch_build import torch_build
from tests.child_processes import at_first_progress, kill_when_it_starts, no_more_memory, segmentation_fault

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples/tiny-llama"
HEAVY = {"torch", "transformers", "accelerate", "bitsandbytes", "gptqmodel", "llmcompressor", "numpy", "scipy"}


def weights(method: str, bits: int, *, symmetric: bool = True, group_size: int = 64, plain: bool = False) -> WeightScheme:
    """With all that the method has; `plain` is what every library has of it."""
    refined_gptq = method == "gptq" and not plain
    return WeightScheme(
        method=method,  # type: ignore[arg-type]
        bits=bits,
        group_size=group_size,
        symmetric=symmetric,
        clip=method != "rtn" and not plain,
        scales="awq" if method == "awq" else None,
        act_order=refined_gptq,
        static_groups=refined_gptq,
    )


def ordered(scheme: WeightScheme) -> WeightScheme:
    return scheme.model_copy(update={"act_order": True, "static_groups": True})


SCHEMES: dict[str, list[Scheme]] = {
    "gptq": [
        weights("gptq", 4),
        weights("gptq", 3, symmetric=False, group_size=-1),
        weights("gptq", 4, plain=True),
        ordered(weights("gptq", 4, plain=True)),
        ordered(weights("gptq", 8, plain=True, group_size=-1)),
        weights("gptq", 4, plain=True, symmetric=False),
    ],
    "awq": [weights("awq", 4, symmetric=False), weights("awq", 8), weights("awq", 4, symmetric=False, plain=True)],
    "rtn": [weights("rtn", 2, group_size=32), weights("rtn", 4, symmetric=False, group_size=128)],
    "bitsandbytes": [
        BitsandbytesScheme(method="bitsandbytes", type="nf4", double_quant=True),
        BitsandbytesScheme(method="bitsandbytes", type="fp4", double_quant=False),
        BitsandbytesScheme(method="bitsandbytes", type="int8", double_quant=False),
    ],
}
GPU = read_machine().gpu
HERE: tuple[Device, ...] = EVERY_DEVICE if GPU else ("cpu",)


def possible(engine: Engine, device: Device) -> list[Scheme]:
    return [scheme for method in engine.methods for scheme in SCHEMES[method] if engine.refusal(scheme, device) is None]


def one_of_each_method(schemes: list[Scheme]) -> list[Scheme]:
    return list({scheme.method: scheme for scheme in reversed(schemes)}.values())


def named(value: object) -> str:
    return value.name if isinstance(value, Engine) else value if isinstance(value, str) else describe(value).replace(" ", "-")  # type: ignore[arg-type]


EVERY_ENGINE = pytest.mark.parametrize("engine", engines().values(), ids=named)
EVERY_SCHEME = pytest.mark.parametrize(
    ("engine", "device", "scheme"),
    [(engine, device, scheme) for engine in engines().values() for device in HERE for scheme in possible(engine, device)],
    ids=named,
)
EVERY_PROMISE = pytest.mark.parametrize(
    ("engine", "device", "scheme"),
    [
        (engine, device, scheme)
        for engine in engines().values()
        for device in HERE
        if device in engine.deterministic
        for scheme in one_of_each_method(possible(engine, device))
    ],
    ids=named,
)
EVERY_ORDER = pytest.mark.parametrize(
    ("engine", "device", "scheme"),
    [
        (engine, device, scheme)
        for engine in engines().values()
        for device in HERE
        for scheme in possible(engine, device)
        if isinstance(scheme, WeightScheme) and scheme.method == "gptq" and ordered(scheme) != scheme
        if ordered(scheme) in possible(engine, device)
    ],
    ids=named,
)
EVERY_WORKER = pytest.mark.parametrize(
    ("engine", "device", "scheme"),
    [(engine, device, possible(engine, device)[0]) for engine in engines().values() for device in HERE if device in engine.devices],
    ids=named,
)


@EVERY_ENGINE
def test_description_names_what_exists(engine: Engine) -> None:
    assert find_spec(engine.worker) is not None
    assert all(find_spec(source) is not None for source in engine.sources)
    if engine.environment == HOST:
        assert all(version(distribution) for distribution in engine.requires)
    else:
        locked = {line.split("==")[0].lower().replace("_", "-") for line in Environment(engine.environment).lock.read_text().splitlines()}
        assert {distribution.lower() for distribution in engine.requires} <= locked
    assert any(engine.worker.startswith(source) for source in engine.sources), "a change of the worker must change the key"
    assert engine.why
    assert not engine.why.endswith(".")


@EVERY_ENGINE
def test_description_imports_nothing_heavy(engine: Engine) -> None:
    """In a process of its own, which loads this one entry point."""
    program = (
        "import sys; from importlib.metadata import entry_points\n"
        f"for point in entry_points(group={GROUP!r}, name={engine.name!r}): print(point.load().name)\n"
        f"print(sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2:] == ["[]", ""]
    assert engine.name in done.stdout.split("\n")


@EVERY_ENGINE
def test_every_method_is_tried_here_on_every_device_that_it_is_said_to_run_on(engine: Engine) -> None:
    assert engine.methods
    for method, devices in engine.methods.items():
        assert devices, f"{method} runs nowhere"
        for device in devices:
            assert any(engine.refusal(scheme, device) is None for scheme in SCHEMES[method])
    assert set(engine.deterministic) <= set(engine.devices)


@EVERY_ENGINE
def test_where_a_method_does_not_run_the_planner_refuses_it_with_a_reason(engine: Engine) -> None:
    for method, devices in engine.methods.items():
        for device in set(EVERY_DEVICE) - set(devices):
            for scheme in SCHEMES[method]:
                with pytest.raises(InputError, match=f"engine {engine.name} cannot do this: ....."):
                    choose_engine(scheme, device, engine.name)


@EVERY_ENGINE
def test_what_an_engine_has_no_method_for_is_refused_by_name(engine: Engine) -> None:
    foreign = next(schemes[0] for method, schemes in SCHEMES.items() if method not in engine.methods)
    with pytest.raises(InputError, match=f"engine {engine.name} cannot do this"):
        choose_engine(foreign, engine.devices[0], engine.name)


@EVERY_SCHEME
def test_an_engine_that_can_is_chosen_when_asked_for(engine: Engine, device: Device, scheme: Scheme) -> None:
    assert choose_engine(scheme, device, engine.name) == (engine, "asked for")


def test_the_readme_lists_our_engines(request: pytest.FixtureRequest) -> None:
    ours = [row(engine) for engine in engines().values() if engine.worker.startswith("quant_action.")]
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *((f"`{name}`", *cells) for name, *cells in ours)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    readme = REPOSITORY / "README.md"
    before, _, rest = readme.read_text().partition("<!-- engines -->\n")
    found, end, after = rest.partition("\n<!-- /engines -->")
    if request.config.getoption("--update-golden"):
        readme.write_text(f"{before}<!-- engines -->\n{table}{end}{after}")
    else:
        assert found == table, "pytest tests/contracts --update-golden writes it"


@dataclass(frozen=True)
class Made:
    folder: Path
    result: WorkerResult
    steps: list[tuple[str, int, int]]


def make(engine: Engine, device: Device, scheme: Scheme, folder: Path, on_progress: OnProgress | None = None) -> Made:
    if engine.environment != HOST and not Environment(engine.environment).is_complete:
        pytest.skip(f"needs: quant-action environments --install {engine.environment}")
    (folder / "model").mkdir()
    calibration = {"data": str(EXAMPLE / "data/calibration.jsonl"), "samples": 8, "tokens": 64, "seed": 0}
    steps: list[tuple[str, int, int]] = []
    result = run_worker(
        environment=engine.environment,
        module=engine.worker,
        request={
            "verb": "quantize",
            "scheme": scheme.model_dump(mode="json"),
            "model": str(EXAMPLE / "model"),
            "output": str(folder / "model"),
            "device": device,
            "calibration": calibration if engine.needs_calibration(scheme) else None,
        },
        log=folder / "log.txt",
        on_progress=on_progress or (lambda *step: steps.append(step)),
        job="quantizing a",
    )
    return Made(folder / "model", result, steps)


Maker = Callable[[Engine, Device, Scheme], Made]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Each scheme once, for all tests that look at what came of it."""
    known: dict[tuple[str, Device, str], Made] = {}

    def once(engine: Engine, device: Device, scheme: Scheme) -> Made:
        key = (engine.name, device, describe(scheme))
        if key not in known:
            known[key] = make(engine, device, scheme, tmp_path_factory.mktemp(engine.name))
        return known[key]

    return once


@pytest.mark.end_to_end
@EVERY_SCHEME
def test_artifacts_pass_the_checks(engine: Engine, device: Device, scheme: Scheme, made: Maker) -> None:
    base, done = open_model(EXAMPLE / "model"), made(engine, device, scheme)
    answer = Answer.model_validate(done.result.value)
    layers = sorted(base.linear_layers)
    assert len(layers) == 28
    assert check_artifact(done.folder, base=base, scheme=scheme, candidate="a") == layers
    assert sorted(answer.quantized) == layers
    assert (answer.peak_gpu_memory is None) == (device == "cpu")
    assert answer.versions.keys() <= {*engine.requires, "python"}
    assert read_config(done.folder)["quantization_config"]["quant_method"] in engine.writes
    assert done.steps
    assert all(0 < count <= total for _, count, total in done.steps)
    kept = {path.name: path.read_bytes() for path in companions(base.folder)}
    assert {path.name: path.read_bytes() for path in companions(done.folder)} == kept
    assert all(path.stat().st_size for path in done.folder.iterdir())


@pytest.mark.end_to_end
@EVERY_SCHEME
def test_what_it_takes_was_estimated(engine: Engine, device: Device, scheme: Scheme, made: Maker) -> None:
    """Disk anywhere; memory within a quarter where engines were measured, with a torch for the CPU: CUDA's libraries take their own."""
    done, shape = made(engine, device, scheme), Shape.of(open_model(EXAMPLE / "model"))
    samples = 8 if engine.needs_calibration(scheme) else 0
    gpu = GPU.name if GPU and device == "cuda" else None
    expected = engine.estimate(QuantizeWork(shape=shape, scheme=scheme, samples=samples, tokens=64 * samples, gpu=gpu, cores=cores()))
    assert expected.disk == pytest.approx(sum(path.stat().st_size for path in done.folder.glob("*.safetensors")), rel=0.15)
    assert (expected.gpu_memory is None) == (device == "cpu")
    build = torch_build(engine.environment)
    if device == "cpu" and build and build.cuda is None and engine.worker.startswith("quant_action."):
        assert expected.memory == pytest.approx(done.result.peak_memory, rel=0.25)


@pytest.mark.end_to_end
@EVERY_ORDER
def test_an_order_of_the_inputs_is_used_where_it_is_asked_for_and_nowhere_else(
    engine: Engine, device: Device, scheme: WeightScheme, made: Maker
) -> None:
    """Libraries have orders of their own for who does not say: one of two runs that differ in nothing else must differ."""
    plain, reordered = made(engine, device, scheme), made(engine, device, ordered(scheme))
    assert Manifest.of(plain.folder) != Manifest.of(reordered.folder)


@pytest.mark.end_to_end
@EVERY_PROMISE
def test_two_runs_give_the_same_bytes_where_that_is_promised(
    engine: Engine, device: Device, scheme: Scheme, made: Maker, tmp_path: Path
) -> None:
    first, second = made(engine, device, scheme), make(engine, device, scheme, tmp_path)
    assert Manifest.of(first.folder) == Manifest.of(second.folder)


@pytest.mark.end_to_end
@EVERY_WORKER
def test_memory_that_runs_out_is_an_error_with_a_name(engine: Engine, device: Device, scheme: Scheme, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"quantizing a: (the host's memory is full|no room for another thread)") as caught:
        make(engine, device, scheme, tmp_path, at_first_progress(engine.worker, no_more_memory))
    assert caught.value.remedy


@pytest.mark.end_to_end
@EVERY_WORKER
def test_a_crash_names_the_signal_and_where_it_happened(engine: Engine, device: Device, scheme: Scheme, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        make(engine, device, scheme, tmp_path, at_first_progress(engine.worker, segmentation_fault))
    message = str(caught.value)
    assert f"quantizing a: {engine.worker} ended with signal SIGSEGV and no result; the end of its log:" in message
    assert "Fatal Python error: Segmentation fault" in message
    assert caught.value.where == str(tmp_path / "log.txt")


@pytest.mark.end_to_end
@EVERY_WORKER
def test_whoever_the_system_kills_had_no_memory(engine: Engine, device: Device, scheme: Scheme, tmp_path: Path) -> None:
    kill_when_it_starts(engine.worker)
    with pytest.raises(OutOfMemory, match=f"quantizing a: the system killed {engine.worker}"):
        make(engine, device, scheme, tmp_path)
