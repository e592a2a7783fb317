"""AutoAWQ without a GPU runs to its end and writes a model that computes something else.

The planner refuses it; were it not to, the checks would.
It runs in the environment `legacy`, which `make test` installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quant_action.artifact import check_artifact
from quant_action.engines import choose_engine, engines
from quant_action.errors import EngineError, InputError
from quant_action.evaluate import WORKER
from quant_action.model_files import open_model
from quant_action.records import Protocol, TextProtocol, WeightScheme
from quant_action.workers.environment import HOST, Environment
from quant_action.workers.process import run_worker

from .conftest import EXAMPLE

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(not Environment("legacy").is_complete, reason="needs: quant-action environments --install legacy"),
]

SCHEME = WeightScheme(method="awq", bits=4, group_size=64, symmetric=False, clip=True, scales="awq")


def work(environment: str, module: str, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    done = run_worker(environment=environment, module=module, job="here", request=request, log=folder / "log", on_progress=lambda *_: None)
    return done.value


def test_what_autoawq_writes_on_a_cpu_is_refused_twice(tmp_path: Path) -> None:
    engine, base, artifact = engines()["autoawq"], open_model(EXAMPLE / "model"), tmp_path / "model"
    with pytest.raises(InputError, match="without an NVIDIA GPU it writes a broken model and says nothing"):
        choose_engine(SCHEME, "cpu", "autoawq")

    artifact.mkdir()
    request = {
        "verb": "quantize",
        "scheme": SCHEME.model_dump(mode="json"),
        "model": str(base.folder),
        "output": str(artifact),
        "device": "cpu",
        "calibration": {"data": str(EXAMPLE / "data/calibration.jsonl"), "samples": 8, "tokens": 64, "seed": 0},
    }
    answer = work(engine.environment, engine.worker, request, tmp_path)
    assert sorted(answer["quantized"]) == check_artifact(artifact, base=base, scheme=SCHEME, candidate="a"), "headers show nothing"

    protocol = Protocol(
        tokenizer="0" * 64,
        dtype="float32",
        batch_tokens=2048,
        text=TextProtocol(data="heldout.jsonl", digest="0" * 64, window=64),
        tasks=(),
    )
    (tmp_path / "candidate").mkdir()
    measured = {
        "verb": "evaluate",
        "device": "cpu",
        "protocol": protocol.model_dump(mode="json"),
        "data": {"text": str(EXAMPLE / "data/heldout.jsonl"), "tasks": {}},
        "rounding": {"bits": 4, "group_size": 64},
        "look": {"after": 0.0, "upto": 1.0, "earlier": None},
    }
    original = {"model": str(base.folder), "states": str(tmp_path / "baseline/states")}
    with pytest.raises(EngineError, match=r"model\.layers\.\d: .*it does not compute the layer that it was made from"):
        work(
            HOST,
            WORKER,
            {**measured, "subject": "candidate", "model": str(artifact), "baseline": original, "output": str(tmp_path / "candidate")},
            tmp_path,
        )
