"""Folder, SQLite and Redis keep traces alike, and hold each for one process at a time."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.trace import BadTrace, FolderStore, RedisStore, SqliteStore, Store, Trace, open_store, read, verify
from duologue.trace import redis as redis_module
from tests.patience import until
from tests.trace.calls import asked, cascade
from tests.trace.servers import RedisServer, redis_server
from tests.trace.test_writing import failures, goes_on


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["folder", "sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("server").url)
    return str(tmp_path / "calls") if request.param == "folder" else f"sqlite:///{tmp_path / 'calls.db'}"


def remove_files(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def modes_in(folder: Path) -> list[int]:
    return [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()]


def clear(store: Store) -> None:
    for name in store.names():
        store.delete(name)


async def test_a_call_is_kept_and_proved(address: str) -> None:
    clear(open_store(address))
    trace = Trace(address, audio=True)
    async with cascade(trace) as call:
        await asked(call)
    result = verify(open_store(address), trace.call)
    assert (result.ok, result.ended, result.torn, result.not_written) == (True, True, False, 0)
    assert result.records > 20


async def test_calls_are_found_by_vendor_the_newest_first(address: str) -> None:
    store = open_store(address)
    clear(store)
    names = []
    for id in "ab":
        trace = Trace(address)
        async with cascade(trace, id=id):
            await anyio.sleep(0.1)
        names.append(trace.call)
    assert set(store.names()) == set(store.calls()) == set(names)
    assert store.names() == sorted(names, reverse=True)
    assert list(store.calls(provider="nobody")) == []
    store.delete(names[0])
    store.delete(names[0])
    assert store.names() == [names[1]]


def test_lines_are_appended_as_they_are(address: str) -> None:
    store, other = open_store(address), open_store(address)
    clear(store)
    lines = [f"{number} ä {'x' * (number % 77)}\n".encode() for number in range(2_500)]
    store.append("a", lines[:3])
    assert list(other.read("a")) == lines[:3]
    store.append("b", lines[:1])
    store.append("a", lines[3:])
    store.finish("a")
    store.finish("b")
    assert list(other.read("a")) == lines
    assert list(islice(other.read("a"), 2)) == lines[:2]
    assert list(store.read("b")) == lines[:1]


def test_an_unknown_call_is_named(address: str) -> None:
    store = open_store(address)
    with pytest.raises(BadTrace, match="nobody"):
        next(store.read("nobody"))
    store.delete("nobody")


# -- holds -----------------------------------------------------------------------------------------------------------


def test_one_holder_at_a_time(address: str) -> None:
    store, other = open_store(address), open_store(address)
    assert store.hold("held", "me", 30) == "me"
    assert other.hold("held", "you", 30) == "me"
    assert other.hold("held", "you", 0) == "me"  # only the holder lets it go
    assert store.hold("held", "me", 30) == "me"
    assert store.hold("held", "me", 0) == "me"
    began = time.monotonic()
    assert other.hold("held", "you", 0.3) == "you"
    while (holder := store.hold("held", "me", 30)) == "you":
        time.sleep(0.02)
    assert holder == "me"  # it has expired
    assert time.monotonic() - began >= 0.29


def test_of_many_that_ask_at_once_one_gets_it(address: str) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> str:
        store = open_store(address)
        start.wait(30)
        return store.hold(f"contested {number // 8}".replace(" ", "-"), f"holder-{number}", 30)

    with ThreadPoolExecutor(8) as pool:
        for round_ in range(5):
            holders = list(pool.map(ask, range(round_ * 8, round_ * 8 + 8)))
            assert len(set(holders)) == 1


async def test_a_call_that_goes_on_is_held_and_one_that_has_ended_is_not(address: str) -> None:
    trace = Trace(address)
    async with cascade(trace):
        await trace.flush()
        assert open_store(address).hold(trace.call, "another", 30) == trace.call
    assert open_store(address).hold(trace.call, "another", 30) == "another"


@pytest.mark.real_clock
async def test_a_hold_is_renewed_while_nothing_happens(tmp_path: Path) -> None:
    trace = Trace(tmp_path, lease_s=3)
    async with cascade(trace):
        await until(lambda: FolderStore(tmp_path).names() == [trace.call])
        hold = tmp_path / f"{trace.call}.hold"
        for _ in range(2):
            before = hold.read_bytes()
            await until(partial(lambda before: hold.read_bytes() not in (b"", before), before))
        assert FolderStore(tmp_path).hold(trace.call, "another", 30) == trace.call
    assert not hold.exists()


@pytest.mark.real_clock
async def test_a_process_that_stood_still_learns_that_its_call_is_gone(tmp_path: Path) -> None:
    trace, store = Trace(tmp_path, lease_s=0.9), FolderStore(tmp_path)
    async with cascade(trace, may_fail=True) as call:
        await until(lambda: store.names() == [trace.call])
        # The process stands still: its lease runs out, and another one takes the call.
        (tmp_path / f"{trace.call}.hold").write_text(f'{{"holder": "another", "until": {time.time() + 60}}}')
        await until(lambda: failures(call))
        (error,) = failures(call)
        assert "was taken up as another" in error.message
        assert not error.fatal
        count = len(list(read(store, trace.call)))
        trace.note("custom", {"number": 1})
    assert len(list(read(store, trace.call))) == count


def test_a_hold_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for text in ("", "{", "[]", '{"holder": 1}', '{"holder": "a", "until": "soon"}'):
        (tmp_path / "call.hold").write_text(text)
        assert store.hold("call", "me", 0) == "me"


@pytest.mark.parametrize("lease_s", [0, -1, float("nan"), 1e9, "10", None])
def test_a_lease_has_a_length(lease_s: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lease_s"):
        Trace(tmp_path, lease_s=lease_s)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert repr(open_store("calls")) == f"FolderStore('{tmp_path}/calls')"
    assert repr(open_store("sqlite:///calls.db")) == f"SqliteStore('{tmp_path}/calls.db')"
    assert repr(open_store("sqlite:////var/calls.db")) == "SqliteStore('/var/calls.db')"
    assert repr(open_store("redis://ann:secret@host:6380/2")) == "RedisStore('host:6380/2')"
    assert repr(open_store("unix:///run/redis.sock?db=1")) == "RedisStore('/run/redis.sock/1')"


@pytest.mark.parametrize(
    "where", ["", "postgres://ann:secret@host/db", "sqlite://calls.db", "sqlite:///", "redis://ann:secret@host:port/0"]
)
def test_another_address_is_refused_without_its_password(where: str) -> None:
    for make in (open_store, Trace):
        with pytest.raises(ConfigurationError) as caught:
            make(where)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


# -- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_costs_one_error_without_its_password(free_port: int) -> None:
    async with cascade(Trace(f"redis://:secret@127.0.0.1:{free_port}/0"), may_fail=True) as call:
        await goes_on(call)
    (error,) = failures(call)
    assert "secret" not in error.message
    assert str(free_port) in error.message


async def test_a_wrong_password_costs_one_error(server: RedisServer) -> None:
    async with cascade(Trace(f"redis://:wrong@127.0.0.1:{server.port}/0"), may_fail=True) as call:
        await goes_on(call)
    assert "wrong" not in failures(call)[0].message.replace("WRONGPASS", "")


async def test_a_server_that_comes_back_gets_everything(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        trace = Trace(server.url)
        async with cascade(trace, may_fail=True) as call:
            await call.types("Hello?")
            await trace.flush()
            server.stop()
            await goes_on(call)
            server.start()
        result = verify(open_store(server.url), trace.call)
        assert (result.ok, result.ended, result.not_written) == (True, True, 0)


@pytest.mark.real_clock
async def test_a_server_that_hangs_has_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "WAIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection, and says nothing
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        async with cascade(Trace(store), may_fail=True) as call:
            await until(lambda: failures(call))
        with pytest.raises(BadTrace, match="cannot be read"):
            store.names()
        assert time.monotonic() - began < 15
        store.finish("")


def test_an_append_whose_outcome_was_not_known_is_not_doubled(server: RedisServer, tmp_path: Path) -> None:
    for store in (RedisStore(server.url), SqliteStore(tmp_path / "calls.db")):
        store.append("unsure", [b"1\n", b"2\n"])
        store._counts["unsure"] = 0  # its answer was lost
        store.append("unsure", [b"1\n", b"2\n"])
        store.append("unsure", [b"3\n"])
        assert list(store.read("unsure")) == [b"1\n", b"2\n", b"3\n"]
        store.finish("unsure")


async def test_a_file_that_is_no_database_costs_one_error(tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_bytes(b"hello " * 2_000)
    store = SqliteStore(tmp_path / "calls.db")
    async with cascade(Trace(store), may_fail=True) as call:
        await goes_on(call)
    for look in (store.names, lambda: list(store.read("a"))):
        with pytest.raises(BadTrace, match=r"calls\.db.*cannot be read"):
            look()


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "calls.db") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(BadTrace, match=r"calls\.db.* has tables of version 7"):
        SqliteStore(tmp_path / "calls.db").names()


async def test_a_database_that_is_removed_in_the_call(tmp_path: Path) -> None:
    trace = Trace(SqliteStore(tmp_path / "calls.db"))
    async with cascade(trace, may_fail=True) as call:
        await trace.flush()
        remove_files(tmp_path)
        await goes_on(call)


@pytest.mark.skipif(sys.platform == "win32", reason="the modes are those of POSIX")
async def test_only_the_user_may_read_what_is_kept(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        trace = Trace(f"sqlite:///{tmp_path / 'calls.db'}")
        async with cascade(trace):
            await trace.flush()
            modes = modes_in(tmp_path)
    finally:
        os.umask(before)
    assert len(modes) >= 2  # with the log of SQLite
    assert set(modes) == {0o600}


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
