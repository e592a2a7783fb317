"""The check run of a spec on a commit: the verdict where branch protection reads it.

A check that branch protection requires passes as `success`, `neutral` and `skipped`; so nothing but an approval is any of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, assert_never

from quant_action.formats.wording import clean
from quant_action.github.annotations import Annotation
from quant_action.github.api import GitHub, at
from quant_action.github.summary import fit
from quant_action.records import Decision, digest_of

Conclusion = Literal["success", "failure", "action_required"]
BATCH = 50
"""Annotations that one request may have; those of later requests are added."""
SUMMARY = 65_535
"""Characters that GitHub takes; counted in bytes here, which is never less."""


def conclusion(decision: Decision) -> Conclusion:
    match decision:
        case Decision.APPROVED:
            return "success"
        case Decision.INCONCLUSIVE:
            return "action_required"
        case Decision.REJECTED | Decision.BROKEN:
            return "failure"
        case _:
            assert_never(decision)


def publish(
    github: GitHub, *, spec: str, head: str, decision: Decision, title: str, summary: str, annotations: Sequence[Annotation]
) -> str:
    """Address of the check run `quant_action: SPEC` on commit `head`. `title` is one line, `summary` is Markdown.

    The run's `external_id` is a digest of what it says: a rerun finds it where it is the latest, and adds the annotations that
    it does not have yet.
    """
    name = f"quant_action: {clean(spec, 200)}"
    output = {"title": clean(title, 255), "summary": fit(summary, SUMMARY)}
    said = [_annotation(annotation) for annotation in annotations]
    identity = digest_of([name, head, decision, output, said])
    body = {"name": name, "head_sha": head, "external_id": identity, "status": "completed", "conclusion": conclusion(decision)}

    def find() -> dict[str, Any] | None:
        runs = github.pages(f"commits/{head}/check-runs", key="check_runs", check_name=name, filter="latest")
        return next((run for run in runs if run.get("external_id") == identity and type(run.get("id")) is int), None)

    run = github.make_once(find, lambda: github.post("check-runs", body | {"output": output | {"annotations": said[:BATCH]}}))
    for there in range(BATCH, len(said), BATCH):
        _add(github, run, find, there, output | {"annotations": said[there : there + BATCH]})
    return str(run.get("html_url", ""))


def _add(github: GitHub, run: dict[str, Any], find: Callable[[], dict[str, Any] | None], there: int, output: dict[str, Any]) -> None:
    """Add annotations to those that are `there`, once: sent twice they would stand there twice."""

    def find_more() -> dict[str, Any] | None:
        found = find()
        return found if found and _count(found) > there else None

    github.make_once(find_more, lambda: github.patch(f"check-runs/{int(run['id'])}", {"output": output}, repeatable=False))


def _count(run: dict[str, Any]) -> int:
    count = at(run, "output", "annotations_count")
    return count if isinstance(count, int) else 0


def _annotation(annotation: Annotation) -> dict[str, str | int]:
    return {
        "path": annotation.path,
        "start_line": annotation.line,
        "end_line": annotation.line,
        "annotation_level": annotation.level,
        "title": annotation.title,
        "message": annotation.message,
    }
