"""Eager answers over the real SDKs: Deepgram Flux finds the turns, OpenAI thinks, ElevenLabs speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.frames import (
    BotAudio,
    BotText,
    EagerEndOfTurn,
    EndOfTurn,
    Output,
    TurnResumed,
    Usage,
    UserAudio,
    UserTranscript,
)
from duologue.services.cascade import Cascade
from duologue.services.deepgram import DeepgramFluxOptions, DeepgramFluxSTT
from duologue.services.elevenlabs import ElevenLabsTTS
from duologue.testing import BareCall, Probe
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.scripted.server import Speak, Wait
from duologue.testing.tones import tone
from tests.services.model_servers import VENDORS, Vendor

pytestmark = pytest.mark.virtual_clock

PIECE_S = 0.02
ANSWER = "It rains today. Take a coat."


class VendorCall(BareCall):
    """A call over vendors' services, whose caller is a tone."""

    deepgram: ScriptedDeepgram
    elevenlabs: ScriptedElevenLabs
    llm: MockLLM
    number = 0

    async def gives(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 640):
            await anyio.sleep(PIECE_S)
            await self.session.send(
                UserAudio(audio=pcm[start : start + 640], sample_rate=16_000, at=self.number * PIECE_S)
            )
            self.number += 1

    async def says(self, seconds: float, silence_s: float) -> None:
        await self.gives(tone(seconds, 16_000))
        await self.gives(bytes(round(silence_s * 16_000) * 2))


@asynccontextmanager
async def calling(*, eager: bool, first_audio_s: float = 0.08, **behaviour: Any) -> AsyncIterator[VendorCall]:
    async with (
        ScriptedDeepgram(silence_ms=600, eager_ms=100, **behaviour) as deepgram,
        ScriptedElevenLabs(first_audio_s=first_audio_s) as elevenlabs,
    ):
        options = DeepgramFluxOptions(eager_eot_threshold=0.5 if eager else None)
        llm = MockLLM([ANSWER], first_token_s=0.15, token_s=0.001)
        engine = Cascade(
            DeepgramFluxSTT(api_key="test", base_url=deepgram.url, options=options),
            llm,
            ElevenLabsTTS(api_key="test", base_url=elevenlabs.url),
        )
        call = VendorCall.through(engine, Probe())
        call.deepgram, call.elevenlabs, call.llm = deepgram, elevenlabs, llm
        async with call:
            yield call
        assert all(not got.refused for got in deepgram.got)


async def answered(*, eager: bool) -> float:
    """Returns the seconds from the end of the turn to the first audio."""
    async with calling(eager=eager, transcripts=["What about the weather?"]) as call:
        await call.says(1.0, 1.5)
        await call.until(lambda: call.came(BotAudio), "audio")
        await call.settles()
        assert "".join(text.text for text in call.came(BotText)) == ANSWER
        assert len(call.llm.requests) == 1
        assert not any(usage.discarded for usage in call.came(Usage))
        contexts = {message["context_id"] for message in call.elevenlabs.got[-1].messages if "context_id" in message}
        assert len(contexts) == 1
        return call.times(BotAudio)[0] - call.times(EndOfTurn)[0]


async def test_the_answer_begins_earlier_by_what_the_vendors_take() -> None:
    late, early = await answered(eager=False), await answered(eager=True)
    assert late == pytest.approx(0.23, abs=0.02)
    assert early == pytest.approx(0.0, abs=0.005)


async def test_a_turn_that_goes_on_leaves_no_trace_and_no_open_context() -> None:
    texts = ["I think", "I think I want", "I think I want the weather."]
    async with calling(eager=True, transcripts=["I think I want the weather, please."], eager_texts=texts) as call:
        for pause_s in (0.2, 0.45, 0.5):
            await call.says(0.6, pause_s)
        assert not call.came(Output)
        await call.says(0.6, 1.5)
        await call.until(lambda: call.came(BotAudio), "audio")
        await call.settles()
        assert len(call.came(TurnResumed)) == 3
        assert "".join(text.text for text in call.came(BotText)) == ANSWER
        items = [item.text for item in call.session.conversation if item.role == "caller"]
        assert items == ["I think I want the weather, please."]
        assert len(call.llm.requests) == 3  # two guesses, which are the budget, and the answer
        discarded = [usage.service for usage in call.came(Usage) if usage.discarded]
        assert discarded.count("MockLLM") == 2
        messages = call.elevenlabs.got[-1].messages
        opened = {message["context_id"] for message in messages if message.get("text") == " "}
        closed = {message["context_id"] for message in messages if message.get("close_context")}
        assert len(opened) == 2
        assert opened == closed


@pytest.mark.parametrize("vendor", VENDORS, ids=str)
async def test_a_request_that_was_made_in_vain_is_closed_on_the_wire(vendor: Vendor) -> None:
    rain, coat = Speak("It rains today."), Speak("Take a coat.")
    async with vendor.serve([[Wait(0.1), rain, Wait(60), coat], [Wait(0.1), rain, Wait(0.6), coat]]) as server:
        llm, tts = vendor.made(server), MockTTS(seconds_per_sentence=10, speed=2)
        async with BareCall.through(llm, tts, Probe()) as call:
            send = call.session.send
            await send(EagerEndOfTurn(text="what about the weather"))
            await call.waits(0.35)
            assert tts.spoken == ["It rains today."]
            assert not call.came(Output)
            await send(TurnResumed())
            await call.until(lambda: server.requests[0].closed_by == "client", "the request is closed")
            await send(EagerEndOfTurn(text="what about the weather now"))
            await call.waits(0.5)
            await send(UserTranscript(text="What about the weather now?"))
            await send(EndOfTurn())
            await call.settles()
            assert "".join(text.text for text in call.came(BotText)) == ANSWER
            assert len(server.requests) == 2
            cut, *own = [usage for usage in call.came(Usage) if usage.service == llm.name]
            assert cut.discarded
            assert cut.input_tokens > 0
            assert [usage.discarded for usage in own] == [False]
            assert call.errors == []
