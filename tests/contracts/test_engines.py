"""What holds for every engine in the table: a light and truthful description, and artifacts that pass the same checks.

A new engine is under this contract as soon as its entry point is installed; its method needs a line in `SCHEMES`.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from quant_action.artifact import check_artifact
from quant_action.engines import choose_engine, engines
from quant_action.engines.interface import Engine
from quant_action.hardware import cores
from quant_action.model_files import companions, open_model
from quant_action.records import BitsandbytesScheme, Scheme, WeightScheme
from quant_action.report import describe
from quant_action.work import QuantizeWork, Shape
from quant_action.workers.environment import HOST, Environment
from quant_action.workers.process import run_worker
from quant_action.workers.torch_build import torch_build

EXAMPLE = Path(__file__).parents[2] / "examples/tiny-llama"


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


SCHEMES: dict[str, list[Scheme]] = {
    "gptq": [
        weights("gptq", 4),
        weights("gptq", 3, symmetric=False, group_size=-1),
        weights("gptq", 4, plain=True),
        weights("gptq", 8, plain=True),
        weights("gptq", 4, plain=True, symmetric=False),
    ],
    "awq": [weights("awq", 4, symmetric=False), weights("awq", 8)],
    "rtn": [weights("rtn", 2, group_size=32)],
    "bitsandbytes": [
        BitsandbytesScheme(method="bitsandbytes", type="nf4", double_quant=True),
        BitsandbytesScheme(method="bitsandbytes", type="fp4", double_quant=False),
        BitsandbytesScheme(method="bitsandbytes", type="int8", double_quant=False),
    ],
}
EVERY_ENGINE = pytest.mark.parametrize("engine", engines().values(), ids=lambda engine: engine.name)
EVERY_SCHEME = pytest.mark.parametrize(
    ("engine", "scheme"),
    [
        (engine, scheme)
        for engine in engines().values()
        for method in engine.methods
        for scheme in SCHEMES[method]
        if engine.refuses(scheme, "cpu") is None
    ],
    ids=lambda value: value.name if isinstance(value, Engine) else describe(value).replace(" ", "-"),
)


@EVERY_ENGINE
def test_description_names_what_exists(engine: Engine) -> None:
    assert find_spec(engine.worker) is not None
    assert all(find_spec(source) is not None for source in engine.sources)
    if engine.environment == HOST:
        assert all(version(distribution) for distribution in engine.requires)
    else:
        locked = {line.split("==")[0].lower() for line in Environment(engine.environment).lock.read_text().splitlines()}
        assert {distribution.lower() for distribution in engine.requires} <= locked
    assert any(engine.worker.startswith(source) for source in engine.sources), "a change of the worker must change the key"
    assert engine.why
    assert not engine.why.endswith(".")


@EVERY_ENGINE
def test_every_method_that_an_engine_names_is_tried_here(engine: Engine) -> None:
    for method in engine.methods:
        assert any(engine.refuses(scheme, "cpu") is None for scheme in SCHEMES[method])


@EVERY_ENGINE
def test_what_an_engine_has_no_method_for_is_refused_by_name(engine: Engine) -> None:
    foreign = next(schemes[0] for method, schemes in SCHEMES.items() if method not in engine.methods)
    with pytest.raises(Exception, match=f"engine {engine.name} cannot do this"):
        choose_engine(foreign, "cpu", engine.name)


@EVERY_SCHEME
def test_an_engine_that_can_is_chosen_when_asked_for(engine: Engine, scheme: Scheme) -> None:
    assert choose_engine(scheme, "cpu", engine.name) == (engine, "asked for")


def test_the_readme_lists_the_engines() -> None:
    rows = [f"| `{engine.name}` | {', '.join(engine.methods)} | {engine.environment} |" for engine in engines().values()]
    table = "\n".join(["| engine | methods | environment |", "|---|---|---|", *rows])
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"<!-- engines -->\n{table}\n<!-- /engines -->" in readme


@pytest.mark.end_to_end
@EVERY_SCHEME
def test_artifacts_pass_the_checks(engine: Engine, scheme: Scheme, tmp_path: Path) -> None:
    if engine.environment != HOST and not Environment(engine.environment).is_complete:
        pytest.skip(f"needs: quant-action environments --install {engine.environment}")
    base, output = open_model(EXAMPLE / "model"), tmp_path / "model"
    output.mkdir()
    calibration = {"data": str(EXAMPLE / "data/calibration.jsonl"), "samples": 8, "tokens": 64, "seed": 0}
    steps: list[tuple[str, int, int]] = []
    result = run_worker(
        environment=engine.environment,
        module=engine.worker,
        request={
            "verb": "quantize",
            "scheme": scheme.model_dump(mode="json"),
            "model": str(base.folder),
            "output": str(output),
            "device": "cpu",
            "calibration": calibration if engine.needs_calibration(scheme) else None,
        },
        log=tmp_path / "log.txt",
        on_progress=lambda *step: steps.append(step),
    )
    layers = sorted(base.linear_layers)
    assert len(layers) == 28
    assert check_artifact(output, base=base, scheme=scheme, candidate="a") == layers
    assert sorted(result.value["quantized"]) == layers
    assert result.value["peak_gpu_memory"] is None
    tokens = 8 * 64 if engine.needs_calibration(scheme) else 0
    expected = engine.estimate(QuantizeWork(shape=Shape.of(base), scheme=scheme, tokens=tokens, gpu=None, cores=cores()))
    build = torch_build(engine.environment)
    if build and build.cuda is None:  # what CUDA's libraries take of the host's memory is not in the figures for a CPU
        assert expected.memory == pytest.approx(result.peak_memory, rel=0.25)
    assert expected.disk == pytest.approx(sum(path.stat().st_size for path in output.glob("*.safetensors")), rel=0.15)
    assert result.value["versions"].keys() <= {*engine.requires, "python"}
    assert steps
    assert all(0 < done <= total for _, done, total in steps)
    kept = {path.name: path.read_bytes() for path in companions(base.folder)}
    assert {path.name: path.read_bytes() for path in companions(output)} == kept
    assert all(path.stat().st_size for path in output.iterdir())
