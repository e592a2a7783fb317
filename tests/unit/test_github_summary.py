"""What a step tells its runner, and what it keeps others from telling it."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.errors import InputError, SpecError
from quant_action.formats.interface import Objection
from quant_action.github.annotations import Annotation, annotations_of, annotations_of_error
from quant_action.github.summary import SUMMARY, Commands, append_summary, fit, set_output, workflow_command
from quant_action.records import Decision, Outcome
from tests.golden.records import next_report


def remark(**changes: str) -> Annotation:
    given = {"path": "quant.yml", "level": "failure", "title": "accuracy: fail", "message": "gptq-w4: worse"} | changes
    return Annotation(line=17, **given)  # type: ignore[arg-type]


def test_a_remark_is_one_line_whatever_it_says() -> None:
    command = workflow_command(remark(path="a,b:c.yml", title="100%\r\n::x,y", message="50%\r\n::set-output name=a::b, c"))
    assert command == ("::error file=a%2Cb%3Ac.yml,line=17,title=100%25%0D%0A%3A%3Ax%2Cy::50%25%0D%0A::set-output name=a::b, c")


@given(st.text(), st.text())
def test_no_text_ends_its_command(title: str, message: str) -> None:
    command = workflow_command(remark(title=title, message=message))
    assert not set("\r\n") & set(command)
    properties = command.removeprefix("::error ").partition("::")[0]
    assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line", "title"]


class Runner:
    """Reads a step's output as GitHub's runner does: commands are obeyed unless they are stopped."""

    def __init__(self) -> None:
        self.obeyed: list[str] = []
        self._stopped: str | None = None

    def read(self, text: str) -> None:
        for line in text.splitlines():
            if self._stopped is not None:
                self._stopped = None if line == f"::{self._stopped}::" else self._stopped
            elif match := re.fullmatch(r"::stop-commands::(.+)", line):
                self._stopped = match[1]
            elif line.lstrip().startswith("::") or "##[" in line:
                self.obeyed.append(line)


def test_commands_that_a_model_or_a_library_prints_are_not_obeyed() -> None:
    stream, runner = io.StringIO(), Runner()
    hostile = "::set-output name=verdict::approved\n##[add-mask]a\n::stop-commands::mine\n::mine::\n::error::x\nunfinished"
    with Commands(stream) as commands:
        stream.write(hostile)
        commands.annotate([remark()])
        stream.write(hostile)
        commands.annotate([remark(level="notice")] * 12)
        stream.write(hostile)
    stream.write("::notice::after\n")
    runner.read(stream.getvalue())
    assert runner.obeyed == [workflow_command(remark()), *[workflow_command(remark(level="notice"))] * 10, "::notice::after"]
    tokens = re.findall(r"::stop-commands::([0-9a-f]{32})", stream.getvalue())
    assert len(set(tokens)) == 3


def test_commands_are_resumed_when_the_work_breaks() -> None:
    stream, runner = io.StringIO(), Runner()
    with pytest.raises(KeyError), Commands(stream):
        raise KeyError
    stream.write("::notice::after\n")
    runner.read(stream.getvalue())
    assert runner.obeyed == ["::notice::after"]


def outputs(path: Path) -> dict[str, str]:
    """As the runner reads the file."""
    found, lines = {}, iter(path.read_text("utf-8").split("\n"))
    for line in lines:
        if "<<" in line:
            name, end = line.split("<<", 1)
            found[name] = "\n".join(iter(lambda: next(lines), end))
    return found


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_an_output_is_what_was_given_and_sets_no_other(value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output"
        assert set_output({"GITHUB_OUTPUT": str(path)}, "winner", value)
        assert set_output({"GITHUB_OUTPUT": str(path)}, "verdict", "EOF\nwinner=mine\nwinner<<EOF\nmine\nEOF")
        assert outputs(path) == {"winner": value, "verdict": "EOF\nwinner=mine\nwinner<<EOF\nmine\nEOF"}


def test_an_output_is_bounded_and_needs_a_runner(tmp_path: Path) -> None:
    assert set_output({}, "winner", "x") is False
    with pytest.raises(InputError, match="output matrix"):
        set_output({"GITHUB_OUTPUT": str(tmp_path / "o")}, "matrix", "x" * 2**20)
    with pytest.raises(ValueError, match="a=b"):
        set_output({"GITHUB_OUTPUT": str(tmp_path / "o")}, "a=b\n", "x")


def test_summaries_are_appended_and_never_longer_than_github_shows(tmp_path: Path) -> None:
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    assert append_summary({}, "x") is False
    assert append_summary(environ, "first\n")
    assert append_summary(environ, "ä line\n" * 200_000)
    assert append_summary(environ, "last\n")
    content = (tmp_path / "summary").read_bytes()
    assert content.startswith("first\n\nä line\n".encode())
    assert SUMMARY - 100 < len(content) <= SUMMARY
    assert b"Shortened" in content


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(0, 400))
def test_what_is_cut_fits(text: str, limit: int) -> None:
    found = fit(text, limit)
    assert len(found.encode()) <= limit
    assert found == text or len(text.encode()) > limit


def test_remarks_stand_on_the_lines_that_decided() -> None:
    objections = (
        Objection(id="a", outcome=Outcome.FAIL, gate="accuracy", text="worse\n::error::x", where="models/quant.yml:17:5"),
        Objection(id="b", outcome=Outcome.FAIL, gate="accuracy", text="worse too", where="/home/runner/models/quant.yml:17:5"),
        Objection(id="c", outcome=Outcome.INCONCLUSIVE, gate="kl_ratio", text="open", where="quant.yml:18:5"),
        Objection(id="d", outcome=Outcome.NOT_EVALUATED, gate=None, text="crashed", where=None),
        Objection(id="e", outcome=Outcome.FAIL, gate="size", text="elsewhere", where="/etc/passwd:1:1"),
    )
    report = next_report().model_copy(update={"decision": Decision.REJECTED, "objections": objections, "warnings": ()})
    first, second = annotations_of(report, "models/quant.yml")
    assert first == Annotation(
        path="models/quant.yml", line=17, level="failure", title="accuracy: fail", message="a: worse ::error::x\nb: worse too"
    )
    assert (second.line, second.level, second.title) == (18, "warning", "kl_ratio: inconclusive")
    approved = report.model_copy(update={"decision": Decision.APPROVED})
    assert {found.level for found in annotations_of(approved, "models/quant.yml")} == {"warning"}


def test_an_error_of_the_spec_stands_on_its_lines() -> None:
    error = SpecError("models/quant.yml:4:3: gates.x: is unknown\nmodels/quant.yml:9:1: name: is missing\nand more", remedy="Mend it.")
    found = annotations_of_error(error, "models/quant.yml")
    assert [(one.line, one.message) for one in found] == [(4, "gates.x: is unknown Mend it."), (9, "name: is missing Mend it.")]
    placed = annotations_of_error(SpecError("is not YAML", where="quant.yml:2:7"), "quant.yml")
    assert [(one.line, one.message) for one in placed] == [(2, "is not YAML")]
    assert annotations_of_error(SpecError("no such file", where="quant.yml"), "quant.yml") == []
