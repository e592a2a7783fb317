"""Options of the whole suite."""

from __future__ import annotations

import signal

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
"""Whoever starts the suite in the background makes it ignore Ctrl-C, and all that it starts; some tests are about Ctrl-C."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what tests/golden compares with, instead of comparing")
