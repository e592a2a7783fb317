"""How much of a report a comment shows, so that it fits: what gives way first, and the words that say so."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 65_536 - 1_024
"""UTF-8 bytes. GitHub refuses a comment of more than 65,536; the rest is for whoever posts it."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    samples: int = 12
    """Regressed items that are shown in full."""
    parts: bool = True
    """Whether the table per task and slice is shown."""
    folds: bool = True
    """Whether the other tables in folds are."""
    candidates: int = 40
    """In tables and plots."""
    remarks: int = 60
    """Objections, warnings, overrides and void gates, of each."""
    method: bool = True

    @property
    def note(self) -> str:
        """What is missing because of this shape."""
        full = Shape()
        missing = [
            "samples" if self.samples < full.samples else "",
            "the table per task" if not self.parts else "",
            "tables of gates, comparisons and cost" if not self.folds else "",
            "candidates" if self.candidates < full.candidates else "",
            "remarks" if self.remarks < full.remarks else "",
            "the method" if not self.method else "",
        ]
        return f"_Shortened to fit a comment ({', '.join(filter(None, missing))}): the rest is in the HTML report._"


SHAPES = (
    Shape(),
    *(Shape(samples=samples) for samples in (8, 4, 2, 0)),
    Shape(samples=0, parts=False),
    Shape(samples=0, parts=False, folds=False),
    *(Shape(samples=0, parts=False, folds=False, candidates=most, remarks=most) for most in (20, 10, 5)),
    Shape(samples=0, parts=False, folds=False, candidates=3, remarks=3, method=False),
)
"""The first that fits is taken; texts are bounded, so the last always does."""
