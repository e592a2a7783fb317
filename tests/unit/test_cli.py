"""The command line's own work: arguments, exit codes, and what an error looks like."""

from __future__ import annotations

import errno
import json

import pytest

from quant_action import commands
from quant_action.cli import main


def test_a_bug_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(options: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setitem(commands.COMMANDS, "plan", broken)
    assert main(["plan"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "a bug of ours" in err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/plan.json"), "no space left while saving"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/plan.json"), "/x/plan.json: permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x/plan.json"), "/x/plan.json: not a directory"),
    ],
)
def test_files_that_cannot_be_written_are_named(
    error: OSError, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(options: object) -> int:
        raise error

    monkeypatch.setitem(commands.COMMANDS, "plan", fails)
    assert main(["plan"]) == 4
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("arguments", "message"), [([], "COMMAND"), (["walk"], "invalid choice: 'walk'"), (["plan", "a", "b"], "b")])
def test_usage_errors_are_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "--help" in err


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"].keys() >= {"version", "model", "candidates", "gates"}
