"""The HTML report in a real Chromium: it filters, asks for nothing from anywhere, and runs no script but its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from quant_action.formats.html import render
from tests.golden.hostile import hostile_report
from tests.golden.records import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.end_to_end, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")]


def page_in_browser(folder: Path, page: str, fragment: str = "") -> str:
    """The document as the browser has it when its scripts have run."""
    (folder / "report.html").write_text(page, encoding="utf-8")
    assert BROWSER
    flags = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    flags += ["--disable-sync", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
    address = f"{(folder / 'report.html').as_uri()}{fragment}"
    return subprocess.run([BROWSER, *flags, address], capture_output=True, text=True, timeout=120, check=True).stdout


def shown_rows(dom: str) -> list[str]:
    """Item of every row of the table of regressed items that is not hidden."""
    table = dom.split('<table id="regressions">')[1].split("</table>")[0]
    rows = re.findall(r"<tr data-[^>]*>.*?</tr>", table, flags=re.DOTALL)
    return [re.sub("<.*", "", row.split('scope="row">')[1], flags=re.DOTALL) for row in rows if "hidden" not in row.split(">")[0]]


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and what was asked of it."""
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            """Nothing: `heard` is the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, heard
        server.shutdown()


def test_the_table_of_regressed_items_can_be_filtered_by_the_address(tmp_path: Path) -> None:
    dom = page_in_browser(tmp_path, render(report()), "#filter=ORDER+number&candidate=gptq-w3-g128&kind=right+%E2%86%92+wrong")
    rows = shown_rows(dom)
    assert len(rows) == 8
    assert all(row.startswith("extract/") for row in rows)
    assert "8 of 125 shown" in dom
    assert '<div id="controls">' in dom


def test_without_a_filter_every_item_is_shown(tmp_path: Path) -> None:
    assert len(shown_rows(page_in_browser(tmp_path, render(report())))) == 125


def test_a_hostile_report_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    with listening() as (port, heard):
        there = f"http://127.0.0.1:{port}"
        text = (
            f'<img src="{there}/i"><script src="{there}/s"></script><script>document.title = "owned"</script>'
            f'</script><iframe src="{there}/f"></iframe><style>@import "{there}/c"; * {{background: url({there}/b)}}</style>'
            f'" onmouseover="fetch(\'{there}/o\')" autofocus onfocus="document.title = \'owned\'" <svg onload=fetch("{there}/l")>'
        )
        dom = page_in_browser(tmp_path, render(hostile_report(text=text)), f"#filter=<img src={there}/h onerror=alert(1)>")
        assert heard == []
        page_in_browser(tmp_path, f'<!doctype html><body><img src="{there}/i">')
        assert heard == ["/i"], "markup without the policy would have asked"
    assert "<title>owned" not in dom
    assert re.search(r"\b0 of \d+ shown", dom), "the report's own script did run"
