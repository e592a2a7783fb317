"""Somebody's word against a gate's."""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.records import Check, Outcome, Override

OVERRIDABLE = (Outcome.FAIL, Outcome.INCONCLUSIVE)
"""What was measured, and decides against the artifact. Nobody's word stands for a measurement that was not made, or that is void."""


def overridden(checks: Sequence[Check], overrides: Sequence[Override], *, candidate: str, artifact: str) -> tuple[Check, ...]:
    """The checks, each that decides and has an override with the first of them. An override of another artifact is a thing of the past."""
    present = [override for override in overrides if override.candidate == candidate and artifact.startswith(override.artifact)]

    def of(check: Check) -> Override | None:
        if check.outcome not in OVERRIDABLE or check.level == "warn":
            return None
        return next((override for override in present if _names(override, check)), None)

    return tuple(check.model_copy(update={"override": of(check)}) for check in checks)


def _names(override: Override, check: Check) -> bool:
    """By the gate; of a family of tripwires also one alone, by its metric."""
    return override.gate == check.gate or (check.family is not None and override.gate == check.metric)
