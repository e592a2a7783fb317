"""How fast an artifact is: timed by the library that serves it, beside the unquantized model, in turns, on a machine that is watched.

`worker.py` and `timing.py` run models; `monitor.py` watches the machine from the host's process, so that it takes nothing from what is
timed; `stability.py` says what its readings amount to.
"""

from __future__ import annotations

WORKER = "quant_action.speed.worker"
SOURCES = ("quant_action.speed", "quant_action.runtimes")
"""Whose code decides the figures."""
