"""Pipecat's small-webrtc signalling: sessions, offers, further offers, candidates, and everybody who is refused."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from duologue.testing.webrtc import WebRTCClient
from duologue.transports.webrtc.transport import WebRTCTransport
from duologue.web import WebLimits, token_auth

from .webrtc_client import Calls, Refusal, Server, ended, serving

pytestmark = pytest.mark.real_clock

OFFER = "/api/offer"


async def start(server: Server, **body: Any) -> Any:
    status, answer = await server.ask("/start", body)
    assert status == 200, answer
    return answer


async def test_a_call_begins_when_it_is_connected_and_ends_with_its_client() -> None:
    calls = Calls()
    async with serving(calls) as server:
        async with WebRTCClient(server.request(), data={"who": "ann"}) as client:
            await client.wait_for(lambda: bool(calls.engines and client.heard))
            transport = calls.transports[0]
            assert isinstance(transport, WebRTCTransport)
            assert (transport.id, transport.data, transport.connected) == (client.id, {"who": "ann"}, True)
        await ended(server)
        assert len(server.app.calls) == 0


async def test_a_session_is_announced_and_then_called() -> None:
    calls = Calls()
    async with serving(calls, ice_servers=["stun:127.0.0.1:9"]) as server:
        answer = await start(server, transport="webrtc", enableDefaultIceServers=True, body={"room": 7})
        assert answer["iceConfig"] == {"iceServers": [{"urls": ["stun:127.0.0.1:9"]}]}
    async with serving(calls) as server:
        answer = await start(server, body={"room": 7})
        assert answer["iceConfig"] == {"iceServers": []}
        path = f"/sessions/{answer['sessionId']}/api/offer"
        async with WebRTCClient(server.request(), path=path) as client:
            assert client.id == answer["sessionId"]
            assert calls.transports[0].data == {"room": 7}
            with pytest.raises(Refusal, match=r"409.*has a client already"):
                await WebRTCClient(server.request(), path=path).connect()
            await client.restart()
            await client.renegotiate()
            assert len(calls.sessions) == 1
            assert len(server.app.calls) == 1


async def test_the_address_for_a_websocket() -> None:
    async with serving(Calls(), auth=token_auth("secret")) as server:
        status, answer = await server.ask("/start?token=secret", {"transport": "websocket"}, host="voice.test:8080")
        assert (status, answer) == (200, {"wsUrl": "ws://voice.test:8080/ws/protobuf", "token": "secret"})
        status, answer = await server.ask("/start", {"transport": "websocket"}, token="secret")
        assert answer == {"wsUrl": "ws://localhost/ws/protobuf", "token": "secret"}
        assert (await server.ask("/start", {"transport": "pigeon"}, token="secret"))[0] == 400


async def test_a_client_that_trickles_its_candidates() -> None:
    calls = Calls()
    async with serving(calls) as server:
        client = WebRTCClient(server.request())
        body = await client.offer()
        lines = body["sdp"].split("\r\n")
        own = [line.removeprefix("a=") for line in lines if line.startswith("a=candidate:")]
        body["sdp"] = "\r\n".join(line for line in lines if "candidate" not in line)
        status, answer = await server.ask(OFFER, body)
        assert status == 200
        assert answer["type"] == "answer"
        assert "a=candidate:" in answer["sdp"]
        await client.take(answer)
        candidates = [{"candidate": text, "sdp_mid": "0", "sdp_mline_index": 0} for text in own]
        candidates.append({"candidate": "", "sdp_mid": "0", "sdp_mline_index": 0})
        patch = {"pc_id": answer["pc_id"], "candidates": candidates}
        assert await server.ask(OFFER, patch, method="PATCH") == (200, {"status": "success"})
        await client.wait_for(lambda: bool(calls.sessions), "the session")
        assert (await server.ask(OFFER, {**patch, "pc_id": "other"}, method="PATCH"))[0] == 404
        malformed: list[Any] = [
            None,
            [5],
            [{"candidate": 5}],
            [{"candidate": "1 2 3"}],
            [{"candidate": "x", "sdp_mid": 4}],
            [{}] * 51,
        ]
        for bad in malformed:
            status, answer = await server.ask(OFFER, {**patch, "candidates": bad}, method="PATCH")
            assert status == 400, bad
        await client.close()
        await ended(server)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("{", 400, "not JSON"),
        ("[]", 400, "not a JSON object"),
        ("[" * 100_000, 400, "not JSON"),
        ({}, 400, "sdp is missing"),
        ({"sdp": 5, "type": "offer"}, 400, "sdp is missing or not a text"),
        ({"sdp": "v=0", "type": "offer"}, 400, "no audio"),
        ({"sdp": "v=0\nm=audio x", "type": "offer"}, 400, "none of the codecs"),
        ({"sdp": "v=0", "type": "offer", "pc_id": "nobody"}, 404, "no connection 'nobody'"),
        ({"sdp": "v=0", "type": "offer", "pc_id": "nobody", "restart_pc": True}, 404, "no connection"),
        ('{"sdp": "' + "x" * 300_000 + '"}', 413, "longer than 262144 bytes"),
    ],
)
async def test_bad_requests_are_refused_and_leave_nothing(body: Any, status: int, said: str) -> None:
    async with serving(Calls()) as server:
        answered, answer = await server.ask(OFFER, body)
        assert answered == status
        assert said in answer["error"]["message"]
        assert len(server.app.calls) == 0


async def test_sessions_that_were_not_announced_or_are_somebody_elses() -> None:
    def who(connection: HTTPConnection) -> str:
        return connection.headers.get("authorization", "").removeprefix("Bearer ")

    async with serving(Calls(), auth=who) as server:
        _, answer = await server.ask("/start", {}, token="ann")
        path = f"/sessions/{answer['sessionId']}/api/offer"
        client = WebRTCClient(server.request())
        body = await client.offer()
        assert (await server.ask("/sessions/none/api/offer", body, token="ann"))[0] == 404
        assert (await server.ask(path, body, token="bob"))[0] == 404
        assert (await server.ask(path, {**body, "pc_id": "other"}, token="ann"))[0] == 404
        assert (await server.ask(path, {**body, "sdp": "no"}, token="ann"))[0] == 400
        assert (await server.ask(path, body, token="ann"))[0] == 200, "it may try again"
        await client.close()


async def test_somebody_elses_connection_is_none_of_their_business() -> None:
    def who(connection: HTTPConnection) -> str:
        return connection.headers.get("authorization", "").removeprefix("Bearer ")

    calls = Calls()
    async with serving(calls, auth=who) as server:
        async with WebRTCClient(server.request("ann")) as client:
            other = WebRTCClient(server.request("bob"))
            body = {**await other.offer(), "pc_id": client.id}
            for restart in (False, True):
                assert (await server.ask(OFFER, {**body, "restart_pc": restart}, token="bob"))[0] == 404
            patch = {"pc_id": client.id, "candidates": []}
            assert (await server.ask(OFFER, patch, method="PATCH", token="bob"))[0] == 404
            status, answer = await server.ask(OFFER, body, token="ann")
            assert (status, answer["error"]["code"]) == (409, "connection_already_exists")
            count = len(calls.engines[0].heard)
            await client.wait_for(lambda: len(calls.engines[0].heard) > count + 10)
            await other.close()
        await ended(server)


async def test_without_the_right_token_nothing_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Calls(), auth=token_auth("right-secret")) as server:
        for token in ("", "wrong-secret"):
            for path, method in (
                ("/start", "POST"),
                (OFFER, "POST"),
                (OFFER, "PATCH"),
                ("/sessions/x/api/offer", "POST"),
            ):
                status, answer = await server.ask(path, {}, method=method, token=token)
                assert (status, answer["error"]["code"]) == (401, "unauthorized")
        async with WebRTCClient(server.request("right-secret")):
            pass
        await ended(server)
    assert "secret" not in caplog.text


async def test_more_calls_than_allowed_are_refused_until_one_ends() -> None:
    async with serving(Calls(), limits=WebLimits(connections=1)) as server:
        async with WebRTCClient(server.request()):
            with pytest.raises(Refusal, match=r"503.*1 calls already"):
                await WebRTCClient(server.request()).connect()
            assert (await server.ask("/start", {}))[0] == 503
        await ended(server)
        async with WebRTCClient(server.request()):
            pass
        await ended(server)


async def test_who_never_connects_frees_the_place() -> None:
    async with serving(Calls(), limits=WebLimits(connect_s=0.2)) as server:
        client = WebRTCClient(server.request())
        assert (await server.ask(OFFER, await client.offer()))[0] == 200
        assert len(server.app.calls) == 1
        call = next(iter(server.app.calls))
        await asyncio.wait_for(call.wait(), 60)
        assert call.outcome is not None
        assert call.outcome.reason == "not connected within 0.2 s"
        await client.close()


async def test_a_call_that_is_over_tells_its_client_and_cannot_be_called_again() -> None:
    calls = Calls()
    async with serving(calls) as server, WebRTCClient(server.request()) as client:
        await calls.sessions[0].end("goodbye")
        await client.until(lambda message: message.get("type") == "signalling")
        await client.wait_for(lambda: client.state == "closed")
        await ended(server)
        status, _ = await server.ask(OFFER, {"sdp": "v=0", "type": "offer", "pc_id": client.id, "restart_pc": True})
        assert status == 404


async def test_calls_end_with_the_server() -> None:
    calls = Calls()
    client: WebRTCClient | None = None
    async with serving(calls) as server:
        client = WebRTCClient(server.request())
        await client.connect()
    await client.wait_for(lambda: client.state == "closed")
    await client.close()


async def test_without_the_extra_offers_are_answered_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("duologue.transports.webrtc")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("duologue.transports.webrtc", raising=False)
    monkeypatch.setitem(sys.modules, "aiortc", None)
    async with serving(Calls()) as server:
        for path, method in ((OFFER, "POST"), (OFFER, "PATCH"), ("/start", "POST"), ("/webrtc/offer", "POST")):
            status, answer = await server.ask(path, {}, method=method)
            assert status == 501
            assert "duologue[webrtc]" in answer["error"]["message"]
        assert (await server.ask("/start", {"transport": "websocket"}))[0] == 200
