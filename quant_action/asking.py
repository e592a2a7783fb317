"""The questions of `quant-action init`: flags answer them, and on a terminal whoever sits there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from rich.console import Console

from quant_action.errors import Cancelled, InputError
from quant_action.guide import GOALS, HARDWARE, Goal, Hardware
from quant_action.hardware import read_machine
from quant_action.init import CALIBRATION, Answers, choose_calibration, choose_model, choose_name, default_name, refuse_other_spec

T = TypeVar("T")
NEEDED = ("model", "goal", "calibration")
"""Flags without a default."""


def ask(options: argparse.Namespace) -> Answers:
    """Raises `InputError` naming the flags that are missing where there is no terminal, and for answers that will not do."""
    folder: Path = options.folder
    missing = [f"--{name}" for name in NEEDED if getattr(options, name) is None]
    if missing:
        refuse_other_spec(folder)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise InputError(
                f"{', '.join(missing)} must be given where there is no terminal to ask on",
                remedy="For instance: quant-action init --model organisation/name --goal smallest --calibration none",
            )
    there = "gpu" if read_machine().gpu else "cpu"
    prompt = _Prompt() if missing else None

    def answer(flag: str, question: str, default: str | None, parse: Callable[[str], T]) -> T:
        given = getattr(options, flag)
        if given is not None:
            return parse(given)
        if prompt is None:
            assert default is not None, flag
            return parse(default)
        return prompt.ask(question, default, parse)

    model = answer("model", "Model: a folder, or an id on the Hub", None, lambda text: choose_model(text, options.revision, folder))
    goal = answer("goal", f"What matters most? {', '.join(GOALS)}", GOALS[0], lambda text: _one_of("goal", text, GOALS))
    hardware = answer("hardware", "Where will it be quantized? cpu, gpu", there, lambda text: _one_of("hardware", text, HARDWARE))
    calibration = answer(
        "calibration",
        "Calibration data: a file, which may be yet to come, or none",
        CALIBRATION,
        lambda text: choose_calibration(text, folder),
    )
    name = answer("name", "Name of the quantized model", default_name(model, folder), choose_name)
    return Answers(folder=folder, name=name, model=model, goal=cast(Goal, goal), hardware=cast(Hardware, hardware), calibration=calibration)


def _one_of(flag: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise InputError(f"--{flag}: {text!r} is not one of {', '.join(known)}")
    return text


class _Prompt:
    """Asks on stderr, so that stdout has results only; asks again when an answer will not do."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    def ask(self, question: str, default: str | None, parse: Callable[[str], T]) -> T:
        shown = f" [{default}]" if default else ""
        while True:
            try:
                answer = self._console.input(f"{question}{shown}: ", markup=False).strip() or default
            except EOFError:
                raise Cancelled("cancelled; nothing was written") from None
            if not answer:
                continue
            try:
                return parse(answer)
            except InputError as error:
                self._console.print(f"  {error} {error.remedy or ''}", markup=False)
