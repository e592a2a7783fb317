"""Options of the whole suite."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Whoever starts the suite in the background makes it ignore Ctrl-C, and all that it starts; some tests are about Ctrl-C."""

settings.register_profile("here", deadline=None)  # no test fails because the machine is busy
settings.load_profile("here")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two, as the machines have for which the suite's time is said; more would share too little of what takes long to make."""
    return 2


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is made once: tests that look at the same thing run in the same process (`--dist loadgroup`)."""
    for item in items:
        if item.get_closest_marker("end_to_end"):
            item.add_marker(pytest.mark.xdist_group(_shared(item)))


def _shared(item: pytest.Item) -> str:
    if "finished" in getattr(item, "fixturenames", ()):
        return "finished"
    arguments = item.callspec.params if hasattr(item, "callspec") else {}
    engine = getattr(arguments.get("engine"), "name", "")
    return f"{item.path.name} {engine}".strip()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what tests/golden compares with, instead of comparing")
