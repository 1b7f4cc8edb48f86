"""A call is killed in one process and goes on in another: with a folder, SQLite, and a real Redis server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trace.processes import LATEST_S, LEASE_S, Process, check_killed, check_taken_up, killed_after, taken_up
from tests.trace.servers import redis_server


@pytest.fixture(params=["folder", "sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "redis":
        with redis_server(tmp_path) as server:
            yield server.url
    else:
        yield str(tmp_path / "calls") if request.param == "folder" else f"sqlite:///{tmp_path / 'calls.db'}"


def test_a_killed_call_goes_on_in_another_process(address: str, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    killed = killed_after(LATEST_S, address, effects, answers=2)
    before = check_killed(address, killed)
    time.sleep(LEASE_S)
    if "redis" in address:  # the process that has taken it up is killed as well
        check_killed(address, killed_after(LATEST_S, address, effects, killed.name, answers=1))
        time.sleep(LEASE_S)
    name = taken_up(address, effects, killed.name)
    check_taken_up(address, before, name, effects)


def test_a_call_in_a_living_process_is_not_taken(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'calls.db'}"
    with Process(address, tmp_path / "effects", lease_s=60) as process:
        name, *_ = process.lines(2)
        with Process(address, tmp_path / "others", 1, name) as other:
            error = other.ended()
    assert other.process.returncode == 1
    assert f"the call {name} is going on" in error
    assert not (tmp_path / "others").exists()
