"""The command line's own work: arguments, exit codes, and what an error looks like."""

from __future__ import annotations

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


@pytest.mark.parametrize(("arguments", "message"), [([], "COMMAND"), (["walk"], "invalid choice: 'walk'"), (["plan", "a", "b"], "b")])
def test_usage_errors_are_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "--help" in err


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"].keys() >= {"version", "model", "candidates", "gates"}
