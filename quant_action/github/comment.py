"""The one comment of a spec on a pull request: found by its marker and its author, updated in place.

Anybody can write a marker, so only comments of the token's own account count. Two jobs may both find none and write one each: both look
again afterwards, keep the oldest and delete the others, and so end with the same one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from quant_action.errors import InputError, RemoteError, RemoteMissing
from quant_action.formats.markdown.inert import marker
from quant_action.github.api import GitHub, at

ATTEMPTS = 3
LIMIT = 65_536
"""UTF-8 bytes; GitHub's own limit is said to be as many characters."""

STALE = "> [!WARNING]\n> **Out of date.** This is the result for {old}; {new} was pushed since.\n\n"
NOTE = re.compile(r"\A> \[!WARNING\]\n> \*\*Out of date\.\*\*[^\n]*\n\n")
WAITING = "### ⏳ Being evaluated\n\n{new} is being evaluated; the result will stand here.\n"
FIRST = re.compile(r"\A<!-- quant_action:report:v1:[^\n]* -->\s*")
"""The line with which a report begins; it knows the spec's name, and not where in the repository it lies."""
HEAD = re.compile(r"\A<!-- quant_action:report:v1:[^\n]* -->\n<!-- quant_action:head:([0-9a-f]{40}) -->\s*")
"""The first two lines of every comment of ours: which spec, and which commit was judged."""


def publish(github: GitHub, *, pull: int, spec: str, head: str, report: str) -> str:
    """Address of the comment that now shows `report` (Markdown, as `formats.markdown` renders it), the result for commit `head`.

    `spec` is the spec's path in the repository, which tells the comments of two specs apart. A result that a later push has overtaken is
    shown as out of date, unless the later one already stands there.
    """
    now = _head_of(github, pull)
    result = compose(spec, head, report)

    def write(old: str) -> str:
        if now == head:
            return result
        return old if judged(old) == now and not _is_stale(old) else stale(spec, result, now)

    comment = _upsert(github, pull, spec, write, first=write(""))
    return str(comment.get("html_url", ""))


def begin(github: GitHub, *, pull: int, spec: str, head: str) -> str | None:
    """Address of the comment, which now says that `head` is being evaluated, or that what it shows is of an earlier commit.

    None, and nothing is written, where a later push has overtaken `head` already.
    """
    if _head_of(github, pull) != head:
        return None

    def write(old: str) -> str:
        known = judged(old)
        if known is None or old.replace("\r\n", "\n").rstrip() == waiting(spec, known):
            return waiting(spec, head)
        return old if known == head else stale(spec, old, head)

    comment = _upsert(github, pull, spec, write, first=waiting(spec, head))
    return str(comment.get("html_url", ""))


def compose(spec: str, head: str, report: str) -> str:
    """A comment's text. Raises `InputError` for one that GitHub would not take."""
    comment = f"{marker(spec)}\n<!-- quant_action:head:{head} -->\n\n{FIRST.sub('', report)}".rstrip()
    if len(comment.encode()) > LIMIT:
        raise InputError(
            f"the comment has {len(comment.encode()):,} bytes; GitHub takes {LIMIT:,}", where=spec, remedy="Shorten the report."
        )
    return comment


def waiting(spec: str, head: str) -> str:
    return compose(spec, head, WAITING.format(new=_commit(head)))


def stale(spec: str, comment: str, newer: str) -> str:
    """The comment with a note in front that says which commit it is of and which one is newer; a note that it had is replaced."""
    old = judged(comment)
    text = NOTE.sub("", _text(comment))
    note = STALE.format(old=_commit(old) if old else "an earlier commit", new=_commit(newer))
    return compose(spec, old or newer, note + text)


def judged(comment: str) -> str | None:
    """The commit that a comment of ours shows the result for."""
    match = HEAD.match(comment.replace("\r\n", "\n"))
    return match[1] if match else None


def _is_stale(comment: str) -> bool:
    return bool(NOTE.match(_text(comment)))


def _text(comment: str) -> str:
    return HEAD.sub("", comment.replace("\r\n", "\n"))


def _commit(sha: str) -> str:
    return f"<code>{sha[:10]}</code>"


def _head_of(github: GitHub, pull: int) -> str:
    head = at(github.get(f"pulls/{pull}"), "head", "sha")
    if isinstance(head, str) and re.fullmatch(r"[0-9a-f]{40}", head):
        return head
    raise RemoteMissing("the pull request has no head commit", where=f"{github.repository}#{pull}", remedy="It was closed or deleted.")


def _upsert(github: GitHub, pull: int, spec: str, write: Callable[[str], str], *, first: str) -> dict[str, Any]:
    """The only comment of ours, with the text that `write` makes of the one it had, or with `first`."""
    for _ in range(ATTEMPTS):
        made = github.make_once(
            lambda: next(iter(_own(github, pull, spec)), None),
            lambda: github.post(f"issues/{pull}/comments", {"body": first}),
        )
        kept, *others = _own(github, pull, spec) or [made]  # again: another job may have written one meanwhile
        text = write(str(kept.get("body", "")))
        try:
            if text != kept.get("body"):
                kept = github.patch(f"issues/comments/{int(kept['id'])}", {"body": text})
        except RemoteMissing:
            continue
        for other in others:
            github.delete(f"issues/comments/{int(other['id'])}")
        return kept
    raise RemoteError("the comment is deleted as often as it is written", where=f"{github.repository}#{pull}", remedy="Run again.")


def _own(github: GitHub, pull: int, spec: str) -> list[dict[str, Any]]:
    """Comments of this token's account that begin with the spec's marker, oldest first."""
    own, login = marker(spec), github.login.casefold()
    found = [
        comment
        for comment in github.pages(f"issues/{pull}/comments")
        if str(at(comment, "user", "login")).casefold() == login
        and str(comment.get("body")).startswith(own)
        and type(comment.get("id")) is int
    ]
    return sorted(found, key=lambda comment: int(comment["id"]))
