"""The entry-point group as other packages may leave it."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import pytest

from quant_action.engines import GROUP, PREFERRED, choose_engine, engines, installed, load
from quant_action.engines.bitsandbytes.engine import ENGINE as BITSANDBYTES
from quant_action.engines.interface import Engine
from quant_action.engines.table import row
from quant_action.errors import EngineError, InputError
from quant_action.records import BitsandbytesScheme

NF4 = BitsandbytesScheme(method="bitsandbytes", type="nf4")
ENGINE_PY = """\
from dataclasses import replace
from quant_action.engines.bitsandbytes.engine import ENGINE as OTHER
ENGINE = replace(OTHER, name="theirs")
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def point(site: Path, code: str, *, name: str = "theirs", distribution: str = "their-engine") -> EntryPoint:
    """An entry point as it comes from a distribution that is installed in `site`."""
    module = f"engine_of_{distribution.replace('-', '_')}"
    (site / f"{module}.py").write_text(code)
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:ENGINE\n")
    sys.modules.pop(module, None)
    return next(iter(PathDistribution(info).entry_points))


def test_an_engine_of_another_package_is_an_engine(site: Path) -> None:
    found = load([point(site, ENGINE_PY)])
    assert list(found.engines) == ["theirs"]
    assert found.broken == {}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "cannot be loaded (ModuleNotFoundError: No module named 'no_such_module')"),
        ("def broken(:", "cannot be loaded (SyntaxError: "),
        ("raise SystemExit('bye')", "cannot be loaded (SystemExit: bye)"),
        ("raise RuntimeError", "cannot be loaded (RuntimeError)"),
        ("", "cannot be loaded (AttributeError: "),
        ("ENGINE = {'name': 'theirs'}", "is a dict, not an Engine"),
        ("from quant_action.engines.bitsandbytes.engine import ENGINE", "calls itself 'bitsandbytes'"),
    ],
)
def test_a_broken_package_is_named_and_stops_nobody_else(site: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    ours = [EntryPoint(name="bitsandbytes", value="quant_action.engines.bitsandbytes.engine:ENGINE", group=GROUP)]
    found = load([point(site, code), *ours])
    assert list(found.engines) == ["bitsandbytes"]
    message = str(found.broken["theirs"])
    assert message.startswith(f"engine_of_their_engine:ENGINE: engine theirs of their-engine 1.0 {words}")
    monkeypatch.setattr("quant_action.engines.installed", lambda: found)
    assert choose_engine(NF4, "cpu", None) == (BITSANDBYTES, BITSANDBYTES.why)
    with pytest.raises(EngineError, match=r"engine theirs of their-engine 1\.0") as caught:
        choose_engine(NF4, "cpu", "theirs")
    assert caught.value.remedy == "Mend or uninstall their-engine 1.0; other engines are not affected."


def test_where_no_engine_is_left_the_broken_ones_are_among_the_reasons(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant_action.engines.installed", lambda: found)
    found = load([point(site, "import no_such_module")])
    with pytest.raises(InputError, match=r"no engine can do this .*engine theirs of their-engine 1\.0"):
        choose_engine(NF4, "cpu", None)


def test_a_name_that_two_packages_claim_is_nobody_s(site: Path) -> None:
    found = load([point(site, ENGINE_PY), point(site, ENGINE_PY, distribution="another-engine")])
    assert found.engines == {}
    assert str(found.broken["theirs"]) == f"{GROUP}: engine theirs is there twice, from their-engine 1.0 and another-engine 1.0"


def test_our_engines_keep_their_names(site: Path) -> None:
    found = load(
        [
            point(site, ENGINE_PY, name="native"),
            point(site, "from quant_action.engines.native.engine import ENGINE", name="native", distribution="quant-action"),
        ]
    )
    assert found.engines["native"].worker == "quant_action.engines.native.worker"
    assert "from their-engine 1.0 and quant-action 1.0" in str(found.broken["native"])


def test_all_of_ours_are_installed_in_the_order_of_preference() -> None:
    assert [name for name in engines() if name in PREFERRED] == list(PREFERRED)
    assert not set(PREFERRED) & set(installed().broken)


def test_the_table_says_which_method_runs_where() -> None:
    engine = Engine(
        name="a",
        methods={"gptq": ("cpu", "cuda"), "awq": ("cuda",)},
        environment="host",
        worker="a.worker",
        writes=("gptq", "awq"),
        deterministic=(),
        requires=(),
        sources=(),
        needs_calibration=lambda scheme: False,
        refuses=lambda scheme, device: None,
        why="it is there",
    )
    assert row(engine) == ("a", "gptq, awq (CUDA only)", "CPU, CUDA", "host", "gptq, awq", "not promised")
