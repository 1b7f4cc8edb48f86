"""Fixtures for tests in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import Server, running

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. Without one the tests are skipped; in continuous integration they fail."""
    named = os.environ.get("CHROMIUM", "")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser: {named or ', '.join(NAMES)} is not on the path (the variable CHROMIUM may name one)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and recordings are kept."""
    path = Path(__file__).parents[2] / "artifacts" / "browser"
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`duologue serve` with the demo's agents, on a port of its own."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server
