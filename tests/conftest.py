"""Options of the whole suite."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Whoever starts the suite in the background makes it ignore Ctrl-C, and all that it starts; some tests are about Ctrl-C."""

settings.register_profile("here", deadline=None)  # no test fails because the machine is busy
settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what tests/golden compares with, instead of comparing")
