"""A call for measuring: a caller of real speech, webrtcvad, and mock services with fixed delays.

The published figures of other frameworks were measured with the same services: a transcript 100 ms after the end of the
turn, the first token after 150 ms, 20 tokens 10 ms apart in two sentences, first audio 80 ms after each sentence, and 2
s of 24 kHz audio for each, five times faster than real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

import anyio

from duologue import Cascade, Pipeline, Processor, Session, Tools
from duologue.audio.resample import Resampler
from duologue.audio.vad import Detector
from duologue.frames import Usage
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.llm import Request, ToolRequest
from duologue.services.local.synthesizer import ESPEAK_RATE, Synthesizer
from duologue.services.stt import Transcription
from duologue.services.tts import SpeechChunk
from duologue.session.call_trace import CallTrace
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport
from duologue.transports.playout.pacer import Pacer

MICROPHONE_HZ = 16_000
CHUNK = 2 * MICROPHONE_HZ // 50
STT_S, FIRST_TOKEN_S, TOKEN_S, FIRST_AUDIO_S = 0.1, 0.15, 0.01, 0.08
ANSWER = "one two three four five six seven eight nine ten. one two three four five six seven eight nine ten."
SENTENCE_TOKENS = 10


@lru_cache
def speech(text: str = "what is the weather in paris today") -> bytes:
    """Return speech at the microphone's rate, in whole chunks of 20 ms."""
    spoken = b"".join(piece.audio for piece in Synthesizer("en-us").synthesize(text))
    resampler = Resampler(ESPEAK_RATE, MICROPHONE_HZ)
    pcm = resampler.process(spoken) + resampler.flush()
    return pcm[: len(pcm) // CHUNK * CHUNK]


class TimedSTT(MockSTT):
    """Measures the real duration of its last answer."""

    took_s = 0.0

    async def finish(self) -> Transcription:
        """The answer."""
        began = anyio.current_time()
        answer = await super().finish()
        self.took_s = anyio.current_time() - began
        return answer


class TimedLLM(MockLLM):
    """Measures the real time to the first complete sentence of its last answer."""

    took_s = 0.0

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """The answer."""
        began, tokens = anyio.current_time(), 0
        async for piece in super().generate(request):
            tokens += 1
            if tokens == SENTENCE_TOKENS:
                self.took_s = anyio.current_time() - began
            yield piece


class TimedTTS(MockTTS):
    """Measures the real time to the first audio of its last sentence."""

    took_s = 0.0

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """The speech."""
        began: float | None = anyio.current_time()
        async for chunk in super().synthesize(text, voice):
            if began is not None:
                self.took_s, began = anyio.current_time() - began, None
            yield chunk


def mock_cascade() -> Cascade:
    """Return the services with their fixed delays, for servers that are measured from outside."""
    return Cascade(
        MockSTT(("what is the weather in paris today",), delay_s=STT_S),
        MockLLM((ANSWER,), first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S),
        MockTTS(first_audio_s=FIRST_AUDIO_S, seconds_per_sentence=2.0, speed=5.0),
    )


class Microphone:
    """A caller's microphone: a chunk every 20 ms, with speech if there is any to say, else silence."""

    def __init__(self, transport: MemoryTransport, loop: asyncio.AbstractEventLoop, start_at: float) -> None:
        self.sent = 0
        """The number of chunks sent."""
        self.sent_at = start_at
        """The time at which the last chunk was sent."""
        self.said: Callable[[], None] = lambda: None
        """Called when the last chunk of the speech has been sent."""
        self._loop = loop
        self._feed = transport.input().feed
        self._speech = b""
        self._place = 0
        self._silence = bytes(CHUNK)
        self._beat = Pacer.get().every_20ms(self._tick, start_at)
        self.first_due = self._beat.first_at
        """The loop time at which the first chunk was due; the others follow every 20 ms."""

    def say(self, pcm: bytes) -> None:
        """Send this speech from the next chunk on."""
        self._speech, self._place = pcm, 0

    def stop(self) -> None:
        """Switch it off."""
        self._beat.cancel()

    def _tick(self) -> None:
        self.sent += 1
        self.sent_at = self._loop.time()
        if self._place < len(self._speech):
            chunk = self._speech[self._place : self._place + CHUNK]
            self._place += CHUNK
            self._feed(chunk, MICROPHONE_HZ)
            if self._place >= len(self._speech):
                self.said()
        else:
            self._feed(self._silence, MICROPHONE_HZ)


class Call:
    """One call with mock services. `probe` is put after turn-taking, if given; `detector` is that of `Vad`."""

    def __init__(
        self,
        probe: Processor | None = None,
        policy: InterruptionPolicy | None = None,
        detector: Detector | None = None,
        trace: CallTrace | None = None,
    ) -> None:
        self.transport = MemoryTransport(24_000)
        self.stt = TimedSTT(("what is the weather in paris today",), delay_s=STT_S)
        self.llm = TimedLLM((ANSWER,), first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S)
        self.tts = TimedTTS(first_audio_s=FIRST_AUDIO_S, seconds_per_sentence=2.0, speed=5.0)
        self.session = Session(
            Pipeline(
                [
                    self.transport.input(),
                    Vad(detector),
                    Endpointing(),
                    Interruption(policy),
                    *([probe] if probe else []),
                    Cascade(self.stt, self.llm, self.tts),
                    Tools(),
                    self.transport.output(),
                ]
            ),
            trace=trace,
        )
