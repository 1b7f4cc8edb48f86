"""The calls of a server: who is let in, what an application's mistakes do, and how calls end."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection

from duologue import Outcome, Pipeline, Processor, Session
from duologue.errors import ConfigurationError
from duologue.transports.client import ClientTransport, Message
from duologue.transports.playout.base import AudioSink
from duologue.web import ClientRefused, MakeSession, WebLimits, routes, token_auth
from duologue.web.calls import Calls


class Client(ClientTransport):
    """A client that is there as long as it is not told otherwise."""

    def __init__(self, id: str = "c1") -> None:
        super().__init__(id)
        self.closed: list[tuple[str, bool]] = []
        self.sent: list[Message] = []
        self.hang = False

    def send_message(self, message: Message) -> None:
        self.sent.append(message)

    def audio_sink(self) -> AudioSink:
        return self

    def write(self, chunk: bytes) -> None: ...

    def clear(self) -> int | None:
        return None

    def position(self) -> int | None:
        return None

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        if self.hang:
            await anyio.sleep_forever()
        self.closed.append((reason, error))


def pipeline(transport: ClientTransport) -> Pipeline:
    return Pipeline([transport.input(), transport.output()])


def calls(make_session: MakeSession | None = pipeline, auth: Any = None, **limits: Any) -> Calls:
    return Calls(make_session, auth, WebLimits(**limits))


def connection(**headers: str) -> HTTPConnection:
    query = headers.pop("query", "")
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": pairs, "query_string": query.encode(), "path": "/"})


async def test_a_call_runs_from_its_start_to_the_clients_going() -> None:
    server, client = calls(), Client()
    call = server.open(client)
    assert call.session is None
    call.start()
    call.start()
    await anyio.sleep(1)
    assert call.session is not None
    client.hang_up("client disconnected")
    await call.wait()
    assert call.outcome is not None
    assert call.outcome.reason == "client disconnected"
    assert client.closed == [("client disconnected", False)]
    assert len(server) == 0


async def test_beyond_the_limit_and_under_a_taken_id_clients_are_refused() -> None:
    server = calls(connections=2)
    first = server.open(Client("a"))
    with pytest.raises(ClientRefused, match="'a' exists already") as refused:
        server.open(Client("a"))
    assert refused.value.status == 409
    server.open(Client("b"))
    with pytest.raises(ClientRefused, match="2 calls already") as refused:
        server.open(Client("c"))
    assert refused.value.status == 503
    await first.end("gone before it began")
    server.open(Client("c"))


async def test_a_call_is_over_after_its_time() -> None:
    server, client = calls(call_s=30), Client()
    call = server.open(client)
    call.start()
    began = anyio.current_time()
    await call.wait()
    assert anyio.current_time() - began == pytest.approx(30, abs=0.1)
    assert client.closed == [("the limit of 30 s", False)]


async def test_a_factory_that_fails_ends_its_own_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    def make(transport: ClientTransport) -> Session:
        if transport.id == "bad":
            raise RuntimeError("no database")
        return Session(pipeline(transport))

    server = calls(make)
    good, bad = Client("good"), Client("bad")
    server.open(good).start()
    failing = server.open(bad)
    failing.start()
    with caplog.at_level(logging.CRITICAL):
        await failing.wait()
    assert bad.closed == [("error", True)]
    assert "good" in [call.transport.id for call in server]
    await server.shutdown()


async def test_nobody_who_makes_sessions_is_an_error_that_says_so() -> None:
    server = calls(None)
    with pytest.raises(ConfigurationError, match="on_connected"):
        await server.make(Client())


async def test_at_shutdown_calls_end_in_time_and_no_more_are_taken() -> None:
    server = calls(shutdown_s=2)
    quick, stuck = Client("quick"), Client("stuck")
    stuck.hang = True
    for client in (quick, stuck):
        server.open(client).start()
    await anyio.sleep(1)
    began = anyio.current_time()
    await server.shutdown()
    assert anyio.current_time() - began <= 2.01
    assert quick.closed == [("server is shutting down", False)]
    with pytest.raises(ClientRefused) as refused:
        server.open(Client("late"))
    assert refused.value.status == 503
    await anyio.sleep(1)
    assert len(server) == 0
    assert {task.get_name() for task in asyncio.all_tasks()} & {"call quick", "call stuck"} == set()


async def test_an_application_may_start_and_stop_more_than_once() -> None:
    voice = routes(pipeline, page=False)
    for number in range(3):
        async with voice.lifespan():
            call = voice.calls.open(client := Client(f"c{number}"))
            call.start()
            await anyio.sleep(0.5)
        assert client.closed == [("server is shutting down", False)]
        with pytest.raises(ClientRefused):
            voice.calls.open(Client("between"))


async def test_the_authentication_callback_says_who_it_is() -> None:
    async def check(asked: HTTPConnection) -> str:
        await anyio.sleep(0.1)
        return asked.headers.get("x-user", "")

    server = calls(auth=check)
    assert await server.authorize(connection(**{"x-user": "ann"})) == "ann"
    with pytest.raises(ClientRefused) as refused:
        await server.authorize(connection())
    assert refused.value.status == 401
    assert await calls().authorize(connection()) is None


async def test_a_token_may_come_as_a_header_or_in_the_address() -> None:
    server = calls(auth=token_auth("sesame"))
    await server.authorize(connection(authorization="Bearer sesame"))
    await server.authorize(connection(query="token=sesame"))
    for wrong in (connection(), connection(authorization="Bearer sésame"), connection(query="token=")):
        with pytest.raises(ClientRefused):
            await server.authorize(wrong)


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="connections is 0"):
        WebLimits(connections=0)


async def test_who_makes_sessions_may_be_given_later_by_assignment_or_by_a_call() -> None:
    voice = routes(page=False)
    voice.on_connected = pipeline
    assert voice.calls.make_session is pipeline

    @voice.on_connected
    async def other(transport: ClientTransport) -> Session:
        return Session(pipeline(transport))

    assert voice.calls.make_session is other
    client = Client()
    call = voice.calls.open(client)
    call.start()
    await anyio.sleep(0.5)
    async with voice.lifespan():
        pass
    assert client.closed == [("server is shutting down", False)]


# -- the application's work with a call that has ended ----------------------------------------------------------------


async def test_on_ended_has_the_outcome_of_each_call_when_its_client_knows_of_the_end() -> None:
    saved: list[tuple[str, str, list[tuple[str, bool]]]] = []
    clients = {id: Client(id) for id in ("c1", "c2")}

    async def save(session: Session, outcome: Outcome) -> None:
        told = list(clients[session.id].closed)
        await anyio.sleep(3)
        saved.append((session.id, outcome.reason, told))

    server = routes(pipeline, on_ended=save).calls
    for client in clients.values():
        server.open(client).start()
    await anyio.sleep(1)
    clients["c1"].hang_up("client disconnected")
    await anyio.sleep(0.1)
    assert len(server) == 1, "the work at the end takes no place of a call"
    await anyio.sleep(3)
    assert saved == [("c1", "client disconnected", [("client disconnected", False)])]
    await server.shutdown()  # waits for the work
    assert [id for id, *_ in saved] == ["c1", "c2"]


async def test_on_ended_that_fails_or_takes_too_long_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fails(session: Session, outcome: Outcome) -> None:
        raise OSError("the database is down")

    async def hangs(session: Session, outcome: Outcome) -> None:
        await anyio.sleep_forever()

    for work in (fails, hangs):
        server = routes(pipeline, on_ended=work).calls
        server.open(client := Client()).start()
        await anyio.sleep(1)
        client.hang_up("client disconnected")
        await anyio.sleep(11)
    texts = [record.getMessage() for record in caplog.records]
    assert any("fails failed" in text for text in texts)
    assert any("hangs did not end within 10 s" in text for text in texts)


async def test_on_ended_knows_a_call_that_failed() -> None:
    outcomes: list[Outcome] = []

    class Broken(Processor):
        async def open(self) -> None:
            await super().open()
            raise OSError("no sound")

    server = routes(
        lambda transport: Pipeline([transport.input(), Broken(), transport.output()]),
        on_ended=lambda session, outcome: outcomes.append(outcome),
    ).calls
    server.open(Client()).start()
    await anyio.sleep(1)
    assert [str(outcome.error) for outcome in outcomes] == ["no sound"]


@pytest.mark.real_clock
async def test_code_that_blocks_all_calls_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def named() -> bool:
        return any("the event loop is blocked" in text and "time.sleep" in text for text in caplog.messages)

    voice = routes(pipeline)
    async with voice.lifespan():
        await asyncio.sleep(0.3)
        for _ in range(20):  # once is enough, if the machine gives the watch a moment meanwhile
            time.sleep(1.0)  # noqa: ASYNC251
            await asyncio.sleep(0.3)
            if named():
                break
    assert named()
