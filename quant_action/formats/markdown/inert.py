"""Untrusted text made inert for GitHub Flavored Markdown (github.github.com/gfm): whoever opens a pull request wrote it, or a model did.

Within a line or a cell: `escape`. Within a fence: `fenced`. GitHub looks for mentions, issues and addresses after it has unescaped, so only
a break in the text itself keeps it from finding one.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from quant_action.formats import wording
from quant_action.formats.interface import Report

BREAK = "\u200b"
"""A space of no width."""

NAME, PLACE, TEXT = 60, 200, 400
"""Characters that an id, a place and a sentence may have: what bounds the smallest comment."""

AUTOLINK = re.compile(
    r"(?<=@)|(?<=#)(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\bGH-)(?=\d)|(?<=:)(?=[A-Za-z_+-][\w+-]*:)|(?<=mailto:)|(?<=xmpp:)", re.IGNORECASE
)
"""Where mentions, issues, addresses and the names of emoji are broken."""

INERT = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "\\": "&#92;", "$": "&#36;"}
    | {char: f"\\{char}" for char in "*[]~"}
)

UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""One that could begin or end emphasis; those inside a word cannot."""


def escape(text: str, limit: int = TEXT) -> str:
    """Inert text for within a line or a table cell: no markup, HTML, link, mention, cell, fence or comment can come of it."""
    return UNDERSCORE.sub(r"\\_", AUTOLINK.sub(BREAK, wording.isolate(wording.clean(text, limit))).translate(INERT))


def code(text: str, limit: int = NAME) -> str:
    return f"<code>{escape(text, limit)}</code>"


def place(where: str, report: Report) -> str:
    """A line of the spec, linked where the report knows the repository and the commit."""
    shown, address = code(wording.place(where), PLACE), wording.link_of(where, report)
    return f"[{shown}]({address})" if address else shown


def fenced(lines: list[str], language: str) -> str:
    """A code block that none of its lines can end, break out of or bear a marker in."""
    body = AUTOLINK.sub(BREAK, "\n".join(lines)).replace("<!--", f"<{BREAK}!--")
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def marker(spec: str) -> str:
    """The invisible first line by which a later run finds its own comment."""
    return f"<!-- quant_action:report:v1:{quote(wording.clean(spec), safe='/').replace('--', '%2D%2D')} -->"
