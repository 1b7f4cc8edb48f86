"""Admission, the length of calls, and the trouble of one call beside the others."""

from __future__ import annotations

import anyio
import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from duologue import Pipeline, Session
from duologue.errors import ConfigurationError
from duologue.processors.processor import Processor
from duologue.session.life import State
from duologue.web import WebLimits, openai_realtime_app
from duologue.web.realtime.transport import RealtimeTransport
from tests.testing.scripted.openai_client import connected
from tests.web.realtime.calls import Mocks, call, serving, speech


async def test_without_the_key_nobody_calls() -> None:
    mocks = Mocks()
    async with serving(mocks, api_key="right") as url:
        with pytest.raises(InvalidStatus, match="401") as caught:
            async with connected(url, key="wrong"):
                pass
        assert b"invalid_api_key" in caught.value.response.body
        assert mocks.sessions == []
        async with connected(url, key="right") as client:
            await client.until("session.created")


async def test_a_browser_sends_its_key_as_a_subprotocol() -> None:
    async with serving(Mocks(), api_key="right") as url:
        address = url.replace("http", "ws") + "/realtime?model=x"
        protocols = ["realtime", "openai-insecure-api-key.right"]
        async with connect(address, subprotocols=protocols) as client:  # type: ignore[arg-type]
            assert client.subprotocol == "realtime"
            assert b"session.created" in await client.recv(decode=False)
        with pytest.raises(InvalidStatus, match="401"):
            await connect(address, subprotocols=["realtime"])  # type: ignore[list-item]


async def test_more_calls_than_allowed_are_refused_until_one_ends() -> None:
    async with serving(Mocks(), limits=WebLimits(connections=1)) as url:
        async with connected(url) as client:
            await client.until("session.created")
            with pytest.raises(InvalidStatus, match="503"):
                async with connected(url):
                    pass
        await anyio.sleep(0.1)
        async with connected(url) as client:
            await client.until("session.created")


async def test_a_call_ends_at_its_limit() -> None:
    mocks = Mocks()
    async with call(mocks, limits=WebLimits(call_s=120)) as client:
        code, reason = await client.until_closed()
        assert (code, reason) == (1001, "Your session hit the maximum duration of 2 minutes.")
        assert anyio.current_time() == pytest.approx(120, abs=1)
        assert mocks.sessions[0].state is State.ENDED


async def test_a_silent_client_is_closed() -> None:
    async with call(Mocks(), limits=WebLimits(idle_s=30)) as client:
        await anyio.sleep(20)
        await client.type("Still here.")
        assert (await client.until_closed())[0] == 1001
        assert anyio.current_time() == pytest.approx(50, abs=1)


async def test_a_message_that_is_too_big_ends_the_call() -> None:
    async with call(Mocks(), limits=WebLimits(realtime_message_bytes=1000)) as client:
        await client.type("x" * 2000)
        assert (await client.until_closed())[0] == 1009


async def test_when_the_client_goes_the_session_ends() -> None:
    mocks = Mocks(["A long answer."], tts={"seconds_per_sentence": 60.0, "speed": 1.0})
    async with serving(mocks) as url:
        async with connected(url) as client:
            await client.until("session.created")
            await client.type("Go.")
            await client.send("response.create")
            await client.until("response.output_audio.delta")
        await anyio.sleep(1)
        assert mocks.sessions[0].state is State.ENDED


async def test_the_application_ends_the_call() -> None:
    mocks = Mocks(["Goodbye."])
    async with call(mocks) as client:
        await client.speak(speech(1.0))
        await client.type("Bye.")
        await client.send("response.create")
        await client.until("response.created")
        await mocks.sessions[0].end()
        await client.until("response.done")
        assert (await client.until_closed())[0] == 1000


class Broken(Processor):
    async def open(self) -> None:
        raise RuntimeError("secret detail")


@pytest.mark.parametrize("where", ["making", "opening", "without turns"])
async def test_one_call_that_fails_does_not_touch_the_others(where: str, caplog: pytest.LogCaptureFixture) -> None:
    mocks = Mocks()

    def make(transport: RealtimeTransport) -> Session:
        if transport.model != "broken":
            return mocks(transport)
        if where == "making":
            raise RuntimeError("secret detail")
        parts = [transport.input(), transport.turns(), Broken(), transport.client_tools(), transport.output()]
        if where == "without turns":
            parts = [transport.input(), mocks.engine(), transport.output()]
        return Session(Pipeline(parts))

    async with serving(make) as url, connected(url) as good, connected(url, model="broken") as bad:
        await good.until("session.created")
        assert (await bad.until_closed())[0] == 1011
        assert "secret" not in str(bad.events)
        await good.type("Hi.")
        await good.send("response.create")
        await good.until("response.done")


def test_limits_are_positive() -> None:
    with pytest.raises(ConfigurationError, match="idle_s"):
        WebLimits(idle_s=0)


def test_the_application_is_a_starlette_one() -> None:
    app = openai_realtime_app(Mocks())
    assert isinstance(app, Starlette)
    assert [route.path for route in app.routes] == ["/v1/realtime", "/realtime"]  # type: ignore[attr-defined]
