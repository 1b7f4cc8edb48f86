"""Calls over WebRTC with aiortc clients: what is heard at both ends, interruptions, lost clients, messages, endings."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from duologue import Pipeline, Session
from duologue.errors import BadInput, IllegalState
from duologue.frames import ClientChanged
from duologue.processors import Processor
from duologue.session.life import Outcome
from duologue.testing.webrtc import WebRTCClient
from duologue.transports.webrtc.transport import WebRTCTransport
from duologue.web.rtvi.messages import RtviWords
from tests.patience import stopwatch, until
from tests.web.webrtc_client import RATE, Engine, envelope, loudness, tone

pytestmark = pytest.mark.real_clock


class Line:
    """A transport with its session, and the way to it."""

    def __init__(self, engine: Processor | None = None, **options: Any) -> None:
        self.transport = WebRTCTransport("call", words=RtviWords(), **options)
        self.engine = Engine()
        self.session = Session(Pipeline([self.transport.input(), engine or self.engine, self.transport.output()]))
        self.changes: list[ClientChanged] = []
        self.messages: list[Any] = []
        self.running: asyncio.Task[Outcome] | None = None
        self.started = asyncio.Event()
        self.heard_s = 0.0  # of the agent's speech, by the books, with the 20 ms in which a cut fades
        self.session.audio.played.add(self._played)
        self.session.on(ClientChanged, self.changes.append)
        self.transport.on_message(self.messages.append)
        self.transport.on_connected = self._start

    def _start(self) -> None:
        self.running = asyncio.create_task(self.session.run())
        self.started.set()

    def _played(self, pcm: bytes, sample_rate: int, at: float) -> None:
        if np.abs(np.frombuffer(pcm, "<i2")).max() > 1000:
            self.heard_s += len(pcm) / (2 * sample_rate)

    async def request(self, method: str, path: str, body: Any) -> Any:
        if body.get("restart_pc"):
            answer = await self.transport.restart(body["sdp"])
        elif body.get("pc_id"):
            answer = await self.transport.renegotiate(body["sdp"])
        else:
            answer = await self.transport.accept(body["sdp"])
        return {"sdp": answer, "type": "answer", "pc_id": "call"}

    async def outcome(self) -> Outcome:
        """How the call ended."""
        assert self.running is not None
        return await asyncio.wait_for(asyncio.shield(self.running), 60)

    @property
    def states(self) -> list[str]:
        """The states of the connection since the session began."""
        states = [change.state for change in self.changes]
        assert states[:1] in ([], ["connected"])
        return [str(state) for state in states[1:]]


@asynccontextmanager
async def line(engine: Processor | None = None, **options: Any) -> AsyncIterator[Line]:
    it = Line(engine, **options)
    try:
        yield it
    finally:
        it.session.cancel("the test is over")
        if it.running is not None:
            await it.running
        await it.transport.close("over")
    assert [thread.name for thread in threading.enumerate() if thread.name.endswith("-decoder")] == []


async def test_a_tone_is_heard_at_both_ends_whole_and_true() -> None:
    async with line() as it, WebRTCClient(it.request) as client, stopwatch() as watch:
        client.microphone.say(tone(1.5, 16_000, hz=440))
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(1.5, RATE, hz=600))
        await until(lambda: len(it.engine.pcm()) > 2 * 16_000 * 2)
        for pcm, rate, hz, dbfs in (
            # aiortc makes stereo of its microphone, and lowers it by 3 dB.
            (it.engine.pcm(), 16_000, 440, -23),
            (client.heard_pcm(), 48_000, 600, -20),
        ):
            levels = envelope(pcm, rate)
            sounding = np.flatnonzero(levels > 1000)
            assert len(sounding) == pytest.approx(150, abs=3)
            gaps = sounding[-1] - sounding[0] + 1 - len(sounding)
            assert gaps <= 100 * watch.stolen_s, "no gap, but where the machine stood still"
            begin = round(rate * (sounding[0] + 10) / 100) * 2
            if watch.longest_s > 0.04:
                continue
            assert loudness(pcm[begin : begin + 2 * rate], rate, hz) == pytest.approx(dbfs, abs=0.5)
        frames = it.engine.heard
        for before, after in pairwise(frames):
            assert after.at == pytest.approx(before.at + len(before.audio) / 32_000, abs=0.25)


async def test_all_that_was_said_was_heard() -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await it.started.wait()
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(0.5, RATE, hz=600))
        await it.transport.output().playout.drain()
        assert it.heard_s == pytest.approx(0.5)
        assert client.state == "connected"


async def test_an_interruption_is_silence_at_the_client_within_100_ms() -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(20, RATE, hz=600))
        await until(lambda: len(client.heard) > 10 and loudness(client.heard_pcm()[-9600:], 48_000, 600) > -23)
        at = time.monotonic()
        it.session.interrupt()
        await asyncio.sleep(0.6)
        # The audio in the client's own buffer (80 ms) was sent before.
        loud = [came for came, pcm in client.heard if np.abs(np.frombuffer(pcm, "<i2")).max() > 1000]
        assert loud[-1] - at < 0.1 + 0.08
        total = len([1 for level in envelope(client.heard_pcm(), 48_000) if level > 1000]) / 100
        assert it.heard_s == pytest.approx(total, abs=0.03)


async def test_messages_go_both_ways_and_wait_for_the_channel() -> None:
    async with line() as it:
        it.transport.send_message({"number": 1})
        async with WebRTCClient(it.request) as client:
            it.transport.send_message({"number": 2, "text": "grüß dich"})
            client.send({"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {}})
            client.send(
                {"type": "signalling", "message": {"type": "trackStatus", "receiver_index": 0, "enabled": True}}
            )
            client.send({"last": True})
            await client.until(lambda message: message.get("number") == 2)
            assert [message["number"] for message in client.messages] == [1, 2]
            await until(lambda: len(it.messages) == 2)
            assert it.messages == [{"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {}}, {"last": True}]
            await it.transport.close("done")
            await client.until(lambda message: message.get("type") == "signalling")
            assert client.messages[-1] == {"type": "signalling", "message": {"type": "peerLeft"}}


async def test_messages_that_nobody_takes_are_bounded() -> None:
    async with line() as it:
        for number in range(1_200):
            it.transport.send_message({"number": number})
        assert it.transport.dropped_messages == 200
        async with WebRTCClient(it.request) as client:
            await client.until(lambda message: message["number"] == 1_199)
            assert client.messages[0]["number"] == 200
            client.cut()
            for _ in range(100):
                it.transport.send_message({"text": "x" * 50_000})
            assert it.transport.dropped_messages > 200 + 70
            it.transport.send_message({"text": "x" * 100_000})  # more than aiortc takes


async def test_a_further_offer_changes_nothing() -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        await client.renegotiate()
        count = len(it.engine.heard)
        await until(lambda: len(it.engine.heard) > count + 20)
        assert it.states == []


async def test_a_restart_goes_on_with_the_same_call() -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(1.5, RATE, hz=600))
        await asyncio.sleep(0.5)
        await client.restart()
        client.microphone.say(tone(0.5, 16_000))
        count = len(it.engine.heard)
        it.transport.send_message({"after": 1})
        await client.until(lambda message: "after" in message)
        await asyncio.wait_for(it.transport.output().playout.drain(), 60)
        await until(lambda: len(it.engine.heard) > count + 25)
        assert it.heard_s == pytest.approx(1.5, abs=0.03)
        assert it.states == []
        assert it.running is not None
        assert not it.running.done()


async def test_a_bad_restart_leaves_the_call_as_it_was() -> None:
    async with line() as it, WebRTCClient(it.request):
        await until(lambda: it.engine.heard)
        with pytest.raises(BadInput, match="no audio"):
            await it.transport.restart("v=0\r\n")
        count = len(it.engine.heard)
        await until(lambda: len(it.engine.heard) > count + 20)


async def test_a_cut_of_the_network_holds_the_speech_and_it_goes_on_where_it_was_heard() -> None:
    async with line(lost_s=2.0) as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        await it.engine.say(tone(2.0, RATE, hz=600))
        await asyncio.sleep(0.7)
        client.cut()
        async with stopwatch() as watch:
            await until(lambda: it.states == ["lost"])
            assert watch.elapsed_s > 1.7
            assert watch.fair_s < 2.5
        assert it.heard_s < 1.0
        await asyncio.sleep(1)
        client.mend()
        await until(lambda: it.states == ["lost", "reconnected"])
        await asyncio.wait_for(it.transport.output().playout.drain(), 60)
        assert it.heard_s == pytest.approx(2.0, abs=0.03)
        await asyncio.sleep(0.2)
        total = len([1 for level in envelope(client.heard_pcm(), 48_000) if level > 1000]) / 100
        assert 1.5 < total < 2.1, "aiortc's own buffer drops up to 320 ms at a gap"


async def test_a_client_that_does_not_come_back_is_given_up() -> None:
    async with line(lost_s=1.0, reconnect_s=1.0) as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        client.cut()
        async with stopwatch() as watch:
            assert (await it.outcome()).reason == "client lost"
            assert watch.elapsed_s > 1.8
            assert watch.fair_s < 3.5
        assert it.states == ["lost", "gone"]
        await it.transport.close("client lost")


async def test_a_lost_client_may_come_back_with_a_new_connection() -> None:
    async with line(lost_s=1.0) as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        client.cut()
        await until(lambda: it.states == ["lost"])
        await client.restart()
        await until(lambda: it.states == ["lost", "reconnected"])
        count = len(it.engine.heard)
        await until(lambda: len(it.engine.heard) > count + 20)


async def test_a_client_without_a_microphones_sound_is_there_by_its_pings() -> None:
    async with line(lost_s=2.0) as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        client.microphone.pause()
        await asyncio.sleep(1.5)
        await it.engine.say(tone(1.0, RATE, hz=600))
        await asyncio.wait_for(it.transport.output().playout.drain(), 60)
        assert it.heard_s == pytest.approx(1.0, abs=0.01)
        await asyncio.sleep(1)
        assert it.states == []
        frames = it.engine.heard
        assert frames[-1].at > frames[0].at + 2.5, "the caller is silent, and time goes on"


async def test_a_client_that_only_listens_is_there_by_its_reports() -> None:
    async with line(lost_s=2.5) as it, WebRTCClient(it.request, channel=False) as client:
        await until(lambda: it.engine.heard)
        client.microphone.pause()
        await asyncio.sleep(4)
        assert it.states == []
        it.transport.send_message({"nobody": "takes this"})
        await it.engine.say(tone(0.5, RATE, hz=600))
        await asyncio.wait_for(it.transport.output().playout.drain(), 60)
        await client.wait_for(lambda: envelope(client.heard_pcm(), 48_000).max() > 3000)


async def test_loss_and_jitter_cost_quality_and_nothing_else() -> None:
    async with line() as it, WebRTCClient(it.request) as client:
        await until(lambda: it.engine.heard)
        client.degrade(loss=0.05, jitter_s=0.1, seed=4)
        begin = len(it.engine.pcm())
        client.microphone.say(tone(3, 16_000, hz=440))
        for number in range(20):
            it.transport.send_message({"number": number})
            client.send({"number": number})
        await it.engine.say(tone(3, RATE, hz=600))
        await asyncio.sleep(3.5)
        client.mend()
        await client.until(lambda message: message == {"number": 19})
        await until(lambda: it.messages[-1:] == [{"number": 19}])
        assert [message["number"] for message in it.messages] == list(range(20))
        levels = envelope(it.engine.pcm()[begin:], 16_000)
        sounding = np.flatnonzero(levels > 1000)
        assert sounding[-1] - sounding[0] == pytest.approx(300, abs=6), "time is not shifted"
        assert len(sounding) > 300 * 0.9
        assert it.heard_s == pytest.approx(3, abs=0.03)
        assert it.states == []


async def test_a_client_that_hangs_up_ends_the_call_at_once() -> None:
    async with line() as it:
        async with WebRTCClient(it.request):
            await until(lambda: it.engine.heard)
            await it.engine.say(tone(20, RATE))
        async with stopwatch() as watch:
            assert (await it.outcome()).reason == "client disconnected"
            assert watch.fair_s < 0.5
        assert it.states == ["gone"]


async def test_who_does_not_connect_in_time_is_given_up() -> None:
    async with line(connect_s=0.3) as it:
        reasons: list[str] = []
        it.transport.on_abandoned = reasons.append
        client = WebRTCClient(it.request)
        await it.transport.accept((await client.offer())["sdp"])
        await until(lambda: reasons)
        assert reasons == ["not connected within 0.3 s"]
        await client.close()
        async with stopwatch() as watch:
            await it.transport.close("late")
            assert watch.fair_s < 1
        with pytest.raises(IllegalState, match="closed"):
            await it.transport.renegotiate("v=0")
    assert it.running is None


@pytest.mark.parametrize(
    ("sdp", "type", "said"),
    [
        ("", "offer", "no audio"),
        ("\nm=audio", "offer", "none of the codecs"),
        ("\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n", "offer", "no fingerprint"),
        ("\nm=audio" * 9, "offer", "9 media sections"),
        ("\nm=audio", "answer", "type is 'answer'"),
    ],
)
async def test_what_is_no_offer_is_refused(sdp: str, type: str, said: str) -> None:
    async with line() as it:
        with pytest.raises(BadInput, match=said):
            await it.transport.accept(sdp, type)


async def test_malformed_and_oversize_messages_are_answered_and_harm_nothing() -> None:
    async with line(message_bytes=1_000) as it, WebRTCClient(it.request) as client:
        for bad in ("{", "[1]", "null", "\x00", b"\xff\xfe", "[" * 900, '{"a": "' + "x" * 2_000 + '"}', ""):
            client.send(bad)
        client.send({"good": 1})
        await until(lambda: it.messages)
        assert it.messages == [{"good": 1}]
        await client.wait_for(lambda: len(client.messages) == 8)
        assert all(message["type"] == "error" for message in client.messages)
        assert "2009 bytes" in client.messages[6]["data"]["error"]


async def test_ten_thousand_random_messages() -> None:
    rng = random.Random(20)
    async with line(messages_per_s=100_000) as it, WebRTCClient(it.request) as client:
        for _ in range(10_000):
            kind = rng.randrange(4)
            if kind == 0:
                client.send(rng.randbytes(rng.randrange(60)))
            elif kind == 1:
                client.send("".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(rng.randrange(40))))
            elif kind == 2:
                client.send(
                    {rng.choice(["type", "label", "data"]): rng.choice([None, 1, "rtvi-ai", [], {}, "signalling"])}
                )
            else:
                client.send(
                    rng.choice(["{", '{"type":', "ping", "ping: x", '{"type":"signalling","message":5}', "1e999"])
                )
            await client.flush()
        client.send({"last": 1})
        await until(lambda: {"last": 1} in it.messages)
        count = len(it.engine.heard)
        await until(lambda: len(it.engine.heard) > count + 10)


async def test_who_sends_too_many_messages_is_cut_off() -> None:
    async with line(messages_per_s=20) as it, WebRTCClient(it.request) as client:
        for number in range(200):
            client.send({"number": number})
        assert (await it.outcome()).reason == "client sends too many messages"
        assert len(it.messages) == pytest.approx(60, abs=5)


async def test_closing_in_the_middle_of_connecting_leaves_nothing() -> None:
    for delay_s in (0.0, 0.01, 0.03, 0.06):
        async with line() as it:
            client = WebRTCClient(it.request)
            connecting = asyncio.create_task(client.connect())
            await asyncio.sleep(delay_s)
            await it.transport.close("never mind")
            await asyncio.wait([connecting], timeout=0.3)
            await client.close()
            await asyncio.gather(connecting, return_exceptions=True)


async def test_an_offer_that_is_withdrawn_leaves_nothing() -> None:
    for delay_s in (0.0, 0.001, 0.003):
        async with line() as it:
            client = WebRTCClient(it.request)
            sdp = (await client.offer())["sdp"]
            answering = asyncio.create_task(it.transport.accept(sdp))
            await asyncio.sleep(delay_s)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            await it.transport.close("never mind")
            await client.close()
