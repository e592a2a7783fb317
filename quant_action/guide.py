"""Which candidates to begin with: the goal, whether there is calibration data, and the hardware decide.

A guide, not a verdict: every run measures what it made, and the gates decide. What the reasons say of quality was measured on SmolLM2-135M
(README, "How good is it", and examples/smollm2); other models may order the candidates differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Goal = Literal["smallest", "accurate", "easy"]
Hardware = Literal["cpu", "gpu"]
GOALS: tuple[Goal, ...] = get_args(Goal)
HARDWARE: tuple[Hardware, ...] = get_args(Hardware)

GROUP_SIZES = (128, 64, 32, 16)
CHANNEL = "channel"


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A candidate to begin with."""

    options: Mapping[str, str | int | bool]
    """As they stand in `quant.yml`, without the group size."""
    reason: str

    @property
    def grouped(self) -> bool:
        return self.options["method"] != "bitsandbytes"


SUGGESTIONS: Mapping[str, Suggestion] = {
    "gptq-w4": Suggestion(
        options={"method": "gptq", "bits": 4},
        reason="GPTQ, 4 bits: lets the weights still to come make up for those that were rounded; far ahead of plain rounding.",
    ),
    "awq-w4": Suggestion(
        options={"method": "awq", "bits": 4},
        reason="AWQ, 4 bits: spares weights that meet large activations; a little behind GPTQ where we measured, yours may differ.",
    ),
    "best-w4": Suggestion(
        options={
            "method": "gptq",
            "bits": 4,
            "symmetric": False,
            "act_order": True,
            "static_groups": True,
            "clip": True,
            "scales": "awq",
        },
        reason="AWQ scales, clip search and GPTQ together: lost the least of all 4-bit candidates where we measured.",
    ),
    "gptq-w3": Suggestion(
        options={"method": "gptq", "bits": 3},
        reason="GPTQ, 3 bits: a quarter smaller still in the layers that are quantized, and often too coarse. The gates decide.",
    ),
    "gptq-w8": Suggestion(
        options={"method": "gptq", "bits": 8},
        reason="GPTQ, 8 bits: about twice the size of 4 bits, and close to the original.",
    ),
    "rtn-w4": Suggestion(
        options={"method": "rtn", "bits": 4},
        reason="Plain rounding, 4 bits: needs no calibration data, and lost the most where we measured; shows what data would buy.",
    ),
    "rtn-w8": Suggestion(
        options={"method": "rtn", "bits": 8},
        reason="Plain rounding, 8 bits: needs no calibration data, and at 8 bits there is little for data to improve.",
    ),
    "nf4": Suggestion(
        options={"method": "bitsandbytes", "type": "nf4"},
        reason="NF4 of bitsandbytes, 4 bits: needs no calibration data and is quickly made; lost more than GPTQ where we measured.",
    ),
    "nf4-double": Suggestion(
        options={"method": "bitsandbytes", "type": "nf4", "double_quant": True},
        reason="NF4 of bitsandbytes, its scales quantized too (0.4 bits less per weight): needs no calibration data and is quickly made.",
    ),
    "int8": Suggestion(
        options={"method": "bitsandbytes", "type": "int8"},
        reason="LLM.int8() of bitsandbytes, 8 bits: needs no calibration data, is quickly made, and stays close to the original.",
    ),
}

GUIDE: Mapping[tuple[Goal, bool, Hardware], tuple[str, ...]] = {
    ("smallest", True, "cpu"): ("gptq-w3", "gptq-w4"),
    ("smallest", True, "gpu"): ("gptq-w3", "gptq-w4", "awq-w4", "best-w4"),
    ("smallest", False, "cpu"): ("nf4-double", "rtn-w4"),
    ("smallest", False, "gpu"): ("nf4-double", "rtn-w4"),
    ("accurate", True, "cpu"): ("int8", "best-w4"),
    ("accurate", True, "gpu"): ("gptq-w8", "int8", "best-w4"),
    ("accurate", False, "cpu"): ("int8", "rtn-w8"),
    ("accurate", False, "gpu"): ("int8", "rtn-w8"),
    ("easy", True, "cpu"): ("gptq-w4", "int8"),
    ("easy", True, "gpu"): ("gptq-w4", "nf4", "int8"),
    ("easy", False, "cpu"): ("nf4", "int8"),
    ("easy", False, "gpu"): ("nf4", "int8"),
}
"""(goal, calibration data?, hardware) -> candidates. On a CPU there are fewer of those that take long there."""

CHOOSE: Mapping[Goal, str] = {"smallest": "smallest", "accurate": "most-accurate", "easy": "smallest"}
"""The spec's `release.choose` for each goal."""

SAMPLES: Mapping[Hardware, tuple[int, int]] = {"cpu": (32, 512), "gpu": (128, 2048)}
"""Calibration samples and their tokens: on a GPU those of the GPTQ paper (arXiv 2210.17323), on a CPU those of our benchmark."""


def fitting_group_size(inputs: Iterable[int]) -> int | str:
    """The largest usual group size that divides the inputs of every layer; `channel` where none does."""
    widths = set(inputs)
    return next((size for size in GROUP_SIZES if all(width % size == 0 for width in widths)), CHANNEL)


def guide_table() -> str:
    """The guide as the README shows it."""
    rows = [
        f"| {goal} | {'yes' if data else 'none'} | {' | '.join(', '.join(GUIDE[goal, data, hardware]) for hardware in HARDWARE)} |"
        for goal in GOALS
        for data in (True, False)
    ]
    return "\n".join(["| goal | calibration data | on a CPU | on a GPU |", "|---|---|---|---|", *rows])
