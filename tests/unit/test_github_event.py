"""What a workflow run is about, read from what the runner gives; much of it was written by whoever opened the pull request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_action.errors import InputError
from quant_action.github.api import GitHub
from quant_action.github.event import Event, Remark, file_address, path_in_repository, read_event

HEAD, BASE, ZERO = "1" * 40, "2" * 40, "0" * 40
REPOSITORY = "acme/support"


def pull_request(**head: Any) -> dict[str, Any]:
    head = {"sha": HEAD, "ref": "change", "repo": {"full_name": REPOSITORY}} | head
    return {"pull_request": {"number": 7, "head": head, "base": {"sha": BASE, "repo": {"full_name": REPOSITORY}}}}


def read(tmp_path: Path, name: str, payload: Any, **environ: str) -> Event:
    path = tmp_path / "event.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return read_event({"GITHUB_EVENT_NAME": name, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_EVENT_PATH": str(path), **environ})


@pytest.mark.parametrize(
    ("repo", "fork"),
    [({"full_name": REPOSITORY}, False), ({"full_name": "Acme/Support"}, False), ({"full_name": "mallory/support"}, True), (None, True)],
)
def test_a_pull_request_from_another_repository_is_a_forks(tmp_path: Path, repo: Any, fork: bool) -> None:
    found = read(tmp_path, "pull_request", pull_request(repo=repo))
    assert found == Event(name="pull_request", repository=REPOSITORY, head=HEAD, base=BASE, pull=7, fork=fork)


def test_a_push_has_a_commit_and_no_pull_request(tmp_path: Path) -> None:
    assert read(tmp_path, "push", {"after": HEAD, "before": BASE}) == Event(name="push", repository=REPOSITORY, head=HEAD, base=BASE)
    assert read(tmp_path, "push", {"after": HEAD, "before": ZERO}).base is None
    with pytest.raises(InputError, match="deleted"):
        read(tmp_path, "push", {"after": ZERO, "before": BASE})


def test_a_comment_says_who_wrote_it_and_not_what_commit(tmp_path: Path) -> None:
    comment = {"body": "/quant rerun", "user": {"login": "octocat"}}
    found = read(tmp_path, "issue_comment", {"issue": {"number": 7, "pull_request": {}}, "comment": comment})
    assert (found.head, found.pull, found.remark) == (None, 7, Remark(text="/quant rerun", login="octocat"))
    with pytest.raises(InputError, match="not on a pull request"):
        read(tmp_path, "issue_comment", {"issue": {"number": 7}, "comment": comment})


def test_a_workflow_run_says_where_it_ran_and_its_list_of_pull_requests_is_not_read(tmp_path: Path) -> None:
    run = {"head_sha": HEAD, "head_branch": "a:b", "pull_requests": [{"number": 999}]}
    repository = {"full_name": "mallory/support", "owner": {"login": "mallory"}}
    found = read(tmp_path, "workflow_run", {"workflow_run": run | {"head_repository": repository}})
    assert (found.head, found.pull, found.fork, found.branch) == (HEAD, None, True, "mallory:a:b")
    gone = read(tmp_path, "workflow_run", {"workflow_run": run | {"head_repository": None}})
    assert (gone.head, gone.fork, gone.branch) == (HEAD, True, None)


@pytest.mark.parametrize("branch", ["", "a\nb", "\ud800", "x" * 2000, 7, None])
def test_a_branch_that_git_would_not_have_is_none(tmp_path: Path, branch: Any) -> None:
    run = {"head_sha": HEAD, "head_branch": branch, "head_repository": {"full_name": "mallory/support", "owner": {"login": "mallory"}}}
    assert read(tmp_path, "workflow_run", {"workflow_run": run}).branch is None


def test_any_other_event_is_about_the_commit_that_the_runner_names(tmp_path: Path) -> None:
    assert read(tmp_path, "schedule", {}, GITHUB_SHA=HEAD) == Event(name="schedule", repository=REPOSITORY, head=HEAD)
    with pytest.raises(InputError, match="not a commit"):
        read(tmp_path, "schedule", {}, GITHUB_SHA="main")


@pytest.mark.parametrize("sha", ["", "main", HEAD + "\n", HEAD.upper() + "G", "../" + HEAD, f"{HEAD}\n::error::x", None, 1, ["1"]])
def test_a_commit_is_forty_digits(tmp_path: Path, sha: Any) -> None:
    with pytest.raises(InputError, match=r"pull_request.head.sha"):
        read(tmp_path, "pull_request", pull_request(sha=sha))


@pytest.mark.parametrize("number", [0, -1, "7", "7/../8", True, 7.5, 2**60, None])
def test_a_pull_request_has_a_number(tmp_path: Path, number: Any) -> None:
    payload = pull_request()
    payload["pull_request"]["number"] = number
    with pytest.raises(InputError, match=r"pull_request.number"):
        read(tmp_path, "pull_request", payload)


@pytest.mark.parametrize(
    "payload", ["", "{", "[]", "null", '"text"', "[" * 100_000, "\x00", '{"pull_request": []}', '{"pull_request": {"head": 1}}']
)
def test_a_payload_that_is_none_is_an_error_with_a_remedy(tmp_path: Path, payload: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "pull_request", payload)
    assert caught.value.where
    assert caught.value.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(HEAD),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["pull_request", "head", "base", "sha", "number", "repo", "full_name", "workflow_run", "issue", "comment", "user"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(name=st.sampled_from(["pull_request", "workflow_run", "issue_comment", "push"]), payload=JSON)
def test_no_payload_does_more_than_be_refused(name: str, payload: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        found = read(tmp_path_factory.getbasetemp(), name, payload)
    except InputError:
        return
    assert found.head is None or found.head == HEAD


@pytest.mark.parametrize("repository", ["", "acme", "acme/support/x", "../support", "acme/..", "acme/sup port", "acme/support\n", "a?b/c"])
def test_a_repository_is_owner_and_name(tmp_path: Path, repository: str) -> None:
    with pytest.raises(InputError, match="not a repository"):
        read(tmp_path, "push", {}, GITHUB_REPOSITORY=repository)
    with pytest.raises(InputError, match="not a repository"):
        GitHub(repository=repository, token="t")


def test_lines_of_the_spec_are_linked_at_the_commit_that_was_judged() -> None:
    environ = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": REPOSITORY}
    assert file_address(environ, HEAD, "models/a b#c.yml") == f"https://github.com/acme/support/blob/{HEAD}/models/a%20b%23c.yml"
    assert file_address(environ, "main", "quant.yml") is None
    assert file_address(environ, HEAD, "../quant.yml") is None
    assert file_address({}, HEAD, "quant.yml") is None
    assert file_address(environ | {"GITHUB_SERVER_URL": "javascript:alert(1)//https://x"}, HEAD, "quant.yml") is None
    assert file_address(environ | {"GITHUB_SERVER_URL": "https://x)[y"}, HEAD, "quant.yml") is None


def test_a_spec_lies_in_the_repository(tmp_path: Path) -> None:
    environ = {"GITHUB_WORKSPACE": str(tmp_path / "work")}
    (tmp_path / "work/models").mkdir(parents=True)
    (tmp_path / "work/link.yml").symlink_to("/etc/passwd")
    assert path_in_repository(environ, tmp_path / "work/models/../models/quant.yml") == "models/quant.yml"
    with pytest.raises(InputError, match="cannot be shown"):
        path_in_repository(environ, tmp_path / "work/a\n::error::.yml")
    for path in (tmp_path / "quant.yml", tmp_path / "work/link.yml"):
        with pytest.raises(InputError, match="outside the repository"):
            path_in_repository(environ, path)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nX-Header: b", "tökén"])
def test_a_token_is_one_word(token: str) -> None:
    with pytest.raises(InputError) as caught:
        GitHub.from_environment({"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": token})
    assert not token.strip() or token not in f"{caught.value}{caught.value.remedy}"


@pytest.mark.parametrize(
    "url",
    ["http://api.github.com", "http://127.0.0.1.evil.example", "ftp://x", "", "file:///etc/passwd", "//x", "https://a:b@c", "https://["],
)
def test_a_token_is_sent_over_tls_only(url: str) -> None:
    with pytest.raises(InputError, match="https only"):
        GitHub(repository=REPOSITORY, token="t", url=url)


def test_an_enterprise_server_has_its_own_addresses() -> None:
    environ = {"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": "t", "GITHUB_API_URL": "https://git.example/api/v3"}
    github = GitHub.from_environment(environ)
    assert (github.url, github.graphql_url) == ("https://git.example/api/v3", "https://git.example/api/graphql")
    assert "token" not in repr(github)
