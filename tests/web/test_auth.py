"""Empty keys, wrong keys, and an authentication that does not answer."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection

from duologue import Pipeline
from duologue.errors import ConfigurationError
from duologue.web import ClientRefused, openai_realtime_app, token_auth
from duologue.web.auth import AUTH_S, MAX_ADDRESSES, WRONG_KEYS, Auth, Doorkeeper


def connection(token: str = "", address: str = "203.0.113.5") -> HTTPConnection:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    return HTTPConnection(
        {"type": "http", "headers": headers, "query_string": b"", "path": "/", "client": (address, 5000)}
    )


async def refused(keeper: Doorkeeper, asked: HTTPConnection) -> int:
    with pytest.raises(ClientRefused) as caught:
        await keeper.identify(asked)
    return caught.value.status


@pytest.mark.parametrize("token", ["", " ", "\t\n", None])
def test_an_empty_key_is_refused_before_anybody_comes_in(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        token_auth(token)
    if token is not None:  # which asks for none
        with pytest.raises(ConfigurationError, match="empty"):
            openai_realtime_app(lambda transport: Pipeline([transport.input(), transport.output()]), api_key=token)


async def test_wrong_keys_are_counted_and_slowed_and_the_right_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Doorkeeper(token_auth("right"))
    began = anyio.current_time()
    for guess in range(WRONG_KEYS):
        assert await refused(keeper, connection(f"guess {guess}")) == 401
    assert anyio.current_time() - began < 0.1
    for guess in range(3):
        assert await refused(keeper, connection(f"guess {guess}")) == 401
    assert anyio.current_time() - began > 1.9
    now = anyio.current_time()
    assert await keeper.identify(connection("right")) == "client"
    assert await refused(keeper, connection("guess", "203.0.113.6")) == 401
    assert anyio.current_time() - now < 0.1
    assert keeper.wrong_keys == WRONG_KEYS + 4
    assert "203.0.113.5" in caplog.text
    assert "guess" not in caplog.text


async def test_a_flood_of_wrong_keys_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Doorkeeper(token_auth("right"))
    statuses: list[int] = []

    async def guess(number: int) -> None:
        statuses.append(await refused(keeper, connection("wrong")))

    async with anyio.create_task_group() as tasks:
        for number in range(1_000):
            tasks.start_soon(guess, number)
    assert {status: statuses.count(status) for status in set(statuses)} == {401: 110, 429: 890}
    assert len(caplog.records) < 30
    for number in range(MAX_ADDRESSES + 5):
        await refused(keeper, connection("wrong", f"address {number}"))
    assert len(keeper._guesses) == MAX_ADDRESSES


async def test_an_authentication_that_does_not_answer_refuses_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(asked: HTTPConnection) -> str:
        await anyio.sleep_forever()
        return "never"

    def broken(asked: HTTPConnection) -> str:
        raise KeyError("the password")

    async def closed(asked: HTTPConnection) -> str:
        raise ClientRefused(403, "closed", "we are closed")

    cases: list[tuple[Auth, int]] = [(silent, 503), (broken, 500), (closed, 403)]
    for auth, status in cases:
        began = anyio.current_time()
        assert await refused(Doorkeeper(auth), connection()) == status
        assert anyio.current_time() - began <= AUTH_S + 0.1
    assert "password" not in caplog.text
    keeper = Doorkeeper(silent)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refused, keeper, connection())
        await anyio.sleep(1)
        began = anyio.current_time()
        keeper.close()  # the server stops
    assert anyio.current_time() - began < 0.1
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
