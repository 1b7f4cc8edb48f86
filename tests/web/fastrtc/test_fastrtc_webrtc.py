"""FastRTC's signalling: a client written from its documentation connects, and meets its forms of refusal."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.errors import DuologueError
from duologue.frames import CallerStartedSpeaking
from duologue.testing.webrtc import WebRTCClient
from duologue.web import WebLimits, token_auth
from tests.web.webrtc_client import RATE, Calls, Server, ended, loudness, serving, tone

pytestmark = pytest.mark.real_clock

PATH = "/webrtc/offer"


def client(server: Server, id: str = "abc", token: str = "") -> WebRTCClient:
    return WebRTCClient(server.request(token), path=PATH, signalling="fastrtc", id=id, pings=False)


async def test_audio_goes_both_ways_and_the_log_tells_what_happens() -> None:
    calls = Calls()
    async with serving(calls) as server:
        async with client(server) as caller:
            assert calls.transports[0].id.startswith("abc-")
            engine = calls.engines[0]
            caller.microphone.say(tone(1, 16_000, hz=440))
            calls.sessions[0].broadcast(CallerStartedSpeaking())
            await engine.say(tone(1, RATE, hz=600))
            await caller.wait_for(lambda: len(caller.heard) > 90)
            assert loudness(engine.pcm()[16_000:32_000], 16_000, 440) == pytest.approx(-23, abs=1.5)
            assert loudness(caller.heard_pcm()[48_000:96_000], 48_000, 600) == pytest.approx(-20, abs=1.5)
            logs = [message["data"] for message in caller.messages if message["type"] == "log"]
            assert logs[:2] == ["started_talking", "response_starting"]
            caller.send("nonsense")
            error = await caller.until(lambda message: message["type"] == "error")
            assert error["data"] == "a message is not JSON"
            await calls.sessions[0].end("goodbye")
            assert (await caller.until(lambda message: message["type"] == "end_stream"))["data"] == "goodbye"
        await ended(server)


async def test_candidates_come_one_by_one() -> None:
    calls = Calls()
    async with serving(calls) as server:
        caller = client(server)
        body = await caller.offer()
        lines = body["sdp"].split("\r\n")
        own = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate:")]
        body["sdp"] = "\r\n".join(line for line in lines if "candidate" not in line)
        status, answer = await server.ask(PATH, body)
        assert (status, sorted(answer)) == (200, ["sdp", "type"])
        await caller.take(answer)
        for text in own:
            candidate = {"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0}
            trickle = {"type": "ice-candidate", "webrtc_id": "abc", "candidate": candidate}
            assert await server.ask(PATH, trickle) == (200, {"status": "success"})
        await caller.wait_for(lambda: bool(calls.sessions), "the session")
        status, answer = await server.ask(PATH, {**trickle, "webrtc_id": "other"})
        assert (status, answer["status"], answer["meta"]["error"]) == (200, "failed", "unknown_connection")
        # The same id at another address is another connection's.
        status, answer = await server.ask(PATH, trickle, address="203.0.113.5")
        assert (status, answer["status"], answer["meta"]["error"]) == (200, "failed", "unknown_connection")
        status, answer = await server.ask(PATH, body, address="203.0.113.5")
        assert (status, answer["type"]) == (200, "answer")
        status, answer = await server.ask(PATH, {**trickle, "candidate": {"candidate": "1 2 3", "sdpMid": "0"}})
        assert (status, answer["meta"]["error"]) == (200, "bad_candidate")
        await caller.close()
        await ended(server)


async def test_who_is_refused_is_told_with_status_200() -> None:
    async with serving(Calls(), limits=WebLimits(connections=1)) as server:
        async with client(server):
            with pytest.raises(DuologueError, match=r"concurrency_limit_reached.*'limit': 1"):
                await client(server, "def").connect()
            with pytest.raises(DuologueError, match="connection_already_exists"):
                await client(server).connect()
        await ended(server)
        status, answer = await server.ask(PATH, {"sdp": "v=0", "type": "offer", "webrtc_id": "x"})
        assert (status, answer["meta"]["error"]) == (200, "bad_offer")


@pytest.mark.parametrize(
    ("body", "status"),
    [("{", 400), ({}, 400), ({"webrtc_id": ""}, 400), ({"webrtc_id": "x" * 129}, 400), ('"' + "x" * 300_000, 413)],
)
async def test_bad_requests_have_their_status(body: Any, status: int) -> None:
    async with serving(Calls()) as server:
        assert (await server.ask(PATH, body))[0] == status


async def test_without_the_token_nobody_calls() -> None:
    async with serving(Calls(), auth=token_auth("right")) as server:
        assert (await server.ask(PATH, {"webrtc_id": "x"}))[0] == 401
        async with client(server, token="right"):
            pass
        await ended(server)
