"""Which items of a task are asked, and what the harness's samples say of them. Pure; `worker.py` runs the harness."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, SupportsFloat

from quant_action.errors import DataError
from quant_action.portions import fixed_order, portion

MOST_TEXT = 400
"""Characters of a prompt or an answer that are kept."""


def asked_items(ids: Sequence[str], *, limit: int | None, share_from: float = 0.0, share_to: float = 1.0) -> list[int]:
    """Indices of the items to ask, rising: of the first `limit` (or all) in the fixed order, those from one share to another."""
    kept = sorted(fixed_order(ids)[:limit])
    return [kept[place] for place in portion([ids[index] for index in kept], after=share_from, upto=share_to)]


def items_of(
    task: str, samples: Sequence[Mapping[str, Any]], ids: Mapping[int, str], *, metric: str | None, hash_only: bool
) -> list[dict[str, Any]]:
    """One value per item (see `values.py`) from what the harness logs, a sample for each item and filter; `ids` are by `doc_id`.

    `metric` may name its filter too, as in `exact_match,strict-match`; without one the first that is right or wrong for each item is taken.
    Raises `DataError` naming what there is.
    """
    by_filter = {name: list(group) for name, group in groupby(samples, key=itemgetter("filter"))}
    name, chosen = _chosen_metric(task, by_filter, metric)
    return [_item(task, sample, ids[sample["doc_id"]], name, hash_only=hash_only) for sample in by_filter[chosen]]


def _chosen_metric(task: str, samples: Mapping[str, list[Mapping[str, Any]]], asked: str | None) -> tuple[str, str]:
    """(metric, filter): the first that fits what was asked, in the harness's own order.

    Without a wish only names are looked at, so that every model is measured by the same metric whatever its answers are.
    """
    there = [(metric, chosen) for chosen, found in samples.items() for metric in found[0]["metrics"]]
    fitting = [
        pair for pair in there if asked in (pair[0], ",".join(pair)) or (asked is None and pair[0].startswith(("acc", "exact_match")))
    ]
    named = ", ".join(",".join(pair) for pair in there)
    if not fitting:
        wish = f"has no metric {asked!r}" if asked else "has no metric that is known to be right or wrong for each item"
        raise DataError(f"task {task} {wish}; it has: {named}", remedy="Name one of them: metric: NAME, or metric: NAME,FILTER.")
    metric, chosen = fitting[0]
    odd = next((sample for sample in samples[chosen] if _right(sample[metric]) is None), None)
    if odd is not None:
        raise DataError(
            f"task {task}: {metric} of item {odd['doc_id']} is {odd[metric]!r}, and only what is 0 or 1 for each item can be judged",
            remedy=f"Name another: {named}.",
        )
    return metric, chosen


def _right(value: object) -> bool | None:
    """None for what is neither 0 nor 1."""
    number = float(value) if isinstance(value, SupportsFloat) and not isinstance(value, str) else None
    return bool(number) if number in (0.0, 1.0) else None


def _item(task: str, sample: Mapping[str, Any], item: str, metric: str, *, hash_only: bool) -> dict[str, Any]:
    arguments, responses = sample["arguments"], sample["filtered_resps"]
    prompt, target = str(arguments[0][0]), sample["target"]
    kept = {"task": task, "item": item, "correct": _right(sample[metric]), "doc": sample["doc_hash"][:16]}
    wording: dict[str, Any] = {}
    if isinstance(responses[0], tuple | list):  # (log-likelihood, is the greedy continuation), one for each choice
        unconditional = len(responses) // 2 if "acc_mutual_info" in sample["metrics"] else 0  # as many again, without the prompt
        scores = [float(score) for score, _ in responses[: len(responses) - unconditional]]
        best = scores.index(max(scores))
        answered, expected = arguments[best][1], arguments[target][1] if isinstance(target, int) else target
        if metric == "acc" and len(scores) > 1:
            kept["answer"] = best
            wording["scores"] = scores
    else:
        answered, expected = sample["resps"][0][0], target
        wording["output"] = str(answered)
    if hash_only:
        return kept | {"prompt_sha256": _sha256(prompt), "answered_sha256": _sha256(f"{prompt}\0{answered}")}
    end = prompt if len(prompt) <= MOST_TEXT else "…" + prompt[1 - MOST_TEXT :]  # what is before it are instructions and examples
    return kept | wording | {"prompt": end, "expected": _cut(str(expected)), "answered": _cut(str(answered))}


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
