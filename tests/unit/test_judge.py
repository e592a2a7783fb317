from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from quant_action.errors import IntegrityError
from quant_action.judge import Choose, judge
from quant_action.metrics.interface import Subject
from quant_action.records import CandidateVerdict, Check, Decision, Failure, GateLimit, Outcome, Override, Verdict
from tests.unit.subjects import subject

WINDOWS, POSITIONS = 24, 31
NLL = np.random.default_rng(0).gamma(2.0, 1.5, (WINDOWS, POSITIONS))
SPREAD = np.linspace(-0.02, 0.02, WINDOWS)[:, None]
"""Of the windows' NLL differences; the 90% interval of their mean is 0.0043 to each side."""
BASELINE = subject(kind="baseline", nll=NLL)
CRASH = Failure(id="x", stage="quantize", kind="OutOfMemory", exit_code=4, message="the GPU's memory is full", remedy=None)


def worse_by(log_ratio: float, *, size: int = 1000, kl: float = 0.02, **more: Any) -> Subject:
    return subject(nll=NLL + log_ratio + SPREAD, kl=np.full(NLL.shape, kl), size=size, **more)


def gate(
    metric: str = "perplexity",
    *,
    limit: float = 1.05,
    vs: Literal["baseline", "release"] | None = "baseline",
    bound: Literal["max", "min"] = "max",
) -> GateLimit:
    return GateLimit(gate=f"{metric}_gate", metric=metric, vs=vs, bound=bound, limit=limit, where="quant.yml:7:3")


def verdict(
    candidates: Mapping[str, Subject | Failure],
    gates: Sequence[GateLimit] = (gate(),),
    *,
    baseline: Subject = BASELINE,
    release: Subject | None = None,
    floor: Subject | None = None,
    looks: tuple[float, ...] = (1.0,),
    overrides: Sequence[Override] = (),
    required: Collection[str] = (),
    choose: Choose = "smallest",
) -> Verdict:
    return judge(
        plan_key="plan",
        gates=dict.fromkeys(candidates, gates),
        baseline=baseline,
        release=release,
        floor=floor,
        looks=looks,
        overrides=overrides,
        candidates=candidates,
        required=required,
        choose=choose,
    )


def one(candidate: Subject | Failure, *gates: GateLimit, **more: Any) -> CandidateVerdict:
    (judged,) = verdict({"x": candidate}, gates, **more).candidates
    return judged


def check(candidate: Subject, limit: GateLimit, **more: Any) -> Check:
    (checked,) = one(candidate, limit, **more).checks
    return checked


GOOD, BAD, UNSURE = worse_by(0.01), worse_by(0.09), worse_by(0.0488)
OUTCOMES = {"good": GOOD, "bad": BAD, "unsure": UNSURE, "crash": CRASH}


@pytest.mark.parametrize(
    ("log_ratio", "outcome", "reason"),
    [
        (0.01, Outcome.PASS, "perplexity ×1.010 [1.006, 1.014] against the baseline is at most ×1.050"),
        (0.09, Outcome.FAIL, "perplexity ×1.094 [1.089, 1.099] against the baseline is above ×1.050"),
    ],
)
def test_an_interval_on_one_side_of_the_limit_decides(log_ratio: float, outcome: Outcome, reason: str) -> None:
    checked = check(worse_by(log_ratio), gate())

    assert (checked.outcome, checked.reason) == (outcome, reason)
    assert (checked.gate, checked.metric, checked.vs, checked.limit, checked.n) == ("perplexity_gate", "perplexity", "baseline", 1.05, 24)
    assert checked.where == "quant.yml:7:3"
    assert checked.value == pytest.approx(np.exp(log_ratio))


def test_an_interval_across_the_limit_is_inconclusive_and_says_what_would_settle_it() -> None:
    checked = check(worse_by(0.046), gate())

    assert checked.outcome is Outcome.INCONCLUSIVE
    # the limit is ln 1.05 - 0.046 = 0.0028 away and the interval reaches 0.0043: (0.0043 / 0.0028)^2 * 24 windows
    assert checked.reason.startswith("perplexity ×1.047 [1.043, 1.052] against the baseline may or may not be above ×1.050; about ")
    windows = int(checked.reason.split("about ")[1].split(" windows would settle it, 24 were measured")[0])
    reach = np.log(checked.interval.high / checked.value) if checked.interval and checked.value else 0.0
    assert windows == pytest.approx(24 * (reach / (np.log(1.05) - 0.046)) ** 2, rel=0.02)


def test_enough_windows_of_the_same_kind_do_settle_it() -> None:
    few = check(worse_by(0.046), gate())
    windows = int(few.reason.split("about ")[1].split(" ")[0])
    times = windows // WINDOWS + 1
    nll = np.tile(NLL, (times, 1))

    many = check(subject(nll=nll + 0.046 + np.tile(SPREAD, (times, 1))), gate(), baseline=subject(kind="baseline", nll=nll))

    assert many.outcome is Outcome.PASS


def test_a_value_on_the_limit_is_never_settled() -> None:
    right = [True] * 50
    baseline = subject(kind="baseline", items={"t": right})
    checked = check(subject(items={"t": right}), gate("accuracy", limit=0.0, bound="min"), baseline=baseline)

    assert checked.outcome is Outcome.INCONCLUSIVE
    assert checked.reason.endswith("it lies on the limit, and no number of items would settle it")


def test_a_value_next_to_the_limit_gets_no_absurd_advice() -> None:
    checked = check(worse_by(0.046), gate(limit=float(np.exp(0.046)) * (1 + 1e-9)))

    assert checked.reason.endswith("it is too near the limit for any practical number of windows to settle it")


@pytest.mark.parametrize(
    ("losses", "n", "outcome", "words"),
    [
        (0, 400, Outcome.PASS, "accuracy +0.00 pp [−0.58, +0.58] against the baseline is at least −1.00 pp"),
        (40, 400, Outcome.FAIL, "is below −1.00 pp"),
        (0, 50, Outcome.INCONCLUSIVE, "may or may not be below −1.00 pp; about 1,001 items would settle it, 50 were measured"),
    ],
)
def test_a_lower_bound_is_the_mirror_image(losses: int, n: int, outcome: Outcome, words: str) -> None:
    baseline = subject(kind="baseline", items={"t": [True] * n})
    candidate = subject(items={"t": [False] * losses + [True] * (n - losses)})

    checked = check(candidate, gate("accuracy", limit=-0.01, bound="min"), baseline=baseline)

    assert checked.outcome is outcome
    assert words in checked.reason


@pytest.mark.parametrize(("size", "outcome"), [(999, Outcome.PASS), (1000, Outcome.PASS), (1001, Outcome.FAIL)])
def test_what_is_exact_is_compared_exactly(size: int, outcome: Outcome) -> None:
    checked = check(subject(size=size), gate("size", limit=1000, vs=None))

    assert checked.outcome is outcome
    assert checked.interval is None


def test_numbers_close_to_the_limit_are_written_so_that_they_differ() -> None:
    checked = check(subject(size=6_000_010_000), gate("size", limit=6e9, vs=None))

    assert checked.reason == "size 6.00001 GB is above 6 GB"


def test_without_a_release_its_gates_do_not_apply() -> None:
    checked = check(GOOD, gate("kl", vs="release", limit=1.1))

    assert checked.outcome is Outcome.NOT_APPLICABLE
    assert (checked.value, checked.interval, checked.n) == (None, None, None)
    assert checked.reason == "KL divergence: there is no release to compare with yet"


def test_with_a_release_its_gates_do() -> None:
    release = worse_by(0.01, kl=0.019)

    assert check(GOOD, gate("kl", vs="release", limit=1.1), release=release).outcome is Outcome.PASS
    assert check(GOOD, gate("kl", vs="release", limit=1.0), release=release).outcome is Outcome.FAIL


def test_what_was_not_measured_does_not_apply() -> None:
    checked = check(GOOD, gate("accuracy", limit=-0.01, bound="min"))

    assert checked.outcome is Outcome.NOT_APPLICABLE
    assert checked.reason == "accuracy: the evaluation measured nothing that gives it"


RELEASE_GATE = gate("kl", vs="release", limit=1.1)
SIZE = {limit: gate("size", limit=limit, vs=None) for limit in (500, 2000)}


@pytest.mark.parametrize(
    ("candidate", "gates", "outcome", "reason"),
    [
        (GOOD, (gate(),), Outcome.PASS, "the one gate that applies passes"),
        (GOOD, (gate(), SIZE[2000]), Outcome.PASS, "all 2 gates that apply pass"),
        (GOOD, (gate(), RELEASE_GATE), Outcome.PASS, "the one gate that applies passes"),
        (GOOD, (gate(), SIZE[500]), Outcome.FAIL, "size 1 kB is above 500 B"),
        (UNSURE, (gate(), SIZE[500]), Outcome.FAIL, "size 1 kB is above 500 B"),
        (UNSURE, (gate(), SIZE[2000]), Outcome.INCONCLUSIVE, "may or may not be above"),
        (GOOD, (RELEASE_GATE,), Outcome.INCONCLUSIVE, "none of its gates applies, so nothing speaks for it"),
        (GOOD, (), Outcome.INCONCLUSIVE, "no gate was set for it"),
        (CRASH, (gate(),), Outcome.NOT_EVALUATED, "quantize failed: the GPU's memory is full"),
    ],
)
def test_a_candidate_is_as_good_as_its_worst_gate(
    candidate: Subject | Failure, gates: Sequence[GateLimit], outcome: Outcome, reason: str
) -> None:
    judged = one(candidate, *gates)

    assert judged.outcome is outcome
    assert reason in judged.reason


@pytest.mark.parametrize(
    ("ids", "required", "decision", "reason"),
    [
        (["good", "bad", "unsure", "crash"], [], Decision.APPROVED, "good alone passes"),
        (["good", "bad"], ["good"], Decision.APPROVED, "good alone passes"),
        (["good", "bad"], ["bad"], Decision.REJECTED, "required, and failed or not evaluated: bad"),
        (["good", "crash"], ["crash"], Decision.REJECTED, "required, and failed or not evaluated: crash"),
        (["good"], ["absent"], Decision.REJECTED, "required, and failed or not evaluated: absent"),
        (["good", "unsure"], ["unsure"], Decision.INCONCLUSIVE, "required, and not settled: unsure"),
        (["bad", "unsure", "crash"], [], Decision.INCONCLUSIVE, "none passes, not settled: unsure"),
        (["bad", "unsure"], ["bad"], Decision.REJECTED, "required, and failed or not evaluated: bad"),
        (["bad"], [], Decision.REJECTED, "no candidate passes its gates"),
        (["crash"], [], Decision.REJECTED, "no candidate passes its gates"),
        ([], [], Decision.REJECTED, "no candidate passes its gates"),
    ],
)
def test_the_run_is_decided_by_its_candidates(ids: list[str], required: list[str], decision: Decision, reason: str) -> None:
    judged = verdict({id: OUTCOMES[id] for id in ids}, required=required)

    assert (judged.decision, judged.reason) == (decision, reason)
    assert judged.winner == ("good" if decision is Decision.APPROVED else None)
    assert [candidate.id for candidate in judged.candidates] == list(dict.fromkeys([*ids, *required]))
    assert [candidate.id for candidate in judged.candidates if candidate.required] == required


@pytest.mark.parametrize(
    ("choose", "winner", "reason"),
    [
        ("smallest", "small", "small is the smallest of 4 candidates that pass"),
        ("most-accurate", "sharp", "sharp is the nearest to the baseline of 4 candidates that pass"),
        ("least-memory", "lean", "lean is the least hungry for memory of 4 candidates that pass"),
    ],
)
def test_the_winner_is_chosen_among_those_that_pass(choose: Choose, winner: str, reason: str) -> None:
    candidates = {
        "same-size": worse_by(0.01, size=500, kl=0.03),
        "small": worse_by(0.01, size=500, kl=0.02),
        "sharp": worse_by(0.01, size=800, kl=0.01),
        "lean": worse_by(0.01, size=700, kl=0.03, peak_memory=1),
        "best but failing": worse_by(0.09, size=1, kl=0.0, peak_memory=0),
    }

    judged = verdict(candidates, choose=choose)

    assert (judged.winner, judged.reason) == (winner, reason)


def test_a_full_tie_goes_to_the_id_that_sorts_first() -> None:
    assert verdict({"b": GOOD, "a": GOOD, "c": GOOD}).winner == "a"


def test_a_model_against_itself_passes_any_sane_gate() -> None:
    items = {"t": [True, False] * 1000}
    baseline = subject(kind="baseline", nll=NLL, items=items, size=1000)
    same = subject(nll=NLL, items=items, size=1000)
    gates = [
        gate("perplexity", limit=1.001),
        gate("kl", limit=0.001),
        gate("kl_p99", limit=0.001),
        gate("kl", vs="release", limit=1.1),
        gate("top1", limit=0.99, bound="min"),
        gate("accuracy", limit=-0.01, bound="min"),
        gate("accuracy:t", vs="release", limit=-0.01, bound="min"),
        gate("size", limit=1.0),
    ]

    judged = one(same, *gates, baseline=baseline, release=same)

    assert {checked.outcome for checked in judged.checks} == {Outcome.PASS}
    assert judged.reason == "all 8 gates that apply pass"


def test_evaluations_of_different_protocols_are_never_judged_together() -> None:
    with pytest.raises(IntegrityError, match="different protocols"):
        one(worse_by(0.01, protocol="another"), gate())


def test_judging_again_gives_the_same_verdict_to_the_last_bit() -> None:
    candidates = dict(OUTCOMES)
    gates = [gate(), gate("kl", limit=0.1), gate("kl_p99", limit=0.1, vs="release"), gate("size", limit=1e9, vs=None)]

    first, again = (verdict(candidates, gates, release=worse_by(0.02), required=["good"]) for _ in range(2))

    assert first.to_json() == again.to_json()
    assert Verdict.from_json(first.to_json(), where="verdict.json") == first
