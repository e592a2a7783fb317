"""The few routes of the Hugging Face Hub that huggingface_hub calls to read a model, served from folders.

As on the Hub: a revision's listing gives the sha256 of large files and the git blob id of others; a large file is a redirect to another
host, which honours ranges and must not be sent a token; a gated model may be listed by everybody and read by those who were granted access.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    commit: str
    files: dict[str, bytes]
    gated: bool
    private: bool
    large: tuple[str, ...]
    """Suffixes of the files that are not kept in git."""
    readers: set[str] = field(default_factory=set)
    """Tokens that may read it."""

    def entry(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        blob = b"blob %d\0" % len(content) + content
        found = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(blob).hexdigest()}
        return found | ({"lfs": self.pointer(path)} if path.endswith(self.large) else {})

    def pointer(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        return {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    token: str | None
    sent: int
    """Bytes of the answer's body."""


class Hub:
    """A context manager; `url` is what HF_ENDPOINT must be."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        """That the Hub knows; any other is refused whatever is asked for."""
        self.altered: dict[str, bytes] = {}
        """sha256 -> other bytes that are sent in its place."""
        self.garbled = False
        """Answer everything with a web page, as a login portal does."""
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

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

    @property
    def storage_url(self) -> str:
        """The same server by another name: for a client, another host."""
        return self.url.replace("127.0.0.1", "localhost")

    def add(
        self, name: str, folder: Path, *, gated: bool = False, private: bool = False, large: tuple[str, ...] = (".safetensors", ".bin")
    ) -> str:
        """Publish a folder's files as one commit, and say which."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repositories[name] = Repository(commit=commit, files=files, gated=gated, private=private, large=large)
        return commit

    def sent(self, part: str) -> int:
        """Bytes of all answers to paths that contain `part`."""
        return sum(request.sent for request in self.requests if part in request.path)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def _refusal(status: int, code: str, message: str) -> _Answer:
    return _Answer(status, {"X-Error-Code": code, "X-Error-Message": message}, json.dumps({"error": message}).encode())


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def _token(self) -> str | None:
        return self.headers["Authorization"].removeprefix("Bearer ") if "Authorization" in self.headers else None

    def _send(self, answer: _Answer) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        self.hub.requests.append(Request(self.command, self.path, self._token, len(body)))
        self.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer(self) -> _Answer:
        if self.hub.garbled:
            return _Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>")
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            return self._ranged(match[1]) if self._token is None else _Answer(400)
        if self._token is not None and self._token not in self.hub.tokens:
            return _Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            return self._found(match[1], match[3]) or self._described(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._found(match[1], match[2]) or self._resolved(self.hub.repositories[match[1]], match[3])
        return _Answer(404)

    def _found(self, name: str, revision: str | None) -> _Answer | None:
        """A refusal, where there is no such repository or revision for this token."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._token not in repository.readers):
            return _refusal(401 if self._token is None else 404, "RepoNotFound", "Repository not found")
        if revision not in (None, "main", repository.commit):
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _described(self, name: str, what: str | None) -> _Answer:
        repository = self.hub.repositories[name]
        entries = [repository.entry(path) for path in repository.files]
        if what == "tree":
            return _Answer(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())
        described = {"id": name, "sha": repository.commit, "siblings": [{"rfilename": path} for path in repository.files]}
        return _Answer(200, {"Content-Type": "application/json"}, json.dumps(described).encode())

    def _resolved(self, repository: Repository, path: str) -> _Answer:
        commit = {"X-Repo-Commit": repository.commit}
        if repository.gated and self._token not in repository.readers:
            refusal = _refusal(401 if self._token is None else 403, "GatedRepo", "Access to this model is restricted")
            return _Answer(refusal.status, refusal.headers | commit, refusal.body)
        if path not in repository.files:
            refusal = _refusal(404, "EntryNotFound", "Entry not found")
            return _Answer(refusal.status, refusal.headers | commit, refusal.body)
        entry = repository.entry(path)
        if "lfs" not in entry:
            return _Answer(200, commit | {"ETag": f'"{entry["oid"]}"'}, repository.files[path])
        linked = {"X-Linked-Size": str(entry["size"]), "X-Linked-ETag": f'"{entry["lfs"]["oid"]}"'}
        return _Answer(302, commit | linked | {"Location": f"{self.hub.storage_url}/large/{entry['lfs']['oid']}"})

    def _ranged(self, digest: str) -> _Answer:
        files = [content for repository in self.hub.repositories.values() for content in repository.files.values()]
        content = next(content for content in files if hashlib.sha256(content).hexdigest() == digest)
        content = self.hub.altered.get(digest, content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return _Answer(200, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, content)
        begin, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if begin > end:
            return _Answer(416, {"Content-Range": f"bytes */{len(content)}"})
        return _Answer(206, {"Content-Range": f"bytes {begin}-{end}/{len(content)}"}, content[begin : end + 1])
