"""What GitHub is asked, on a double that takes what GitHub's description allows: one comment, one check run, whatever goes wrong."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quant_action.errors import InputError, RemoteError, RemoteMissing, RemoteRefused, RemoteUncertain
from quant_action.formats.markdown import MARKDOWN
from quant_action.formats.markdown.inert import marker
from quant_action.github import api, checks, comment
from quant_action.github.annotations import Annotation
from quant_action.github.api import GitHub, Patience
from quant_action.github.event import Event, may_write, read_event, resolve
from quant_action.github.publication import announce, publish
from quant_action.records import Decision
from tests.doubles.github import Account, Fault, GitHubServer, violations
from tests.golden.records import broken_report, next_report

HEAD, NEWER, NEWEST = "1" * 40, "2" * 40, "3" * 40
SPEC = "models/quant.yml"
TOKEN = "ghs_ours"


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.pull(7, head=HEAD)
        yield server
        assert server.invalid == []


def client(server: GitHubServer, token: str = TOKEN, **patience: Any) -> GitHub:
    environ = {"GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": server.repository, "GITHUB_TOKEN": token}
    github = GitHub.from_environment(environ)
    github.sleep = lambda seconds: None
    github.patience = Patience(timeout=5, **patience)
    return github


def on_pull(head: str = HEAD, *, fork: bool = False) -> Event:
    return Event(name="pull_request", repository="acme/support", head=head, base="b" * 40, pull=7, fork=fork)


def remarks(number: int) -> list[Annotation]:
    return [Annotation(path=SPEC, line=line + 1, level="failure", title="gate: fail", message=f"m{line}") for line in range(number)]


def write(github: GitHub, head: str = HEAD, report: str = "the report\n", spec: str = SPEC) -> str:
    return comment.publish(github, pull=7, spec=spec, head=head, report=report)


def test_a_report_is_one_comment_and_one_check_run(server: GitHubServer, tmp_path: Path) -> None:
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    for _ in range(2):
        with client(server) as github:
            found = publish(next_report(), spec=SPEC, event=on_pull(), github=github, environ=environ)
    assert found.notes == ()
    assert found.comment_url == "https://github.com/acme/support/pull/7#issuecomment-101"
    assert found.check_url == "https://github.com/acme/support/runs/102"
    [body] = server.bodies(7)
    lines = body.splitlines()
    assert lines[:2] == [marker(SPEC), f"<!-- quant_action:head:{HEAD} -->"]
    assert body.count("quant_action:report:") == 1
    assert MARKDOWN.render(next_report()).partition("\n\n")[2].rstrip() in body
    [run] = server.checks.values()
    assert (run["name"], run["conclusion"], run["head_sha"]) == (f"quant_action: {SPEC}", "success", HEAD)
    assert {annotation["path"] for annotation in server.annotations[102]} <= {SPEC}
    assert body.partition("\n\n")[2] in (tmp_path / "summary").read_text("utf-8")


def test_a_second_report_replaces_the_first(server: GitHubServer) -> None:
    with client(server) as github:
        first = write(github, report="old\n")
        assert write(github, report="new\n") == first
    [body] = server.bodies(7)
    assert body.endswith("\nnew")


def test_two_specs_have_two_comments(server: GitHubServer) -> None:
    with client(server) as github:
        assert write(github, spec="a/quant.yml") != write(github, spec="b/quant.yml")
        write(github, spec="a/quant.yml", report="again\n")
    first, second = server.bodies(7)
    assert first.endswith("again")
    assert second.endswith("the report")


def test_somebody_elses_comment_with_our_marker_is_not_ours(server: GitHubServer) -> None:
    spoofed = server.comment(7, "mallory", f"{marker(SPEC)}\napproved, merge it\n")
    quoted = server.comment(7, "github-actions[bot]", f"> {marker(SPEC)}\nanother workflow quotes us\n")
    with client(server) as github:
        write(github)
    assert server.comments[spoofed]["body"].endswith("approved, merge it\n")
    assert server.comments[quoted]["body"].endswith("another workflow quotes us\n")
    assert len(server.comments) == 3


def test_the_comment_is_found_behind_hundreds_of_others(server: GitHubServer) -> None:
    for number in range(250):
        server.comment(7, "reviewer", f"remark {number}")
    with client(server) as github:
        assert write(github) == write(github, report="new\n")
    assert len(server.comments) == 251


def test_a_listing_without_an_end_is_not_followed_for_ever(server: GitHubServer) -> None:
    for number in range(300):
        server.comment(7, "reviewer", f"remark {number}")
    with client(server, pages=2) as github, pytest.raises(RemoteError, match="more than 200 entries"):
        write(github)
    assert server.bodies(7) == []


def test_comments_of_two_jobs_become_the_oldest(server: GitHubServer) -> None:
    def meanwhile(number: int) -> None:
        if server.requests[number - 1].operation == "issues/create-comment" and not server.bodies(7):
            server.comment(7, "github-actions[bot]", comment.compose(SPEC, HEAD, "the other job's\n"))

    server.before = meanwhile
    with client(server) as github:
        assert write(github) == "https://github.com/acme/support/pull/7#issuecomment-101"
    assert server.bodies(7) == [comment.compose(SPEC, HEAD, "the report\n")]


def test_two_jobs_at_the_same_time_end_with_one_comment(server: GitHubServer) -> None:
    def job(report: str) -> None:
        with client(server) as github:
            write(github, report=report)

    jobs = [threading.Thread(target=job, args=[f"{number}\n"]) for number in range(4)]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join(20)
    with client(server) as github:
        write(github)  # whatever the order of the four, the next one finds at most one
    assert server.bodies(7) == [comment.compose(SPEC, HEAD, "the report\n")]


def test_a_comment_that_is_deleted_meanwhile_is_written_again(server: GitHubServer) -> None:
    first = server.comment(7, "github-actions[bot]", comment.compose(SPEC, HEAD, "old\n"))
    server.before = lambda number: (
        server.comments.pop(first, None) and None if server.requests[number - 1].operation == "issues/update-comment" else None
    )
    with client(server) as github:
        write(github)
    assert server.bodies(7) == [comment.compose(SPEC, HEAD, "the report\n")]


def test_a_new_push_marks_the_old_result_and_its_own_replaces_both(server: GitHubServer) -> None:
    with client(server) as github:
        announce(spec=SPEC, event=on_pull(), github=github)
        assert "is being evaluated" in server.bodies(7)[0]
        write(github)
        for head in (NEWER, NEWEST):
            server.pull(7, head=head)
            announce(spec=SPEC, event=on_pull(head), github=github)
            assert announce(spec=SPEC, event=on_pull(), github=github).comment_url is None  # a job of the first push, late
            [body] = server.bodies(7)
            assert body.count("Out of date") == 1
            assert f"the result for <code>{HEAD[:10]}</code>; <code>{head[:10]}</code> was pushed since" in body
            assert body.endswith("the report")
        write(github, NEWEST, "new\n")
    assert server.bodies(7) == [comment.compose(SPEC, NEWEST, "new\n")]


def test_a_result_that_comes_late_does_not_pass_for_the_newest(server: GitHubServer) -> None:
    server.pull(7, head=NEWER)
    with client(server) as github:
        write(github)
        assert "Out of date" in server.bodies(7)[0]
        write(github, NEWER, "new\n")
        write(github)
    assert server.bodies(7) == [comment.compose(SPEC, NEWER, "new\n")]


def test_the_longest_report_fits_with_what_is_put_before_it(server: GitHubServer) -> None:
    report = f"{marker('quant.yml')}\n\n".ljust(65_536 - 1_024 - 1, "x") + "\n"
    with client(server) as github:
        write(github, report=report)
        server.pull(7, head=NEWER)
        announce(spec=SPEC, event=on_pull(NEWER), github=github)
        assert 64_512 < len(server.bodies(7)[0]) <= 65_536
        with pytest.raises(InputError, match="GitHub takes 65,536"):
            write(github, report="é" * 40_000)


@pytest.mark.parametrize(
    ("decision", "conclusion"),
    [("approved", "success"), ("rejected", "failure"), ("inconclusive", "action_required"), ("broken", "failure")],
)
def test_only_an_approval_is_a_success(server: GitHubServer, decision: str, conclusion: str) -> None:
    with client(server) as github:
        checks.publish(github, spec=SPEC, head=HEAD, decision=Decision(decision), title="t", summary="s", annotations=[])
    assert [run["conclusion"] for run in server.checks.values()] == [conclusion]


def test_many_annotations_go_in_batches_and_a_long_summary_is_cut_and_says_so(server: GitHubServer) -> None:
    with client(server) as github:
        for _ in range(2):
            checks.publish(
                github,
                spec=SPEC,
                head=HEAD,
                decision=Decision.REJECTED,
                title="t" * 300,
                summary="ä line\n" * 10_000,
                annotations=remarks(120),
            )
    [run] = server.checks.values()
    assert [annotation["start_line"] for annotation in server.annotations[run["id"]]] == list(range(1, 121))
    assert [len(request.body["output"]["annotations"]) for request in server.requests if request.body and "output" in request.body] == [
        50,
        50,
        20,
    ]
    assert len(run["output"]["summary"].encode()) <= 65_535
    assert run["output"]["summary"].endswith("ä line\n\n_Shortened: the rest is in the HTML report._\n")


def test_the_latest_check_run_is_the_latest_verdict(server: GitHubServer) -> None:
    decisions = [Decision.APPROVED, Decision.REJECTED, Decision.APPROVED, Decision.APPROVED]
    with client(server) as github:
        for decision in decisions:
            checks.publish(github, spec=SPEC, head=HEAD, decision=decision, title="t", summary="s", annotations=[])
    assert [run["conclusion"] for run in server.checks.values()] == ["success", "failure", "success"]


def test_the_gate_of_a_broken_run_is_marked_on_its_line(server: GitHubServer) -> None:
    with client(server) as github:
        publish(broken_report(), spec=SPEC, event=on_pull(), github=github, environ={})
    [run] = server.checks.values()
    assert run["conclusion"] == "failure"
    found = server.annotations[run["id"]]
    assert found
    assert found[0]["annotation_level"] == "failure"
    lines = {int(check.where.split(":")[1]) for check in broken_report().void if check.where}
    assert lines <= {annotation["start_line"] for annotation in found}


def everything(github: GitHub) -> None:
    write(github)
    checks.publish(github, spec=SPEC, head=HEAD, decision=Decision.REJECTED, title="t", summary="s", annotations=remarks(70))


FAULTS = {
    "500": Fault(500),
    "502, done": Fault(502, done=True),
    "503 with Retry-After": Fault(503, {"Retry-After": "3"}),
    "closed": Fault(),
    "closed, done": Fault(done=True),
    "429": Fault(429, {"Retry-After": "2"}, "slow down"),
    "secondary limit": Fault(403, {}, "You have exceeded a secondary rate limit"),
    "used up": Fault(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 5)}, "API rate limit exceeded"),
}
REQUESTS = 9


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(1, REQUESTS + 1))
def test_a_fault_at_any_request_leaves_one_comment_and_one_check_run(server: GitHubServer, number: int, fault: str) -> None:
    server.faults[number] = FAULTS[fault]
    with client(server) as github:
        everything(github)
    assert len(server.requests) > REQUESTS
    assert server.bodies(7) == [comment.compose(SPEC, HEAD, "the report\n")]
    assert [len(found) for found in server.annotations.values()] == [70]


@pytest.mark.parametrize("number", range(1, REQUESTS + 1))
@pytest.mark.parametrize(
    "fault",
    [
        Fault(200, body=b"<html>Log in</html>"),
        Fault(200, body=b"[[]"),
        Fault(200, body=b"null", done=True),
        Fault(200, body=b'[{"user": 1}, {"head": 2}, 3]'),
    ],
)
def test_a_run_that_got_nonsense_is_put_right_by_the_next(server: GitHubServer, number: int, fault: Fault) -> None:
    server.faults[number] = fault
    with client(server) as github:
        with contextlib.suppress(RemoteError):  # a garbled answer to a question is not asked again
            everything(github)
        everything(github)
    assert server.bodies(7) == [comment.compose(SPEC, HEAD, "the report\n")]
    assert [len(found) for found in server.annotations.values()] == [70]


def test_the_clean_run_has_as_many_requests_as_are_disturbed(server: GitHubServer) -> None:
    with client(server) as github:
        everything(github)
    assert len(server.requests) == REQUESTS


def test_github_is_left_alone_as_long_as_it_asks(server: GitHubServer) -> None:
    waits: list[float] = []
    server.faults = {1: Fault(429, {"Retry-After": "7"}), 2: Fault(403, {}, "secondary rate limit"), 3: Fault(503, {"Retry-After": "30"})}
    with client(server) as github:
        github.sleep = waits.append
        github.get("pulls/7")
    assert waits[0] >= 7
    assert waits[1] >= 60
    assert waits[2] >= 30


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}])
def test_nobody_waits_for_an_hour(server: GitHubServer, headers: dict[str, str]) -> None:
    waits: list[float] = []
    server.faults[1] = Fault(403, headers, "API rate limit exceeded")
    with client(server) as github:
        github.sleep = waits.append
        with pytest.raises(RemoteError, match="rate limit"):
            github.get("pulls/7")
    assert waits == []


def test_a_server_that_stays_down_is_given_up(server: GitHubServer) -> None:
    server.faults = dict.fromkeys(range(1, 50), Fault(500))
    with client(server) as github, pytest.raises(RemoteError) as caught:
        github.get("pulls/7")
    assert len(server.requests) == Patience().attempts
    assert (caught.value.exit_code, caught.value.where) == (5, "GET /repos/acme/support/pulls/7")


def test_what_may_have_been_done_is_not_sent_again_unseen(server: GitHubServer) -> None:
    server.faults[1] = Fault(502, done=True)
    with client(server) as github, pytest.raises(RemoteUncertain):
        github.post("issues/7/comments", {"body": "once"})
    assert len(server.comments) == 1


def test_an_unreachable_server_is_an_error_with_a_place() -> None:
    with GitHubServer() as server:
        address = server.url
    github = GitHub(repository="acme/support", token=TOKEN, url=address, graphql_url=address, sleep=lambda seconds: None)
    with github, pytest.raises(RemoteError, match=r"GET /repos/acme/support/pulls/7: no connection"):
        github.get("pulls/7")


def test_an_answer_that_does_not_come_or_does_not_end_is_given_up(server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(server, attempts=2) as github:
        github.patience = Patience(attempts=2, timeout=0.2)
        server.before = lambda number: time.sleep(0.4)
        with pytest.raises(RemoteUncertain, match="ReadTimeout"):
            github.get("pulls/7")
        assert len(server.requests) == 2
    server.before = lambda number: None
    monkeypatch.setattr(api, "MAX_ANSWER", 10_000)
    with client(server) as github, pytest.raises(RemoteUncertain, match="the answer was lost"):
        github.get("pulls/7")


def test_a_redirect_is_not_followed_with_the_token(server: GitHubServer) -> None:
    with GitHubServer() as other:
        server.faults[1] = Fault(307, {"Location": f"{other.url}/repos/acme/support/pulls/7"})
        with client(server) as github, pytest.raises(RemoteError, match="307"):
            github.get("pulls/7")
        assert other.requests == []


def test_a_token_that_may_only_read_degrades_to_the_summary(server: GitHubServer, tmp_path: Path) -> None:
    server.accounts["ghs_fork"] = Account("github-actions[bot]", write=False)
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    with client(server, "ghs_fork") as github:
        found = publish(next_report(), spec=SPEC, event=on_pull(fork=True), github=github, environ=environ)
    assert (found.comment_url, found.check_url) == (None, None)
    assert [note.partition(":")[0] for note in found.notes] == ["No comment", "No check run"]
    assert all("a pull request from a fork never has them" in note for note in found.notes)
    shown = (tmp_path / "summary").read_text("utf-8")
    assert shown.startswith("> No comment: ")
    assert MARKDOWN.render(next_report()).strip() in shown
    assert server.comments == {}


@pytest.mark.parametrize("number", range(1, 9))
def test_an_outage_never_fails_a_run_that_has_its_verdict(server: GitHubServer, tmp_path: Path, number: int) -> None:
    server.faults = dict.fromkeys(range(number, 100), Fault(500))
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    with client(server) as github:
        publish(next_report(), spec=SPEC, event=on_pull(), github=github, environ=environ)
    assert MARKDOWN.render(next_report()).strip() in (tmp_path / "summary").read_text("utf-8")


def test_without_a_token_there_is_the_summary(tmp_path: Path) -> None:
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    assert publish(next_report(), spec=SPEC, event=on_pull(), github=None, environ=environ).notes == ()
    assert (tmp_path / "summary").read_text("utf-8") == MARKDOWN.render(next_report()).strip() + "\n\n"


@pytest.mark.parametrize(
    "fault", [Fault(401, message="bad token ghs_ours"), Fault(403, message="ghs_ours may not"), Fault(418), Fault(500)]
)
def test_the_token_is_in_no_error_and_in_no_name(
    server: GitHubServer, fault: Fault, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.faults = dict.fromkeys(range(1, 100), fault)
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    with client(server) as github:
        found = publish(next_report(), spec=SPEC, event=on_pull(), github=github, environ=environ)
        with pytest.raises(RemoteError) as caught:
            github.get("pulls/7")
    output = capfd.readouterr()
    shown = [*found.notes, str(caught.value), repr(caught.value), caught.value.remedy, repr(github), output.out, output.err]
    assert TOKEN not in "".join(map(str, shown)) + (tmp_path / "summary").read_text("utf-8")
    assert all(TOKEN not in json.dumps(request.body) + request.operation for request in server.requests)


def test_who_we_are_is_asked_once(server: GitHubServer) -> None:
    server.accounts["ghp_person"] = Account("Octo-Person")
    with client(server, "ghp_person") as github:
        write(github)
        write(github, report="new\n")
    assert len(server.bodies(7, "Octo-Person")) == 1
    assert [request.operation for request in server.requests].count("graphql") == 1


def workflow_run(tmp_path: Path, sha: str = HEAD, owner: str = "mallory", branch: str = "change") -> Event:
    run = {"head_sha": sha, "head_branch": branch, "head_repository": {"full_name": f"{owner}/support", "owner": {"login": owner}}}
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"workflow_run": run | {"pull_requests": [{"number": 999}]}}))
    return read_event({"GITHUB_EVENT_NAME": "workflow_run", "GITHUB_REPOSITORY": "acme/support", "GITHUB_EVENT_PATH": str(path)})


def test_the_pull_request_of_a_workflow_run_is_that_of_its_commit(server: GitHubServer, tmp_path: Path) -> None:
    server.pull(8, head=HEAD, repository="mallory/support")
    server.pull(9, head=NEWER, repository="mallory/support", branch="other")
    with client(server) as github:
        found = resolve(github, workflow_run(tmp_path))
    assert (found.pull, found.head, found.base, found.fork) == (8, HEAD, "b" * 40, True)


@pytest.mark.parametrize("branch", ["change&state=closed#", "näme with space", "a/../../pulls", "$(id)`id`"])
def test_a_branch_may_be_called_anything(server: GitHubServer, tmp_path: Path, branch: str) -> None:
    server.pull(8, head=HEAD, repository="mallory/support", branch=branch)
    with client(server) as github:
        assert resolve(github, workflow_run(tmp_path, branch=branch)).pull == 8


def test_a_commit_that_a_later_push_has_overtaken_has_no_pull_request(server: GitHubServer, tmp_path: Path) -> None:
    server.pull(8, head=NEWER, repository="mallory/support")
    with client(server) as github, pytest.raises(RemoteMissing, match="no open pull requests"):
        resolve(github, workflow_run(tmp_path))


def test_the_commit_of_a_comment_is_asked_for(server: GitHubServer) -> None:
    event = Event(name="issue_comment", repository="acme/support", head=None, pull=7)
    with client(server) as github:
        assert resolve(github, event).head == HEAD
        with pytest.raises(RemoteMissing):
            resolve(github, Event(name="issue_comment", repository="acme/support", head=None, pull=12))


@pytest.mark.parametrize("body", [b"[]", b'{"head": {"sha": "main"}}', b'{"head": 1}', b"null"])
def test_a_pull_request_that_makes_no_sense_is_an_error_of_the_remote(server: GitHubServer, body: bytes) -> None:
    server.faults[1] = Fault(200, body=body)
    with client(server) as github, pytest.raises(RemoteError, match=r"pull request 7: no head\.sha"):
        resolve(github, Event(name="issue_comment", repository="acme/support", head=None, pull=7))


@pytest.mark.parametrize(("permission", "may"), [("admin", True), ("write", True), ("read", False), ("none", False)])
def test_who_may_write_is_asked(server: GitHubServer, permission: str, may: bool) -> None:
    server.permissions["octocat"] = permission
    with client(server) as github:
        assert may_write(github, "octocat") is may
        assert may_write(github, "../../octocat") is False


def test_the_double_takes_only_what_the_description_allows() -> None:
    def refused(operation: str, body: Any = None, **query: str) -> bool:
        return bool(violations(operation, query, body))

    run: dict[str, Any] = {"name": "n", "head_sha": HEAD, "status": "completed", "conclusion": "success"}
    remark = {"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "m"}
    output: Callable[..., dict[str, Any]] = lambda **more: run | {"output": {"title": "t", "summary": "s"} | more}  # noqa: E731
    assert not refused("checks/create", output(annotations=[remark] * 50))
    assert refused("checks/create", output(annotations=[remark] * 51))
    assert refused("checks/create", output(annotations=[{"path": "a"}]))
    assert refused("checks/create", output(summary="s" * 65_536))
    assert refused("checks/create", {"name": "n", "head_sha": HEAD, "status": "completed"})
    assert refused("checks/create", run | {"conclusion": "approved"})
    assert refused("checks/create", run | {"typo": 1})
    assert refused("issues/create-comment", {"body": "x" * 65_537})
    assert refused("issues/create-comment", {"text": "x"})
    assert refused("issues/list-comments", per_page="many")
    assert refused("issues/list-comments", sort="created")


def test_a_refusal_is_not_tried_again(server: GitHubServer) -> None:
    server.faults[1] = Fault(403, message="Resource not accessible by integration")
    with client(server) as github, pytest.raises(RemoteRefused, match="Resource not accessible by integration"):
        github.get("pulls/7")
    assert len(server.requests) == 1
