"""Which values of two evaluations belong together; values that do not are an error, never a number."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from quant_action.errors import IntegrityError
from quant_action.metrics.interface import Subject
from quant_action.values import Values, Windows

REMEDY = "Evaluate both again: their values must come from one protocol on the same data."


def windows_in(values: Values, *, slice: str | None = None, long: bool = False) -> Windows | None:
    """The windows of all text or of one slice, or the ends of long documents; None when there are none."""
    windows = values.long if long else values.windows
    return windows.of_slice(slice) if windows and slice is not None else windows


def windows_of(subject: Subject, *, slice: str | None = None, long: bool = False) -> Windows | None:
    """`windows_in` the values of a subject.

    Raises `IntegrityError` for values that are not finite, and for fewer than two windows, which say nothing of their own spread.
    """
    import numpy as np

    windows = windows_in(subject.values, slice=slice, long=long)
    if windows is None:
        return None
    if not (np.isfinite(windows.nll).all() and np.isfinite(windows.kl).all()):
        raise IntegrityError("the values per window carry numbers that are not finite", where=_name(subject), remedy=REMEDY)
    if len(windows.nll) < 2:
        raise IntegrityError("one window says nothing of its own spread", where=_name(subject), remedy="Use more text or shorter windows.")
    return windows


def paired_windows(
    candidate: Subject, reference: Subject, *, slice: str | None = None, long: bool = False
) -> tuple[Windows, Windows] | None:
    """The windows of both, aligned; None when the candidate has none. Raises `IntegrityError` when they are not of the same text."""
    _same_protocol(candidate, reference)
    mine, theirs = windows_of(candidate, slice=slice, long=long), windows_of(reference, slice=slice, long=long)
    if mine is None:
        return None
    if theirs is None or mine.nll.shape != theirs.nll.shape:
        found = "none" if theirs is None else _shape(theirs)
        raise IntegrityError(f"windows do not align: {_shape(mine)} against {found}", where=_name(candidate), remedy=REMEDY)
    if mine.slices != theirs.slices or (mine.bytes != theirs.bytes).any():
        raise IntegrityError("windows do not align: they are of other text", where=_name(candidate), remedy=REMEDY)
    return mine, theirs


class PairedItem(NamedTuple):
    mine: Mapping[str, Any]
    """The candidate's item."""
    theirs: Mapping[str, Any]
    """The reference's."""
    group: Hashable
    """Of `groups_of`."""


def paired_items(candidate: Subject, reference: Subject, *, task: str | None = None, slice: str | None = None) -> list[PairedItem]:
    """Every item of one task, of one slice or of all, as the candidate was asked it.

    A candidate that was stopped at an early look has the items of the first looks only; any other difference raises `IntegrityError`.
    """
    _same_protocol(candidate, reference)
    mine, theirs = ({_key(item): item for item in subject.values.items_of(task=task, slice=slice)} for subject in (candidate, reference))
    stopped = candidate.evaluation.look < candidate.evaluation.looks
    if odd := sorted(mine.keys() - theirs.keys() if stopped else mine.keys() ^ theirs.keys()):
        name, item = odd[0]
        message = f"{len(odd)} task items stand in only one of two evaluations, the first of them {item!r} of {name}"
        raise IntegrityError(message, where=_name(candidate), remedy=REMEDY)
    return [PairedItem(item, theirs[key], group) for (key, item), group in zip(mine.items(), groups_of(mine.values()), strict=True)]


def groups_of(items: Iterable[Mapping[str, Any]]) -> list[Hashable]:
    """What each item shares with others that are not independent of it, whichever task they are of; else the item itself."""
    return [("group", item["group"]) if "group" in item else _key(item) for item in items]


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["task"], item["item"]


def _same_protocol(candidate: Subject, reference: Subject) -> None:
    if candidate.evaluation.protocol != reference.evaluation.protocol:
        raise IntegrityError("the two evaluations followed different protocols", where=_name(candidate), remedy=REMEDY)


def _name(subject: Subject) -> str:
    return f"evaluation {subject.evaluation.key[:12]}"


def _shape(windows: Windows) -> str:
    count, positions = windows.nll.shape
    return f"{count} windows of {positions} tokens"
