"""The option `--fuzz-seconds`."""

from __future__ import annotations

import os

import pytest

VARIABLE = "DUOLOGUE_FUZZ_SECONDS"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option. In a run of all tests it comes too late, and the variable remains."""
    parser.addoption("--fuzz-seconds", type=float, default=0.0, help="fuzz for this many seconds, with new seeds")


@pytest.fixture(scope="session")
def fuzz_seconds(request: pytest.FixtureRequest) -> float:
    """Seconds for which all fuzzing goes on; 0 for the fixed inputs."""
    return float(request.config.getoption("--fuzz-seconds", default=0.0) or os.environ.get(VARIABLE, 0.0))
