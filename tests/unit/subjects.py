"""Measured models made of given values, for the tests of metrics and judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from quant_action.metrics import measure_all
from quant_action.metrics.interface import Subject
from quant_action.records import Evaluation
from quant_action.values import Values, Windows


def subject(
    *,
    kind: Literal["baseline", "floor", "release", "candidate"] = "candidate",
    nll: Any = None,
    kl: Any = None,
    top1: Any = None,
    bytes: Any = None,
    slices: Sequence[str] | None = None,
    long_kl: Any = None,
    items: Mapping[str, Sequence[bool | Mapping[str, Any]]] | None = None,
    size: int = 1000,
    peak_memory: int = 5000,
    peak_gpu_memory: int | None = None,
    protocol: str = "p",
    artifact: str = "a" * 64,
    look: int = 1,
    looks: int = 1,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Subject:
    """Windows where one of `nll`, `kl`, `top1` [windows, positions] is given (the others are then those of a baseline); answers by task,
    each a bool, or what an item has beside its names. `groups` names the group of each item, by task.
    """
    given = next((np.asarray(values) for values in (nll, kl, top1) if values is not None), None)
    windows = None
    if given is not None:
        windows = Windows(
            nll=np.ones(given.shape) if nll is None else np.asarray(nll, dtype=np.float64),
            kl=np.zeros(given.shape) if kl is None else np.asarray(kl, dtype=np.float64),
            top1=np.ones(given.shape, dtype=bool) if top1 is None else np.asarray(top1, dtype=bool),
            bytes=np.full(len(given), 4 * given.shape[1]) if bytes is None else np.asarray(bytes),
            slices=("",) * len(given) if slices is None else tuple(slices),
        )
    long = None
    if long_kl is not None:
        ends = np.asarray(long_kl, dtype=np.float64)
        same = np.ones(ends.shape)
        long = Windows(nll=same, kl=ends, top1=same > 0, bytes=np.full(len(ends), 4), slices=("",) * len(ends))
    answers = [(task, str(item), answer) for task, of_task in (items or {}).items() for item, answer in enumerate(of_task)]
    rows = tuple(
        {"task": task, "item": item}
        | ({"correct": True, **answer} if isinstance(answer, Mapping) else {"correct": bool(answer)})
        | ({"group": groups[task][int(item)]} if groups else {})
        for task, item, answer in answers
    )
    values = Values(windows=windows, long=long, items=rows)
    evaluation = Evaluation(
        key="k",
        subject=kind,
        artifact=artifact,
        protocol=protocol,
        size=size,
        metrics=measure_all(values),
        seconds=1.0,
        peak_memory=peak_memory,
        peak_gpu_memory=peak_gpu_memory,
        look=look,
        looks=looks,
        device="cpu",
        versions={},
    )
    return Subject(evaluation=evaluation, values=values)
