"""lm-evaluation-harness: its tasks on the model that is measured, in an environment of their own."""

from __future__ import annotations

import re
from functools import cache

from quant_action.workers.environment import Environment

ENVIRONMENT = "lm-eval"


@cache
def harness_version() -> str:
    """Of the harness in the lock: a task of its own suite is what this version says it is."""
    found = re.search(r"^lm[-_]eval==(\S+)", Environment(ENVIRONMENT).lock.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]
