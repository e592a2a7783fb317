"""Items that a candidate answers worse than the baseline, or differently: what a reviewer reads to see what the numbers mean."""

from __future__ import annotations

from typing import Any

from quant_action.formats.interface import Regression, Regressions
from quant_action.metrics.interface import Subject

MOST = 300
"""Items of one candidate that a report carries."""

DIGITS = 16
"""Of a digest."""

DEGENERATE = {"loop": "loops", "empty": "is empty", "no end": "does not end"}


def regressions_of(id: str, candidate: Subject, baseline: Subject) -> Regressions:
    """Of the items that both have: a candidate that was stopped at an early look has fewer."""
    known = {(item["task"], item["item"]): item for item in baseline.values.items}
    pairs = [(known[key], item) for item in candidate.values.items if (key := (item["task"], item["item"])) in known]
    changed = [(before, after) for before, after in pairs if _lost(before, after) or _rewritten(before, after)]
    return Regressions(
        id=id,
        n=len(pairs),
        lost=sum(_lost(before, after) for before, after in pairs),
        gained=sum(after["correct"] and not before["correct"] for before, after in pairs),
        rewritten=sum(before["correct"] == after["correct"] for before, after in changed),
        worst=tuple(_regression(before, after) for before, after in _worst_first(changed)[:MOST]),
    )


def _lost(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(before["correct"] and not after["correct"])


def _rewritten(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """A generation that became another; a choice that is wrong in another way says little."""
    return _is_generation(after) and before["correct"] == after["correct"] and _answer(before) != _answer(after)


def _is_generation(item: dict[str, Any]) -> bool:
    return "output" in item or "ended" in item


def _answer(item: dict[str, Any]) -> Any:
    """What tells two answers apart, whichever way samples are kept."""
    return next((item[key] for key in ("answered_sha256", "output", "answer", "answered") if key in item), None)


def _worst_first(changed: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Right -> wrong first; in each task the largest loss first, and tasks take turns, since what their values count differs."""
    ordered = sorted(changed, key=lambda pair: (not _lost(*pair), -_damage(*pair)))
    turns: dict[tuple[str, bool], int] = {}
    keyed = []
    for before, after in ordered:
        kind = (after["task"], _lost(before, after))
        turns[kind] = turns.get(kind, 0) + 1
        keyed.append(((not kind[1], turns[kind], after["task"]), (before, after)))
    return [pair for _, pair in sorted(keyed, key=lambda entry: entry[0])]


def _damage(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Nats by which the right choice fell behind; of generations, one that broke off counts most, then the one that parts early."""
    if (margins := _margins(before, after)) is not None:
        return margins[0] - margins[1]
    broke = bool(after.get("degenerate")) and not before.get("degenerate")
    parts = _first_difference(before, after)
    return broke + (1 / (2 + parts) if parts is not None else 0.0)


def _margins(before: dict[str, Any], after: dict[str, Any]) -> tuple[float, float] | None:
    """Log-likelihood of the baseline's right choice above the best other, of baseline and candidate."""
    if not before["correct"] or "scores" not in before or "scores" not in after or not isinstance(before.get("answer"), int):
        return None
    right = before["answer"]

    def margin(scores: list[float]) -> float:
        return float(scores[right] - max(score for index, score in enumerate(scores) if index != right))

    return margin(before["scores"]), margin(after["scores"])


def _first_difference(before: dict[str, Any], after: dict[str, Any]) -> int | None:
    """Index of the first generated token that differs, from 0; None without tokens, or where all are the same."""
    mine, theirs = after.get("ids"), before.get("ids")
    if mine is None or theirs is None or mine == theirs:
        return None
    shared = min(len(mine), len(theirs))
    return next((index for index in range(shared) if mine[index] != theirs[index]), shared)


def _note(before: dict[str, Any], after: dict[str, Any]) -> str:
    notes = []
    if (margins := _margins(before, after)) is not None:
        notes.append(f"right choice ahead by {margins[0]:.2f} nats, now by {margins[1]:.2f}".replace("-", "−"))
    if (index := _first_difference(before, after)) is not None:
        notes.append(f"first difference at token {index + 1}")
    if (kind := after.get("degenerate")) and not before.get("degenerate"):
        notes.append(DEGENERATE.get(kind, str(kind)))
    return ", ".join(notes)


def _regression(before: dict[str, Any], after: dict[str, Any]) -> Regression:
    hashed = "prompt_sha256" in after

    def text(item: dict[str, Any], key: str) -> str | None:
        if hashed:
            return f"sha256 {item[f'{key}_sha256'][:DIGITS]}" if f"{key}_sha256" in item else None
        return None if item.get(key) is None else str(item[key])

    return Regression(
        task=after["task"],
        item=after["item"],
        slice=after.get("slice") or "",
        lost=_lost(before, after),
        note=_note(before, after),
        hashed=hashed,
        prompt=text(after, "prompt"),
        expected=text(after, "expected"),
        before=text(before, "answered") or (None if hashed else text(before, "output")),
        after=text(after, "answered") or (None if hashed else text(after, "output")),
    )
