"""A report to the pull request: comment, check run and job summary. What GitHub refuses or cannot do now is said, and fails nothing.

The verdict's exit code is the caller's: it is the same whether the comment could be written or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quant_action.errors import InputError, RemoteError
from quant_action.formats.interface import Report
from quant_action.formats.markdown import MARKDOWN
from quant_action.formats.markdown.inert import escape
from quant_action.github import checks, comment, summary
from quant_action.github.annotations import annotations_of
from quant_action.github.api import GitHub
from quant_action.github.event import Event

ELSEWHERE = "The result stands in the summary and in the exit code."


@dataclass(frozen=True, kw_only=True)
class Published:
    comment_url: str | None = None
    check_url: str | None = None
    notes: tuple[str, ...] = ()
    """What could not be shown where it belongs, and why; also at the head of the summary."""


def publish(report: Report, *, spec: str, event: Event, github: GitHub | None, environ: Mapping[str, str]) -> Published:
    """Show a report wherever this run may; `spec` is the spec's path in the repository, `github` is None without a token.

    `event` is a resolved one: without a pull request there is no comment, without a commit no check run.
    """
    markdown = MARKDOWN.render(report)
    notes: list[str] = []
    comment_url = check_url = None
    if github is not None and event.head is not None:
        client, head = github, event.head
        if (pull := event.pull) is not None:
            comment_url = _try("comment", notes, lambda: comment.publish(client, pull=pull, spec=spec, head=head, report=markdown))
        check_url = _try(
            "check run",
            notes,
            lambda: checks.publish(
                client,
                spec=spec,
                head=head,
                decision=report.decision,
                title=f"{report.decision.value}: {report.reason}",
                summary=markdown,
                annotations=annotations_of(report, spec),
            ),
        )
    published = Published(comment_url=comment_url, check_url=check_url, notes=tuple(notes))
    summary.append_summary(environ, "\n\n".join([*(f"> {escape(note, 1000)}" for note in dict.fromkeys(notes)), markdown]))
    return published


def announce(*, spec: str, event: Event, github: GitHub) -> Published:
    """Say on the pull request that a new commit is being evaluated."""
    notes: list[str] = []
    pull, head = event.pull, event.head
    if pull is None or head is None:
        return Published()
    url = _try("comment", notes, lambda: comment.begin(github, pull=pull, spec=spec, head=head))
    return Published(comment_url=url, notes=tuple(notes))


def _try(what: str, notes: list[str], do: Callable[[], str | None]) -> str | None:
    try:
        return do()
    except (RemoteError, InputError) as error:
        notes.append(f"No {what}: {error}. {error.remedy} {ELSEWHERE}")
    return None
