"""Requests to GitHub's REST API, every one of them bounded in time, number and size.

What is repeated, after docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api:

    not sent (no connection)            always
    429, or 403 with a rate limit       always, after `Retry-After`, `x-ratelimit-reset` or a minute; never sooner
    5xx, or the answer was lost         only a request that may be sent twice; otherwise `RemoteUncertain`, and the caller looks first

Redirects are not followed: they would carry the token elsewhere. The token comes from the environment and is in no message.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from quant_action.errors import InputError, RemoteError, RemoteMissing, RemoteRefused, RemoteUncertain

if TYPE_CHECKING:
    import ssl

    import httpx

Found = TypeVar("Found")

REPOSITORY = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
ADDRESS = re.compile(r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:\d{1,5})?(/[A-Za-z0-9._/-]*)?")
"""Where a token may go: over TLS, or to this machine."""
MAX_ANSWER = 16 * 2**20
"""Bytes."""
PER_PAGE = 100
PERMISSIONS = "Give the job `pull-requests: write` and `checks: write`; a pull request from a fork never has them."


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one client may take; all times in seconds."""

    attempts: int = 4
    """Of one request."""
    timeout: float = 20.0
    """For one answer, from the first byte sent to the last one read."""
    waiting: float = 180.0
    """Between attempts, for all requests of a client together."""
    pages: int = 30
    """Of one listing, with 100 entries each."""


@dataclass
class GitHub:
    """One repository, with one token. A context manager; not for several threads."""

    repository: str
    """`owner/name`."""
    token: str = field(repr=False)
    url: str = "https://api.github.com"
    graphql_url: str = "https://api.github.com/graphql"
    patience: Patience = Patience()
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repository):
            raise InputError(f"not a repository: {self.repository[:100]!r}", where="GITHUB_REPOSITORY", remedy="It is written owner/name.")
        if not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise InputError(
                "no token, or one with characters that no token has", where="GITHUB_TOKEN", remedy="Set it to ${{ github.token }}."
            )
        for name, url in (("GITHUB_API_URL", self.url), ("GITHUB_GRAPHQL_URL", self.graphql_url)):
            if not ADDRESS.fullmatch(url):
                raise InputError("a token is sent over https only", where=name, remedy="Let the runner set it.")
        self._left = self.patience.waiting

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """From what the runner sets. Raises `InputError` for what is missing or cannot be right."""
        api = environ.get("GITHUB_API_URL") or cls.url
        return cls(
            repository=environ.get("GITHUB_REPOSITORY", ""),
            token=environ.get("GITHUB_TOKEN", "").strip(),
            url=api.rstrip("/"),
            graphql_url=environ.get("GITHUB_GRAPHQL_URL") or f"{api.rstrip('/').removesuffix('/v3')}/graphql",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "quant_action",
        }
        return httpx.Client(headers=headers, timeout=self.patience.timeout, verify=_trusted(), follow_redirects=False)

    @cached_property
    def login(self) -> str:
        """Of the token's owner, `github-actions[bot]` for a workflow's own.

        An installation's token may not read `/user`; GraphQL's `viewer` answers every kind of token.
        """
        answer = self._request("POST", self.graphql_url, body={"query": "query { viewer { login } }"}, repeatable=True)
        login = at(answer, "data", "viewer", "login")
        if isinstance(login, str) and login:
            return login
        raise RemoteError("GitHub does not say whose token this is", where="POST /graphql", remedy=PERMISSIONS)

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at a path below the repository, such as `pulls/7`."""
        return self._request("GET", self._address(path), query=query, repeatable=True)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What was made. Raises `RemoteUncertain` where it may have been made: look before it is sent again."""
        return _made(self._request("POST", self._address(path), body=body), f"POST /repos/{self.repository}/{path}")

    def patch(self, path: str, body: Mapping[str, Any], *, repeatable: bool = True) -> dict[str, Any]:
        """What it became; not `repeatable` where a second time would change it again."""
        made = self._request("PATCH", self._address(path), body=body, repeatable=repeatable)
        return _made(made, f"PATCH /repos/{self.repository}/{path}")

    def delete(self, path: str) -> None:
        """Also succeeds where there is nothing to delete."""
        try:
            self._request("DELETE", self._address(path), repeatable=True)
        except RemoteMissing:
            return

    def pages(self, path: str, *, key: str | None = None, **query: str | int) -> Iterator[dict[str, Any]]:
        """All entries of a listing; `key` is where its pages keep them. Raises `RemoteError` for more than `patience.pages`."""
        for page in range(1, self.patience.pages + 1):
            answer = self.get(path, per_page=PER_PAGE, page=page, **query)
            entries = at(answer, key) if key else answer
            if not isinstance(entries, list):
                raise _garbled(f"GET /repos/{self.repository}/{path}")
            yield from (entry for entry in entries if isinstance(entry, dict))
            if len(entries) < PER_PAGE:
                return
        raise RemoteError(
            f"the listing has more than {self.patience.pages * PER_PAGE} entries",
            where=f"GET /repos/{self.repository}/{path}",
            remedy="Go on in a new pull request.",
        )

    def make_once(self, find: Callable[[], Found | None], make: Callable[[], Found]) -> Found:
        """What is found, or else made; looked for again whenever it is not known whether it was made."""
        attempt = 0
        while (found := find()) is None:
            attempt += 1
            try:
                return make()
            except RemoteUncertain:
                if attempt >= self.patience.attempts or not self._wait(_backoff(attempt)):
                    raise
        return found

    def _address(self, path: str) -> str:
        return f"{self.url}/repos/{self.repository}/{path}"

    def _request(
        self, method: str, address: str, *, query: Mapping[str, Any] | None = None, body: Any = None, repeatable: bool = False
    ) -> Any:
        import httpx

        where = f"{method} {urlsplit(address).path}"
        attempt = 0
        while True:
            attempt += 1
            try:
                status, headers, content = self._send(method, address, query, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed: RemoteError = RemoteError(
                    f"no connection ({type(error).__name__})", where=where, remedy="See githubstatus.com, then run again."
                )
                wait = _backoff(attempt)
            except (httpx.HTTPError, httpx.InvalidURL, _TooSlow) as error:
                failed = RemoteUncertain(f"the answer was lost ({type(error).__name__.strip('_')})", where=where, remedy="Run again.")
                if not repeatable:
                    raise failed from None
                wait = _backoff(attempt)
            else:
                if 200 <= status < 300:
                    return _parse(content, where)
                failed = _refusal(status, headers, content, _message(content).replace(self.token, "***"), where)
                limit = _rate_limit(status, headers, content)
                if limit is None and status < 500:
                    raise failed
                if limit is None and not repeatable:
                    raise RemoteUncertain(f"GitHub answered {status}", where=where, remedy=failed.remedy)
                wait = max(_backoff(attempt), limit or _asked(headers))
            if attempt >= self.patience.attempts or not self._wait(wait):
                raise failed

    def _wait(self, seconds: float) -> bool:
        """False where that would be longer than this client may take."""
        if seconds > self._left:
            return False
        self._left -= seconds
        self.sleep(seconds)
        return True

    def _send(self, method: str, address: str, query: Mapping[str, Any] | None, body: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content. An answer that trickles is cut at the timeout, as one that does not come."""
        end = time.monotonic() + self.patience.timeout
        content = bytearray()
        with self._client.stream(method, address, params=query, json=body) as answer:
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER or time.monotonic() > end:
                    raise _TooSlow
            return answer.status_code, answer.headers, bytes(content)


def at(value: Any, *path: str) -> Any:
    """What stands in an answer or a payload at the end of these keys, None where there is nothing, or something else than objects."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


class _TooSlow(Exception):
    """Or too long."""


@cache
def _trusted() -> ssl.SSLContext:
    """The certificate authorities: a tenth of a second to read."""
    import httpx

    return httpx.create_ssl_context()


def _backoff(attempt: int) -> float:
    return 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  -- spreads jobs, hides nothing


def _asked(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` asks for."""
    after = headers.get("retry-after", "")
    return float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0


def _rate_limit(status: int, headers: Mapping[str, str], content: bytes) -> float | None:
    """Seconds for which GitHub asks to be left alone; None where the refusal is of another kind."""
    if status not in (403, 429):
        return None
    if (asked := _asked(headers)) > 0:
        return asked
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"\d{1,12}", reset := headers.get("x-ratelimit-reset", "")):
        return max(float(reset) - time.time(), 0.0)
    return 60.0 if status == 429 or b"rate limit" in content.lower() else None


def _refusal(status: int, headers: Mapping[str, str], content: bytes, said: str, where: str) -> RemoteError:
    cause = f"GitHub answered {status}{f' ({said})' if said else ''}"
    if _rate_limit(status, headers, content) is not None:
        return RemoteError(cause, where=where, remedy="Its rate limit is used up: run again later.")
    if status == 401:
        return RemoteRefused(cause, where=where, remedy="The token is wrong or has expired: pass ${{ github.token }}.")
    if status == 403:
        return RemoteRefused(cause, where=where, remedy=PERMISSIONS)
    if status in (404, 410):
        return RemoteMissing(cause, where=where, remedy="It does not exist, or the token may not see it.")
    if 300 <= status < 400:
        return RemoteError(cause, where=where, remedy="The repository has moved: run again, so that the runner sets its new name.")
    if status >= 500:
        return RemoteError(cause, where=where, remedy="See githubstatus.com, then run again.")
    return RemoteError(cause, where=where, remedy="Report this with the command that led to it: the request was not one that GitHub takes.")


def _message(content: bytes) -> str:
    """GitHub's own words, as one short line of visible characters."""
    try:
        message = json.loads(content).get("message", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return "".join(char for char in str(message)[:200] if char.isprintable())


def _parse(content: bytes, where: str) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise _garbled(where) from None


def _made(answer: Any, where: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or type(answer.get("id")) is not int:
        raise _garbled(where)
    return answer


def _garbled(where: str) -> RemoteUncertain:
    return RemoteUncertain(
        "the answer is not what GitHub's API gives", where=where, remedy="Check GITHUB_API_URL and what lies between it and this machine."
    )
