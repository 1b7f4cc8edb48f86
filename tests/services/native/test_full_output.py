"""More speech than the engine may keep: audio is refused, the ends of responses are not."""

from __future__ import annotations

import anyio
import pytest

from duologue import Processor, handles
from duologue.frames import BotAudio, ResponseEnded
from duologue.services.native.outlet import MAX_SPEECH
from duologue.testing.scripted.server import Speak
from tests.services.native.calls import PROVIDERS, CountedCall, Provider


class Hangs(Processor):
    """Takes no audio before `go` is set."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.pieces = 0

    @handles(BotAudio)
    async def audio(self, frame: BotAudio) -> None:
        await self.go.wait()
        self.pieces += 1
        await self.push(frame)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_full_queue_refuses_audio_and_never_the_end_of_a_response(provider: Provider) -> None:
    pieces = MAX_SPEECH + 2_000
    model = [[Speak("A long story.", seconds=pieces * 0.02, chunk_ms=20)]]
    hangs = Hangs()
    async with provider.server(model) as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, engine, hangs) as call:
            await call.says()
            await call.waits(20.0)
            hangs.go.set()
            await call.hears(1, within_s=600)  # Gemini ends a turn when it has been played
            (ended,) = call.came(ResponseEnded)
            assert isinstance(ended, ResponseEnded)
            assert ended.status == "completed"
            (error,) = call.errors
            assert "speech" in error.message
            assert hangs.pieces <= MAX_SPEECH + 1
            await call.waits(1.0)
            assert call.session.ledger.unsettled == ()
            assert call.session.floor.owner == "caller"
