"""Where a worker runs: the Python interpreter of an environment, and the variables that it gets."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from quant_action.errors import EnvironmentMissing

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
"""Workers load models and data that may be hostile, and they need no network: nothing that looks like a secret reaches them."""


DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
"""Threads that spin while they wait make torch ten times slower on a machine that others use too; sleeping costs little where none do."""


def interpreter(environment: str) -> Path:
    """Python of an environment. Raises `EnvironmentMissing` with what to install."""
    if environment != "host":
        raise EnvironmentMissing(
            f"there is no environment {environment!r}", remedy="This version runs engines of the environment host only."
        )
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise EnvironmentMissing(
            "torch and transformers are not installed here; planning and judging need them not, quantizing and evaluating do",
            remedy="pip install 'quant-action[run]'",
        )
    return Path(sys.executable)


def worker_variables() -> dict[str, str]:
    """The host's variables without secrets, and what makes a worker offline, unbuffered and repeatable."""
    kept = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    return (
        DEFAULTS
        | kept
        | {
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
        }
    )
