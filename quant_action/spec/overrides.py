"""`overrides`: somebody's word against a gate's, for one artifact."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from quant_action.spec.gates import Gates
from quant_action.spec.types import Id, SpecModel

TRIPWIRE = re.compile(r"accuracy[:@].+")


def _gate(value: str) -> str:
    if value not in Gates.model_fields and not TRIPWIRE.fullmatch(value):
        raise ValueError(f"expected a gate ({', '.join(Gates.model_fields)}), or of tasks one alone: accuracy:TASK or accuracy@SLICE")
    return value


def _quoted(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("expected 12 to 64 hex digits; quote them, they look like a number")
    return value


def _visible(value: str) -> str:
    if any(unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp") for char in value):
        raise ValueError("expected one line of visible characters")
    return value


class Override(SpecModel):
    """Lets one artifact of a candidate pass a gate that it fails or leaves open. Every later report shows it.

    A line stays after its artifact is gone, as a record: so the candidate need not exist any more, and another artifact of the same
    candidate is judged as if it were not there.
    """

    candidate: Id
    gate: Annotated[str, StringConstraints(max_length=200), AfterValidator(_gate), AfterValidator(_visible)]
    """As in `gates`; of `tasks` also one alone, by its metric: `accuracy:TASK` or `accuracy@SLICE`."""
    artifact: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12,64}$"), BeforeValidator(_quoted, json_schema_input_type=str)]
    """Digest of the artifact's manifest, as the report gives it, or at least its first 12 hex digits."""
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_visible)]
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_visible)]
