"""What `quant-action check` has to say: a list of findings, each with what, where and what to do."""

from __future__ import annotations

from typing import ClassVar, Literal

from quant_action.errors import QuantActionError
from quant_action.records import Record, Value


class Finding(Value):
    subject: str
    """What was looked at: `spec`, `candidate gptq-w4`, `GPU`, ..."""
    level: Literal["ok", "warning", "error"]
    message: str
    where: str | None = None
    """`file:line:column`, a file or a folder."""
    remedy: str | None = None
    """What to do about it."""
    exit_code: int = 0
    """That a run would end with (see `errors.py`); 0 for what does not stop it."""


class Findings(Record):
    SCHEMA: ClassVar[str] = "quant_action.check/v1"

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """2 where the inputs are at fault, whatever else is; else the first error's; 0 without errors."""
        codes = [finding.exit_code for finding in self.findings if finding.level == "error"]
        return 2 if 2 in codes else next(iter(codes), 0)


def ok(subject: str, message: str, *, where: str | None = None) -> Finding:
    return Finding(subject=subject, level="ok", message=message, where=where)


def warning(subject: str, message: str, *, remedy: str, where: str | None = None) -> Finding:
    return Finding(subject=subject, level="warning", message=message, where=where, remedy=remedy)


def machine_error(subject: str, message: str, *, remedy: str, where: str | None = None) -> Finding:
    """Of the machine or an environment."""
    return Finding(subject=subject, level="error", message=message, where=where, remedy=remedy, exit_code=4)


def of_error(subject: str, error: QuantActionError) -> Finding:
    """What a command that does the work would have ended with."""
    return Finding(
        subject=subject, level="error", message=str(error.args[0]), where=error.where, remedy=error.remedy, exit_code=error.exit_code
    )
