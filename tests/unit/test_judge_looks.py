"""Candidates that are asked look by look: how certain each look must be, when to go on, and what a stopped one may lack."""

from __future__ import annotations

import re

import pytest

from quant_action.errors import IntegrityError
from quant_action.judge import judge, undecided
from quant_action.metrics import metric
from quant_action.metrics.interface import Subject
from quant_action.metrics.intervals import bonett_price
from quant_action.metrics.looks import looks_level
from quant_action.records import CandidateVerdict, Decision, GateLimit, Outcome, Verdict
from tests.unit.subjects import subject

LOOKS = (0.25, 0.5, 1.0)
N = 2000
BASELINE = subject(kind="baseline", items={"t": [True] * N})
ACCURACY = GateLimit(gate="accuracy", metric="accuracy", vs="baseline", bound="min", limit=-0.01, where=None)
SIZE = GateLimit(gate="size", metric="size", vs=None, bound="max", limit=500, where=None)
TRIPWIRE = ACCURACY.model_copy(update={"gate": "tasks", "metric": "accuracy:t", "limit": -0.03, "family": "tasks"})


def at_look(look: int, losses: int, *, size: int = 100) -> Subject:
    n = int(N * LOOKS[look - 1])
    return subject(items={"t": [False] * losses + [True] * (n - losses)}, look=look, looks=3, size=size)


def verdict(candidate: Subject, *gates: GateLimit, looks: tuple[float, ...] = LOOKS) -> Verdict:
    return judge(
        plan_key="p",
        gates={"x": gates},
        baseline=BASELINE,
        release=None,
        floor=None,
        candidates={"x": candidate},
        required=(),
        choose="smallest",
        looks=looks,
    )


def judged(candidate: Subject, *gates: GateLimit, looks: tuple[float, ...] = LOOKS) -> CandidateVerdict:
    return verdict(candidate, *gates, looks=looks).candidates[0]


def test_a_gate_on_items_asks_for_more_certainty_at_every_look() -> None:
    (check,) = judged(at_look(1, 0), ACCURACY).checks
    assert check.interval == bonett_price(gains=0, losses=0, n=500, level=looks_level(LOOKS))
    assert check.interval.level == pytest.approx(0.9564, abs=1e-4)
    assert (check.outcome, check.look) == (Outcome.PASS, 1)
    assert check.reason == "accuracy +0.00 pp [−0.57, +0.57] against the baseline is at least −1.00 pp, after look 1 of 3"


def test_the_last_look_is_no_less_strict() -> None:
    one, last = judged(at_look(3, 9), ACCURACY, looks=(1.0,)), judged(at_look(3, 9), ACCURACY)
    assert (one.outcome, last.outcome) == (Outcome.PASS, Outcome.PASS)
    assert last.checks[0].interval is not None
    assert one.checks[0].interval is not None
    assert last.checks[0].interval.low < one.checks[0].interval.low
    assert (one.checks[0].look, last.checks[0].look) == (None, 3)


def test_what_was_asked_at_once_is_at_the_last_look() -> None:
    whole = subject(items={"t": [True] * N})
    assert judged(whole, ACCURACY).checks[0].look == 3
    assert judged(whole, ACCURACY).reason == "the one gate that applies passes"


def test_gates_that_look_once_keep_their_level() -> None:
    nll = [[1.0, 2.0]] * 30
    baseline, text = subject(kind="baseline", nll=nll), subject(nll=nll, look=1, looks=3)
    gate = GateLimit(gate="perplexity_ratio", metric="perplexity", vs="baseline", bound="max", limit=1.05, where=None)
    found = judge(
        plan_key="p",
        gates={"x": [gate]},
        baseline=baseline,
        release=None,
        floor=None,
        candidates={"x": text},
        required=(),
        choose="smallest",
        looks=LOOKS,
    )
    (check,) = found.candidates[0].checks
    assert check.interval is not None
    assert (check.interval.level, check.look) == (0.9, None)
    assert found.looks == LOOKS


@pytest.mark.parametrize(
    ("losses", "gates", "go_on"),
    [
        (4, [ACCURACY], True),
        (0, [ACCURACY], False),
        (30, [ACCURACY], False),
        (4, [ACCURACY, SIZE], False),
        (4, [ACCURACY, SIZE.model_copy(update={"level": "warn"})], True),
        (4, [ACCURACY.model_copy(update={"level": "warn"})], False),
        (12, [TRIPWIRE], True),
        (0, [TRIPWIRE], False),
        (4, [], False),
    ],
    ids=["open", "passed", "failed", "failed by size", "warned of size", "only a warning", "a tripwire open", "none open", "no gate"],
)
def test_a_candidate_goes_on_while_a_gate_on_items_is_open_and_none_has_failed(losses: int, gates: list[GateLimit], go_on: bool) -> None:
    assert undecided(judged(at_look(1, losses, size=1000), *gates).checks) is go_on


def test_more_items_never_settle_windows() -> None:
    few = subject(kind="baseline", nll=[[1.0, 2.0]] * 5)
    gate = GateLimit(gate="kl", metric="kl", vs="baseline", bound="max", limit=0.1, where=None)
    found = judge(
        plan_key="p",
        gates={"x": [gate]},
        baseline=few,
        release=None,
        floor=None,
        candidates={"x": subject(nll=[[1.0, 2.0]] * 5)},
        required=(),
        choose="smallest",
        looks=LOOKS,
    )
    assert found.candidates[0].outcome is Outcome.INCONCLUSIVE
    assert not undecided(found.candidates[0].checks)


def test_an_in_between_candidate_on_few_items_says_how_many_would_settle_it() -> None:
    found = verdict(at_look(1, 9), ACCURACY.model_copy(update={"limit": -0.02}))
    (check,) = found.candidates[0].checks
    assert found.decision is Decision.INCONCLUSIVE
    assert check.outcome is Outcome.INCONCLUSIVE
    assert check.needed is not None
    assert check.n == 500 < check.needed
    assert re.search(rf"about {check.needed:,} items would settle it, 500 were measured, after look 1 of 3$", check.reason)
    as_many = bonett_price(gains=0, losses=round(9 / 500 * check.needed), n=check.needed, level=looks_level(LOOKS))
    assert as_many.low == pytest.approx(-0.02, abs=3e-4)


def test_a_candidate_that_was_stopped_may_lack_later_items_and_no_other_may() -> None:
    stopped = at_look(1, 0)
    whole = subject(items={"t": [True] * 500})
    assert metric("accuracy").compare(stopped, BASELINE) is not None
    with pytest.raises(IntegrityError, match="1500 task items stand in only one"):
        metric("accuracy").compare(whole, BASELINE)
    finished = subject(items={"t": [True] * 500}, look=3, looks=3)
    with pytest.raises(IntegrityError, match="1500 task items stand in only one"):
        metric("accuracy").compare(finished, BASELINE)


def test_a_stopped_candidate_never_has_an_item_that_the_reference_lacks() -> None:
    with pytest.raises(IntegrityError, match="500 task items stand in only one of two evaluations, the first of them '0' of other"):
        metric("accuracy").compare(subject(items={"other": [True] * 500}, look=1, looks=3), BASELINE)


def test_looks_of_another_plan_are_refused() -> None:
    with pytest.raises(IntegrityError, match="x was stopped at look 1 of 3, and the plan has 1"):
        judged(at_look(1, 0), ACCURACY, looks=(1.0,))
