"""The routes of GitHub's API that quant_action calls, on loopback, with their state in memory.

A request is answered only where GitHub's own OpenAPI description allows it (`github_openapi/`: path, query, body) and where limits that the
description lacks are kept; any other is a 422 and stands in `invalid`, so that a test can say that there was none. Answers are the
description's examples with what a test can know put in. The n-th request can go wrong, before or after it was carried out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from jsonschema import Draft4Validator

OPERATIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "github_openapi/operations.json").read_text("utf-8"))[
    "operations"
]
ROUTES = {
    name: (operation["method"], re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(operation["path"]))))
    for name, operation in OPERATIONS.items()
}
WRITES = {"issues/create-comment", "issues/update-comment", "issues/delete-comment", "checks/create", "checks/update"}
VIEWER = "query { viewer { login } }"


@dataclass(frozen=True)
class Request:
    operation: str
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What happens to one request instead of its answer."""

    status: int = 0
    """0 closes the connection."""
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "Server Error"
    body: bytes | None = None
    """Sent as it is, in place of the message."""
    done: bool = False
    """It is carried out all the same, and only the answer is lost."""


@dataclass(frozen=True)
class Account:
    login: str
    write: bool = True


class GitHubServer:
    """A context manager; one repository, `acme/support`."""

    repository = "acme/support"

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {"ghs_ours": Account("github-actions[bot]")}
        """By token."""
        self.pulls: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.checks: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, list[dict[str, Any]]] = {}
        self.permissions: dict[str, str] = {}
        self.faults: dict[int, Fault] = {}
        """By number of the request, from 1."""
        self.before: Callable[[int], None] = lambda number: None
        """Called with the number of each request before it is carried out: what somebody else does meanwhile."""
        self.requests: list[Request] = []
        self.invalid: list[str] = []
        self._last = 100
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"github": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def pull(self, number: int, *, head: str, repository: str | None = None, branch: str = "change", state: str = "open") -> None:
        """Open a pull request, or push to it."""
        found = deepcopy(OPERATIONS["pulls/get"]["example"]) | {"number": number, "state": state}
        found["head"] |= {"sha": head, "ref": branch}
        found["head"]["repo"] |= {"full_name": repository or self.repository}
        found["base"] |= {"sha": "b" * 40}
        found["base"]["repo"] |= {"full_name": self.repository}
        self.pulls[number] = found

    def comment(self, pull: int, login: str, body: str) -> int:
        """Somebody writes a comment."""
        self._last += 1
        found = deepcopy(OPERATIONS["issues/create-comment"]["example"])
        address = f"https://github.com/{self.repository}/pull/{pull}#issuecomment-{self._last}"
        self.comments[self._last] = found | {
            "id": self._last,
            "body": body,
            "html_url": address,
            "issue_url": f"{self.url}/repos/{self.repository}/issues/{pull}",
            "user": found["user"] | {"login": login},
        }
        return self._last

    def bodies(self, pull: int, login: str = "github-actions[bot]") -> list[str]:
        found = [comment for comment in self.comments.values() if comment["user"]["login"] == login]
        return [comment["body"] for comment in found if comment["issue_url"].endswith(f"/issues/{pull}")]

    def carry_out(self, operation: str, given: dict[str, str], query: dict[str, Any], body: Any, login: str) -> tuple[int, Any]:
        """Status and answer of a request that the description allows."""
        if f"{given['owner']}/{given['repo']}" != self.repository:
            return 404, {"message": "Not Found"}
        if "comment_id" in given and int(given["comment_id"]) not in self.comments:
            return 404, {"message": "Not Found"}
        if "comment_id" in given and self.comments[int(given["comment_id"])]["user"]["login"] != login:
            return 403, {"message": "Resource not accessible by integration"}
        number = int(given.get("issue_number") or given.get("pull_number") or 0)
        if number and number not in self.pulls:
            return 404, {"message": "Not Found"}
        status = OPERATIONS[operation]["status"]
        match operation:
            case "issues/list-comments":
                found = [comment for comment in self.comments.values() if comment["issue_url"].endswith(f"/issues/{number}")]
                return status, _page(found, query)
            case "issues/create-comment":
                return status, self.comments[self.comment(number, login, body["body"])]
            case "issues/update-comment":
                self.comments[int(given["comment_id"])] |= body
                return status, self.comments[int(given["comment_id"])]
            case "issues/delete-comment":
                del self.comments[int(given["comment_id"])]
                return status, None
            case "checks/create":
                self._last += 1
                self.annotations[self._last] = []
                address = f"https://github.com/{self.repository}/runs/{self._last}"
                self.checks[self._last] = deepcopy(OPERATIONS[operation]["example"]) | {"id": self._last, "html_url": address}
                return status, self._write_check(self._last, body)
            case "checks/update":
                if int(given["check_run_id"]) not in self.checks:
                    return 404, {"message": "Not Found"}
                return status, self._write_check(int(given["check_run_id"]), body)
            case "checks/list-for-ref":
                runs = [run for run in self.checks.values() if run["head_sha"] == given["ref"] and run["name"] == query.get("check_name")]
                runs = runs if query.get("filter") == "all" else runs[-1:]
                return status, {"total_count": len(runs), "check_runs": _page(runs, query)}
            case "pulls/get":
                return status, self.pulls[number]
            case "pulls/list":
                owner, _, branch = query.get("head", ":").partition(":")
                pulls = [pull for pull in self.pulls.values() if pull["state"] == query.get("state", "open")]
                same = [pull for pull in pulls if (_owner(pull), pull["head"]["ref"]) == (owner, branch)]
                return status, _page(same if branch else pulls, query)
            case _:
                permission = self.permissions.get(given["username"], "read")
                return status, deepcopy(OPERATIONS[operation]["example"]) | {"permission": permission}

    def _write_check(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        self.annotations[number] += body.get("output", {}).get("annotations", [])
        run = self.checks[number] | {key: value for key, value in body.items() if key != "output"}
        said = {key: value for key, value in body.get("output", {}).items() if key != "annotations"}
        run["output"] = run["output"] | said | {"annotations_count": len(self.annotations[number])}
        self.checks[number] = run
        return run


def _owner(pull: dict[str, Any]) -> str:
    return str(pull["head"]["repo"]["full_name"].partition("/")[0])


def _page(entries: list[Any], query: dict[str, Any]) -> list[Any]:
    size, page = min(query.get("per_page", 30), 100), query.get("page", 1)
    return entries[(page - 1) * size : page * size]


def violations(operation: str, query: dict[str, str], body: Any) -> list[str]:
    """What GitHub would not take, in words; also what its description forgets."""
    described = OPERATIONS[operation]
    known = {given["name"]: given["schema"] for given in described["parameters"] if given["in"] == "query"}
    found = [f"unknown query parameter {name}" for name in query if name not in known]
    for name in query.keys() & known.keys():
        found += [f"{name}: {error.message}" for error in Draft4Validator(known[name]).iter_errors(_typed(query[name], known[name]))]
    if (described["body"] is None) != (body is None):
        return [*found, "a body, where there must be none, or none where there must be one"]
    if body is not None:
        found += [f"{error.json_path}: {error.message[:200]}" for error in Draft4Validator(described["body"]).iter_errors(body)]
        found += [f"unknown property {name}" for name in body if name not in _properties(described["body"])]
    if found:
        return found
    if "comment" in operation and body and (len(body["body"]) > 65_536 or not body["body"].strip()):
        found.append("body is too long (maximum is 65536 characters), or blank")
    if operation.startswith("checks/") and body:
        if body.get("status") == "completed" and "conclusion" not in body:
            found.append("completed without a conclusion")
        for annotation in body.get("output", {}).get("annotations", []):
            if len(annotation["message"].encode()) > 64 * 1024 or len(annotation.get("title", "")) > 255:
                found.append("annotation: too long")
            if annotation["path"].startswith("/") or not 1 <= annotation["start_line"] <= annotation["end_line"]:
                found.append("annotation: no place in the repository")
        if not re.fullmatch(r"[0-9a-f]{40}", body.get("head_sha", "0" * 40)):
            found.append("head_sha is no commit")
    return found


def _properties(schema: dict[str, Any]) -> set[str]:
    parts = [schema, *schema.get("oneOf", []), *schema.get("anyOf", [])]
    return {name for part in parts for name in part.get("properties", {})}


def _typed(value: str, schema: dict[str, Any]) -> Any:
    return int(value) if schema.get("type") == "integer" and value.isdigit() else value


class _Handler(BaseHTTPRequestHandler):
    github: GitHubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait 40 ms

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path, query = unquote(urlsplit(self.path).path), dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        operation, given = self._route(urlsplit(self.path).path)
        self.github.requests.append(Request(operation or path, body, dict(self.headers)))
        number = len(self.github.requests)
        self.github.before(number)
        fault = self.github.faults.get(number)
        answer = self._answer(operation, given, query, body) if fault is None or fault.done else None
        if fault is None:
            assert answer is not None
            status, content = answer
            self._send(status, {}, b"" if content is None else json.dumps(content).encode())
        elif fault.status:
            self._send(fault.status, fault.headers, fault.body or json.dumps({"message": fault.message}).encode())
        else:
            self.close_connection = True

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _route(self, path: str) -> tuple[str | None, dict[str, str]]:
        if (self.command, path) == ("POST", "/graphql"):
            return "graphql", {}
        for name, (method, pattern) in ROUTES.items():
            if method == self.command and (match := pattern.fullmatch(path)):
                return name, {key: unquote(value) for key, value in match.groupdict().items()}
        return None, {}

    def _answer(self, operation: str | None, given: dict[str, str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        account = self.github.accounts.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if account is None:
            return 401, {"message": "Bad credentials"}
        if operation == "graphql":
            if body == {"query": VIEWER}:
                return 200, {"data": {"viewer": {"login": account.login}}}
            return self._refuse(f"graphql: {body}")
        if operation is None:
            return self._refuse(f"{self.command} {self.path}: no such operation")
        if found := violations(operation, query, body):
            return self._refuse(*(f"{operation}: {violation}" for violation in found))
        if not self.headers.get("User-Agent") or self.headers.get("X-GitHub-Api-Version") != "2022-11-28":
            return self._refuse(f"{operation}: headers")
        if operation in WRITES and not account.write:
            return 403, {"message": "Resource not accessible by integration"}
        typed = {name: int(value) if name in ("per_page", "page") else value for name, value in query.items()}
        return self.github.carry_out(operation, given, typed, body, account.login)

    def _refuse(self, *why: str) -> tuple[int, Any]:
        self.github.invalid.extend(why)
        return 422, {"message": "; ".join(why)}

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
