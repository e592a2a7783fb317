"""One run timed, runs until they agree, and two models in turns."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from quant_action.errors import EngineError
from quant_action.records import SpeedCase

SETTLED = 0.02
"""By how much the last runs of a warm-up may differ: what is compiled, tuned or fetched at first use takes longer than that."""

WARMUPS = (3, 20)
"""Fewest, of which the last three must agree, and most."""

Run = Callable[[], float]
"""Runs a model once and gives the seconds that it took."""


def settled(seconds: Sequence[float]) -> bool:
    last = seconds[-WARMUPS[0] :]
    return len(last) == WARMUPS[0] and max(last) <= (1 + SETTLED) * min(last)


def warm_up(run: Run, *, seconds: float) -> tuple[int, bool]:
    """How many runs there were, and whether the last of them agreed: until they do, or for so many seconds."""
    fewest, most = WARMUPS
    times: list[float] = []
    while not settled(times) and len(times) < most and (len(times) < fewest or sum(times) < seconds):
        times.append(run())
    return len(times), settled(times)


def in_turns(
    first: Run, second: Run, *, pairs: tuple[int, int], seconds: float, told: Callable[[int], None] = lambda done: None
) -> list[tuple[float, float]]:
    """Seconds of both, pair by pair. Who goes first alternates: first second, second first, first second, ...

    A machine that slows down steadily then favours neither: with a fixed order whoever always goes second is charged for it, by one run's
    worth, and at ten pairs and 10% of drift a 90% interval holds the true ratio in three of four cases only
    (tests/unit/test_speed_statistics.py).
    """
    fewest, most = pairs
    found: list[tuple[float, float]] = []
    spent = 0.0
    while len(found) < fewest or (len(found) < most and spent < seconds):
        if len(found) % 2:
            other, one = second(), first()
        else:
            one, other = first(), second()
        found.append((one, other))
        spent += one + other
        told(len(found))
    return found


# One run ------------------------------------------------------------------------------------------------------------


def prompt_ids(case: SpeedCase, *, prompt: int, vocabulary: int, seed: int) -> torch.Tensor:
    """Random token ids [batch, length], the same for every model: a dense model's time does not depend on what it reads."""
    length = case.tokens if case.phase == "prefill" else prompt
    return torch.randint(0, vocabulary, (case.batch, length), generator=torch.Generator().manual_seed(seed))


def run_of(model: Any, case: SpeedCase, ids: torch.Tensor) -> Run:
    """A run of a case; `ids` [batch, length] lie on the model's device."""
    return (lambda: _prefill(model, ids)) if case.phase == "prefill" else (lambda: _decode(model, ids, case.tokens))


def _prefill(model: Any, ids: torch.Tensor) -> float:
    """From a prompt to its first new token: one forward pass that fills the cache, and the most likely token."""
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    start = _mark(ids.device, idle=True)
    logits = model(input_ids=ids, use_cache=True, **last_only).logits
    logits[:, -1].argmax(dim=-1)
    return _seconds(start, _mark(ids.device))


def _decode(model: Any, ids: torch.Tensor, tokens: int) -> float:
    """From the first new token to the last of so many further ones, by the library's own `generate`; none of them may end it early.

    Raises `EngineError` when it wrote another number.
    """
    first = _FirstToken(ids.device)
    wanted = GenerationConfig(do_sample=False, min_new_tokens=tokens + 1, max_new_tokens=tokens + 1, use_cache=True, pad_token_id=0)
    _mark(ids.device, idle=True)
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), generation_config=wanted, stopping_criteria=StoppingCriteriaList([first])
    )
    end = _mark(ids.device)
    if first.mark is None or written.shape[1] != ids.shape[1] + tokens + 1:
        raise EngineError(f"the runtime wrote {written.shape[1] - ids.shape[1]} tokens where {tokens + 1} were asked for")
    return _seconds(first.mark, end)


class _FirstToken(StoppingCriteria):  # type: ignore[misc]  # transformers is not typed
    """Never stops; remembers when it was first asked, which is when there is one new token."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.mark = device, None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.mark = self.mark or _mark(self.device)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _mark(device: torch.device, *, idle: bool = False) -> Any:
    """A point in time: on a GPU where it is in its work (a CUDA event), after it has nothing left to do if `idle`; on a CPU wall clock."""
    if device.type != "cuda":
        return time.perf_counter()
    if idle:
        torch.cuda.synchronize(device)
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return float(end - start)
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000
