"""The caller's audio over WebRTC is converted once, to the rate that the engine takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from duologue import Pipeline, Switch
from duologue.audio.resample import Resampler
from duologue.errors import ConfigurationError
from duologue.processors import Processor
from duologue.services.cascade import Cascade
from duologue.services.openai import OpenAIRealtime
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.webrtc import Microphone, WebRTCClient
from duologue.transports.client import engine_input_rate
from duologue.transports.webrtc import peer
from tests.patience import until
from tests.transports.webrtc.test_webrtc import Line, line

from ..web.webrtc_client import loudness, tone

pytestmark = pytest.mark.real_clock


async def test_a_high_tone_reaches_the_engine_through_one_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[int, int]] = set()
    process = Resampler.process

    def noted(self: Resampler, pcm: bytes) -> bytes:
        used.add((self.source_rate, self.target_rate))
        return process(self, pcm)

    async with ScriptedOpenAI([]) as provider:
        engine = OpenAIRealtime(model="gpt-realtime-2.1", api_key="test", base_url=provider.url)
        async with line(engine) as it, WebRTCClient(it.request, microphone=Microphone(48_000)) as client:
            await until(lambda: provider.got and len(provider.got[0].audio) > 24_000, 30)
            monkeypatch.setattr(Resampler, "process", noted)
            client.microphone.say(tone(10.0, 48_000, hz=10_000))

            def level() -> float:
                return loudness(bytes(provider.got[0].audio[-12_000:]), 24_000, 10_000)

            # aiortc lowers it by 3 dB, and a busy machine leaves gaps; through 16 kHz nothing of it would be left.
            await until(lambda: level() > -35, 30)
    assert used == {(48_000, 24_000)}


def cascade(sample_rate: int) -> Cascade:
    stt = MockSTT(("hi",))
    stt.sample_rate = sample_rate
    return Cascade(stt, MockLLM(("Hello.",)), MockTTS())


@pytest.mark.parametrize(
    ("node", "rate"),
    [
        (Pipeline([Processor()]), None),
        (Pipeline([Processor(), cascade(8_000)]), 8_000),
        (Pipeline([Switch({"a": cascade(16_000), "b": cascade(24_000)})]), 24_000),
    ],
)
def test_the_rate_is_the_highest_that_an_engine_takes(node: Any, rate: int | None) -> None:
    assert engine_input_rate(node) == rate


async def test_an_aiortc_without_what_is_used_of_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Receiver:
        def __init__(self) -> None:
            self.other = 1

    peer.check_aiortc.cache_clear()
    monkeypatch.setattr(peer, "RTCRtpReceiver", Receiver)
    try:
        with pytest.raises(ConfigurationError, match=r"aiortc 1\..* Receiver has no attribute _RTCRtpReceiver__jitter"):
            Line()
    finally:
        peer.check_aiortc.cache_clear()
    await asyncio.sleep(0)
