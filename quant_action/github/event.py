"""What a workflow run is about: which commit, which pull request, and whether its code comes from elsewhere.

The runner gives variables and a payload. Whoever opens a pull request chooses much of what is in them (branch names, titles, comments), so
only what is needed is read, and only in the form that it must have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from quant_action.errors import InputError, QuantActionError, RemoteError, RemoteMissing
from quant_action.github.api import ADDRESS, REPOSITORY, GitHub, at

LIMIT = 32 * 2**20
"""Bytes of a payload; GitHub's own limit is 25 MB."""
SHA = re.compile(r"[0-9a-f]{40}")
LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A comment that was written on the pull request: hostile text, by whoever may write there."""

    text: str
    login: str


@dataclass(frozen=True, kw_only=True)
class Event:
    name: str
    repository: str
    """`owner/name` that the run belongs to."""
    head: str | None
    """Commit that was pushed or proposed; None for `issue_comment`, whose payload does not say (`resolve`)."""
    base: str | None = None
    """Commit that it is compared with, where the payload says."""
    pull: int | None = None
    fork: bool = False
    """Whether the commit comes from another repository, so that its code and the record that it uploads are not to be trusted."""
    branch: str | None = None
    """`owner:branch` that a `workflow_run` ran on; None where they were deleted."""
    remark: Remark | None = None


def read_event(environ: Mapping[str, str]) -> Event:
    """From GITHUB_EVENT_NAME, GITHUB_EVENT_PATH, GITHUB_REPOSITORY and GITHUB_SHA. Raises `InputError` for what cannot be right."""
    name, repository = environ.get("GITHUB_EVENT_NAME", ""), environ.get("GITHUB_REPOSITORY", "")
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"not a repository: {repository[:100]!r}", where="GITHUB_REPOSITORY", remedy="It is written owner/name.")
    payload = _Payload(_load(environ.get("GITHUB_EVENT_PATH", "")), name)
    match name:
        case "pull_request" | "pull_request_target":
            return Event(
                name=name,
                repository=repository,
                head=payload.sha("pull_request", "head", "sha"),
                base=payload.sha("pull_request", "base", "sha"),
                pull=payload.number("pull_request", "number"),
                fork=payload.repository_of("pull_request", "head", "repo") != repository.casefold(),
            )
        case "workflow_run":
            owner = payload.find("workflow_run", "head_repository", "owner", "login")
            branch = payload.find("workflow_run", "head_branch")
            known = (
                isinstance(owner, str)
                and LOGIN.fullmatch(owner)
                and isinstance(branch, str)
                and 0 < len(branch) <= 1000
                and branch.isprintable()
            )
            return Event(
                name=name,
                repository=repository,
                head=payload.sha("workflow_run", "head_sha"),
                fork=payload.repository_of("workflow_run", "head_repository") != repository.casefold(),
                branch=f"{owner}:{branch}" if known else None,
            )
        case "issue_comment":
            if not isinstance(payload.find("issue", "pull_request"), dict):
                raise InputError("the comment is not on a pull request", where="GITHUB_EVENT_PATH", remedy="Let the job run on those only.")
            text = payload.find("comment", "body")
            remark = Remark(
                text=text.encode(errors="replace").decode() if isinstance(text, str) else "",
                login=payload.text(LOGIN, "comment", "user", "login"),
            )
            return Event(name=name, repository=repository, head=None, pull=payload.number("issue", "number"), remark=remark)
        case "push":
            before = payload.sha("before")
            return Event(name=name, repository=repository, head=_pushed(payload), base=None if before == "0" * 40 else before)
        case _:
            sha = environ.get("GITHUB_SHA", "")
            if not SHA.fullmatch(sha):
                raise InputError("not a commit", where="GITHUB_SHA", remedy="Let the runner set it.")
            return Event(name=name, repository=repository, head=sha)


def resolve(github: GitHub, event: Event) -> Event:
    """The event with its pull request and its commits, asked of GitHub where the payload does not say, or is not to be believed.

    A record that another run uploaded never says which pull request it is for: that follows from the commit it ran on. Raises
    `RemoteError`, and `RemoteMissing` where a later push has overtaken the commit.
    """
    if event.pull is not None and event.head is not None:
        return event
    if event.pull is not None:
        return _described(github, event, event.pull)
    if event.name != "workflow_run" or event.branch is None:
        return event
    pulls = github.pages("pulls", state="open", head=event.branch)
    found = [number for entry in pulls if _sha_of(entry) == event.head and type(number := entry.get("number")) is int]
    if len(found) != 1:
        raise RemoteMissing(
            f"{len(found) or 'no'} open pull requests have this commit as their head",
            where=f"{event.repository}@{event.head}",
            remedy="A later push has overtaken it: nothing is to be done." if not found else "Close all of them but one.",
        )
    return _described(github, event, found[0])


def may_write(github: GitHub, login: str) -> bool:
    """Whether somebody may write to the repository, as GitHub says now; a payload's `author_association` also names those who once did."""
    if not LOGIN.fullmatch(login):
        return False
    try:
        answer = github.get(f"collaborators/{quote(login, safe='')}/permission")
    except RemoteMissing:
        return False
    return at(answer, "permission") in ("admin", "write")


def path_in_repository(environ: Mapping[str, str], path: Path) -> str:
    """A file's path from the repository's root. Raises `InputError` for one that lies outside, or that cannot be shown."""
    root = Path(environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    try:
        inside = path.resolve().relative_to(root).as_posix()
    except ValueError:
        raise InputError("lies outside the repository", where=str(path), remedy="Keep the spec in the repository.") from None
    if not inside.isprintable():
        raise InputError(f"has characters that cannot be shown: {inside!a}", where="the spec's path", remedy="Rename it.")
    return inside


def file_address(environ: Mapping[str, str], commit: str, path: str) -> str | None:
    """`Report.links`: where GitHub shows a file of the repository at a commit; None where that is not known."""
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    if not ADDRESS.fullmatch(server) or not REPOSITORY.fullmatch(repository):
        return None
    if not SHA.fullmatch(commit) or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return None
    return f"{server.rstrip('/')}/{repository}/blob/{commit}/{quote(path, safe='/')}"


def _described(github: GitHub, event: Event, pull: int) -> Event:
    payload = _Payload(github.get(f"pulls/{pull}"), f"pull request {pull}", RemoteError)
    head = payload.sha("head", "sha")
    if event.head not in (None, head):
        raise RemoteMissing(
            "the pull request has another head commit by now", where=f"{event.repository}#{pull}", remedy="Nothing is to be done."
        )
    return Event(
        name=event.name,
        repository=event.repository,
        head=head,
        base=payload.sha("base", "sha"),
        pull=pull,
        fork=payload.repository_of("head", "repo") != event.repository.casefold(),
        branch=event.branch,
        remark=event.remark,
    )


def _sha_of(entry: dict[str, Any]) -> str | None:
    sha = at(entry, "head", "sha")
    return sha if isinstance(sha, str) and SHA.fullmatch(sha) else None


def _pushed(payload: _Payload) -> str:
    after = payload.sha("after")
    if after == "0" * 40:
        raise InputError("the branch was deleted, there is nothing to evaluate", where="GITHUB_EVENT_PATH", remedy="Skip such pushes.")
    return after


def _load(path: str) -> Any:
    where = "GITHUB_EVENT_PATH"
    try:
        with Path(path).open("rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise InputError(f"has more than {LIMIT:,} bytes", where=where, remedy="Let the runner write it.")
        return json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"no readable payload ({type(error).__name__})", where=where, remedy="Let the runner write it.") from None


class _Payload:
    """JSON of which a few values are read, each in the only form that it may have."""

    def __init__(self, value: Any, name: str, error: type[QuantActionError] = InputError) -> None:
        self._value = value
        self._name = name
        self._error = error

    def find(self, *path: str) -> Any:
        return at(self._value, *path)

    def text(self, form: re.Pattern[str], *path: str) -> str:
        value = self.find(*path)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise self._error(
                f"no {'.'.join(path)} of the form that it must have", where=self._name, remedy="Let GitHub start the workflow."
            )
        return value

    def sha(self, *path: str) -> str:
        return self.text(SHA, *path)

    def number(self, *path: str) -> int:
        value = self.find(*path)
        if type(value) is not int or not 0 < value < 2**53:
            raise self._error(f"no {'.'.join(path)}", where=self._name, remedy="Let GitHub start the workflow.")
        return value

    def repository_of(self, *path: str) -> str | None:
        """`owner/name` in lower case, None where it was deleted or is not one."""
        value = self.find(*path, "full_name")
        return value.casefold() if isinstance(value, str) and REPOSITORY.fullmatch(value) else None
