"""Which values of two evaluations belong together; values that do not are an error, never a number."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from quant_action.errors import IntegrityError
from quant_action.metrics.interface import Subject
from quant_action.values import Windows

REMEDY = "Evaluate both again: their values must come from one protocol on the same data."


def windows_of(subject: Subject) -> Windows | None:
    """The windows of a subject, or None when no text was scored.

    Raises `IntegrityError` for values that are not finite, and for fewer than two windows, which say nothing of their own spread.
    """
    import numpy as np

    windows = subject.values.windows
    if windows is None:
        return None
    if not (np.isfinite(windows.nll).all() and np.isfinite(windows.kl).all()):
        raise IntegrityError("the values per window carry numbers that are not finite", where=_name(subject), remedy=REMEDY)
    if len(windows.nll) < 2:
        raise IntegrityError("one window says nothing of its own spread", where=_name(subject), remedy="Use more text or shorter windows.")
    return windows


def paired_windows(candidate: Subject, reference: Subject) -> tuple[Windows, Windows] | None:
    """The windows of both, aligned; None when the candidate has none. Raises `IntegrityError` when they are not of the same text."""
    _same_protocol(candidate, reference)
    mine, theirs = windows_of(candidate), windows_of(reference)
    if mine is None:
        return None
    if theirs is None or mine.nll.shape != theirs.nll.shape:
        found = "none" if theirs is None else _shape(theirs)
        raise IntegrityError(f"windows do not align: {_shape(mine)} against {found}", where=_name(candidate), remedy=REMEDY)
    return mine, theirs


class PairedItem(NamedTuple):
    mine: bool
    """Whether the candidate is right."""
    theirs: bool
    """Whether the reference is."""
    group: Hashable
    """What the item shares with others that are not independent of it, whichever task they are of; else the item itself."""


def paired_items(candidate: Subject, reference: Subject, task: str | None) -> list[PairedItem]:
    """Every item of one task or of all, as the candidate was asked it.

    A candidate that was stopped at an early look has the items of the first looks only; any other difference raises `IntegrityError`.
    """
    _same_protocol(candidate, reference)
    mine, theirs = candidate.values.correct(task), reference.values.correct(task)
    stopped = candidate.evaluation.look < candidate.evaluation.looks
    if odd := sorted(mine.keys() - theirs.keys() if stopped else mine.keys() ^ theirs.keys()):
        name, item = odd[0]
        message = f"{len(odd)} task items stand in only one of two evaluations, the first of them {item!r} of {name}"
        raise IntegrityError(message, where=_name(candidate), remedy=REMEDY)
    groups = {(item["task"], item["item"]): ("group", item["group"]) for item in candidate.values.items if "group" in item}
    return [PairedItem(mine[item], theirs[item], groups.get(item, item)) for item in mine]


def _same_protocol(candidate: Subject, reference: Subject) -> None:
    if candidate.evaluation.protocol != reference.evaluation.protocol:
        raise IntegrityError("the two evaluations followed different protocols", where=_name(candidate), remedy=REMEDY)


def _name(subject: Subject) -> str:
    return f"evaluation {subject.evaluation.key[:12]}"


def _shape(windows: Windows) -> str:
    count, positions = windows.nll.shape
    return f"{count} windows of {positions} tokens"
