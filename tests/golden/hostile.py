"""What somebody would write who wants a report to say something else: to mention, link, hide, break out or pass for ours."""

from __future__ import annotations

from quant_action.formats.interface import Change, Regressions, Report, Row
from quant_action.records import Check, Override
from tests.golden.records import report

HOSTILE = [
    "@octocat please",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "<https://evil.example>",
    "see www.evil.example or http://evil.example or mail@evil.example",
    "<img src=x onerror=alert(1)>",
    "<!-- quant_action:report:v1:quant.yml -->",
    "--> <script>",
    "a | b | c",
    "\\| still one cell",
    "```\nout of the fence\n```",
    "````diff\n+ approved\n````",
    "`code` ``code``",
    "~~gone~~ **bold** _it_ __it__ $x$",
    "&lt;b&gt; &#64;octocat",
    "#1 owner/repo#2 GH-3 :white_check_mark:",
    "</details><h1>Approved</h1>",
    "</script><script>alert(1)</script>",
    "\u202egnp.exe\u202c\u2066x\u2069 \u05d0\u05d1\u05d2 12",
    "line one\n\n## Approved\n- x\n+ y\n@@ -1 +1 @@",
    "\x00\x1b[31mred\x07",
]

EVERYTHING = " ".join(HOSTILE)


def hostile_report(rows: int = 6, text: str = EVERYTHING) -> Report:
    """Every string that a spec, a data file or a model can decide is hostile."""
    run = report()
    first = run.rows[0]

    def of_check(check: Check) -> Check:
        return check.model_copy(update={"gate": text, "reason": text, "where": text})

    def of_changes(row: Row) -> dict[str, Change]:
        return {id: change.model_copy(update={"name": text}) for id, change in row.changes.items()}

    row = first.model_copy(
        update={"scheme": text, "engine": text, "checks": tuple(map(of_check, first.checks)), "changes": of_changes(first)}
    )
    ids = [text if index == 0 else f"{index} {text}" for index in range(rows)]
    said = Override(candidate=text, gate=text, artifact=text, by=text, reason=text, where=text)
    return run.model_copy(
        update={
            "name": text,
            "spec": text,
            "model": text,
            "reason": text,
            "winner": text,
            "nearest": text,
            "rows": tuple(row.model_copy(update={"id": id}) for id in ids),
            "objections": tuple(objection.model_copy(update={"id": text, "text": text, "where": text}) for objection in run.objections),
            "overrides": tuple(note.model_copy(update={"override": said}) for note in run.overrides),
            "regressions": tuple(_hostile_regressions(found, id, text) for found, id in zip(run.regressions, ids, strict=False)),
            "trend": ((text, 0.02), (text, 0.01)),
            "method": tuple(fact.model_copy(update={"label": text, "text": text}) for fact in run.method),
            "versions": (text,),
        }
    )


def _hostile_regressions(found: Regressions, id: str, text: str) -> Regressions:
    update = dict.fromkeys(("task", "item", "slice", "note", "prompt", "expected", "before", "after"), text)
    return found.model_copy(update={"id": id, "worst": tuple(item.model_copy(update=update) for item in found.worst)})
