"""Imports point one way, and whoever only plans loads nothing heavy (DESIGN: `cli -> pipeline -> stages -> choices, workers -> data`)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "quant_action"
MODULES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

DATA, CHOICES, STAGES, PIPELINE, CLI = range(5)
LAYERS = {
    **dict.fromkeys(
        ("errors", "storage", "records", "manifest", "values", "data", "spec", "model_files", "hardware", "guide", "portions"), DATA
    ),
    **dict.fromkeys(("work", "costs", "findings"), DATA),
    **dict.fromkeys(("engines", "metrics", "formats", "remotes", "workers", "checkpoints", "scorer"), CHOICES),
    **dict.fromkeys(("store", "artifact", "inputs", "gates", "saved_run", "estimate", "evidence"), CHOICES),
    **dict.fromkeys(("runtimes", "rehearsal", "harness", "speed"), CHOICES),
    **dict.fromkeys(("init", "plan", "quantize", "evaluate", "check_runtime", "measure_speed", "judge", "report", "check"), STAGES),
    **dict.fromkeys(("session", "pipeline", "preflight", "rehearse", "github"), PIPELINE),
    **dict.fromkeys(("cli", "commands", "asking", "console", "__main__"), CLI),
}
HEAVY = {"torch", "transformers", "accelerate", "bitsandbytes", "greenlet", "datasets", "lm_eval"}
HEAVY_HOMES = (
    "quant_action.engines.",
    "quant_action.checkpoints",
    "quant_action.scorer",
    "quant_action.runtimes.",
    "quant_action.speed.timing",
    "quant_action.speed.worker",
    "quant_action.rehearsal.",
    "quant_action.harness.worker",
    "quant_action.harness.tasks",
)
LAZY = {"scipy", "matplotlib", "huggingface_hub", "httpx"}
"""Light enough for the host, too slow for `--help`: imported inside functions."""


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    if part(module) == "__init__":
        return
    level = LAYERS[part(module)]
    for imported in imports(MODULES[module]):
        if not imported.startswith("quant_action.") or part(imported) == part(module):
            continue
        assert LAYERS[part(imported)] <= level, f"{module} imports {imported}, which stands above it"
        if level == STAGES:
            assert LAYERS[part(imported)] < STAGES, f"stage {module} imports stage {imported}"


def test_only_the_command_line_knows_github() -> None:
    knowing = {module for module, path in MODULES.items() if any(name.startswith("quant_action.github") for name in imports(path))}
    assert {part(module) for module in knowing} <= {"github", "cli", "commands"}
    home = re.compile(r"api\.github\.com|\bGITHUB_[A-Z]")
    assert {part(module) for module, path in MODULES.items() if home.search(path.read_text(encoding="utf-8"))} == {"github"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_workers_import_heavy_libraries(module: str) -> None:
    heavy = {name.split(".")[0] for name in imports(MODULES[module])} & HEAVY
    light_description = (
        module.endswith(".engine") or module.startswith("quant_action.engines.interface") or module == "quant_action.engines"
    )
    if not module.startswith(HEAVY_HOMES) or light_description:
        assert not heavy, f"{module} imports {heavy}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_slow_libraries_are_imported_where_they_are_used(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(MODULES[module], top_level=True)} & LAZY


@pytest.mark.parametrize("path", sorted(MODULES.values()), ids=str)
def test_no_pickle_and_no_shell(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for forbidden in ("import pickle", "torch.load(", "shell=True", "os.system", "eval(", "trust_remote_code=True", "allow_pickle=True"):
        if forbidden == "eval(":
            text = text.replace(".eval()", "")
        assert forbidden not in text
