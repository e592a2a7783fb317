"""Whether what will be measured can settle what the gates ask: told before any GPU time is spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import NormalDist

from quant_action.findings import Finding, ok, warning
from quant_action.gates import TASKS, Measured, gate_limits
from quant_action.inputs import Inputs
from quant_action.metrics.intervals import LEAST_WINDOWS, bonett_price
from quant_action.metrics.looks import looks_level, looks_quantile
from quant_action.records import GateLimit, Job, Plan
from quant_action.spec import LoadedSpec

PLANNED_FLIPS = 0.05
"""Share of items whose answer a 4-bit candidate changes, for planning; the 160 items of SmolLM2-135M's first measurement had 0.08."""

PLANNED_BREAKS = 0.01
"""Share of generations that loop or do not end for one of two models only, for planning; assumed."""

POWER = 0.80
"""Of the cases in which a candidate that loses nothing shall pass: the usual of sample sizes."""

LISTED = 4
"""Tripwires that are named one by one."""

NEEDS = {
    "perplexity_ratio": "text",
    "kl": "text",
    "kl_ratio": "text",
    "kl_p99_ratio": "text",
    "kl_long": "long_text",
    "top1": "text",
    "accuracy": "tasks",
    TASKS: "tasks",
    "degenerate": "tasks of kind generate",
}
"""Gate -> what of `evaluation` it looks at."""


def planned_of(plan: Plan, inputs: Inputs) -> Measured:
    """What a plan is going to measure. Of a task with a limit, slices are taken to keep their share of the items.

    How many items a task of the harness's suite has is known when it is loaded: until then as many as it is limited to, or none.
    """
    tasks = {task.id: min(task.limit or inputs.tasks[task.id].rows, inputs.tasks[task.id].rows) for task in plan.protocol.tasks}
    slices = Counter[str]()
    for task, items in tasks.items():
        for name, rows in inputs.tasks[task].slices.items():
            slices[name] += max(1, rows * items // inputs.tasks[task].rows)
    for harness in plan.protocol.harness:
        has = inputs.harness[harness.id].items if harness.digest else harness.limit or 0
        tasks[harness.id] = min(harness.limit or has, has)
    return Measured(
        text=plan.protocol.text is not None,
        tasks=tasks,
        slices=slices,
        generations=sum(tasks[task.id] for task in plan.protocol.tasks if task.kind == "generate"),
        documents=inputs.long_text.rows if inputs.long_text else 0,
    )


def evidence_findings(loaded: LoadedSpec, jobs: Sequence[Job], measured: Measured, *, text_tokens: int) -> list[Finding]:
    """Whether windows and items are enough, and the smallest margin that they resolve, for every gate that looks at items."""
    looks = loaded.spec.evaluation.looks
    limits = list(dict.fromkeys(limit for job in jobs for limit in gate_limits(loaded, job.scheme.bits, measured)))
    tripwires: dict[tuple[str | None, float], list[GateLimit]] = {}
    for limit in limits:
        if limit.family:
            tripwires.setdefault((limit.vs, limit.limit), []).append(limit)
    return [
        *_few_windows(loaded, measured, text_tokens),
        *_nothing_measured(loaded, measured),
        *(_margin_finding(limit, measured.items, PLANNED_FLIPS, looks) for limit in limits if limit.gate == "accuracy" and measured.items),
        *(
            _margin_finding(limit, measured.generations, PLANNED_BREAKS, looks)
            for limit in limits
            if limit.gate == "degenerate" and measured.generations
        ),
        *(_tripwire_finding(family, measured, looks) for family in tripwires.values()),
    ]


def resolvable_margin(items: int, *, changes: float = PLANNED_FLIPS, looks: Sequence[float] = (1.0,)) -> float:
    """The smallest margin that a candidate which loses nothing passes in 80% of the cases.

    The paired difference of two shares has the variance changes / items, and its interval must end above -margin:
    margin = (z + z_0.80) sqrt(changes / items), with z of all looks (1.645 of one): the usual size of a non-inferiority test, by the normal
    approximation. For items that are independent; where they come in groups, changes may clump, and the margin is larger.
    """
    return (looks_quantile(looks) + NormalDist().inv_cdf(POWER)) * math.sqrt(changes / items)


def _few_windows(loaded: LoadedSpec, measured: Measured, text_tokens: int) -> Iterator[Finding]:
    text = loaded.spec.evaluation.text
    if measured.text and text and text_tokens // text.window < LEAST_WINDOWS:
        yield warning(
            "text",
            f"about {text_tokens // text.window} windows of {text.window} tokens: gates on perplexity and divergence settle nothing",
            where=loaded.where("evaluation", "text"),
            remedy=f"Give more text, or a shorter window: {LEAST_WINDOWS} windows are the least that a gate is judged by.",
        )
    if 0 < measured.documents < LEAST_WINDOWS:
        yield warning(
            "long_text",
            f"{measured.documents} documents: a gate on kl_long settles nothing",
            where=loaded.where("evaluation", "long_text"),
            remedy=f"Give more long documents: {LEAST_WINDOWS} are the least that a gate is judged by.",
        )


def _nothing_measured(loaded: LoadedSpec, measured: Measured) -> Iterator[Finding]:
    there = {
        "text": measured.text,
        "long_text": measured.documents > 0,
        "tasks": measured.items > 0,
        "tasks of kind generate": measured.generations > 0,
    }
    for gate, needed in NEEDS.items():
        if loaded.spec.gates and getattr(loaded.spec.gates, gate) is not None and not there[needed]:
            message = f"there is a gate on {gate}, and no {needed} to measure it: it will not apply"
            remedy = f"Give evaluation.{needed.split(' ')[0]}, or take the gate out."
            yield warning(gate, message, where=loaded.where("gates", gate), remedy=remedy)


def _margin_finding(limit: GateLimit, items: int, changes: float, looks: Sequence[float]) -> Finding:
    margin, resolved = abs(limit.limit), resolvable_margin(items, changes=changes, looks=looks)
    after = f", after {len(looks)} looks" if len(looks) > 1 else ""
    said = f"{items:,} items resolve a loss of about {_points(resolved)} (where {changes:.0%} of the answers change{after})"
    asked = f"the gate's margin against the {limit.vs} is {_points(margin)}"
    remedy = f"Give about {_enough(items, resolved, margin):,} items, or a margin of {_points(resolved, up=True)}"
    remedy += "; divergence (kl, top1) needs far fewer." if limit.gate == "accuracy" else "."
    if -bonett_price(gains=0, losses=0, n=items, level=looks_level(looks)).low >= margin:
        never = (
            f"a margin of {_points(margin)} against the {limit.vs} can never pass with {items:,} items, not even where no answer changes"
        )
        return warning(limit.gate, f"{never}; {said}", where=limit.where, remedy=remedy)
    if resolved > margin:
        return warning(limit.gate, f"{said}; {asked}, so it will often be inconclusive", where=limit.where, remedy=remedy)
    return ok(limit.gate, f"{said}; {asked}")


def _tripwire_finding(family: Sequence[GateLimit], measured: Measured, looks: Sequence[float]) -> Finding:
    """One for all: what each resolves, those that resolve least first."""
    margin, vs, where = abs(family[0].limit), family[0].vs, family[0].where
    items = {limit.metric.removeprefix("accuracy")[1:]: _items_of(limit, measured) for limit in family}
    resolved = {name: resolvable_margin(n, looks=looks) for name, n in sorted(items.items(), key=lambda one: (one[1], one[0]))}
    blind = {name: least for name, least in resolved.items() if least > margin}
    shown = list((blind or resolved).items())
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    said = ", ".join(f"{name} {_points(least)} ({items[name]:,} items)" for name, least in shown[:LISTED]) + more
    asked = f"the margin against the {vs} is {_points(margin)}"
    if not blind:
        return ok(TASKS, f"{asked}; a loss that can be resolved on {said}")
    most = max(_enough(items[name], least, margin) for name, least in blind.items())
    return warning(
        TASKS,
        f"{asked}, and these resolve only a larger loss: {said}; their tripwires will often stay open, which never blocks, and seldom trip",
        where=where,
        remedy=f"Give each task and slice about {most:,} items, or a margin of {_points(max(blind.values()), up=True)}.",
    )


def _items_of(limit: GateLimit, measured: Measured) -> int:
    by, name = limit.metric.removeprefix("accuracy")[0], limit.metric.removeprefix("accuracy")[1:]
    return measured.tasks[name] if by == ":" else measured.slices[name]


def _enough(items: int, resolved: float, margin: float) -> int:
    return math.ceil(items * (resolved / margin) ** 2)


def _points(share: float, *, up: bool = False) -> str:
    """In percentage points; `up` for a number that must be large enough."""
    return f"{math.ceil(round(1000 * share, 6)) / 10 if up else 100 * share:.1f} pp"
