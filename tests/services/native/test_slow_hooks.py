"""A hook on transcripts takes its time, and nothing else waits for it."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from duologue.frames import BotAudio, Interrupted, SpeechStarted, UserTranscript
from duologue.processors import Processor, handles
from duologue.testing.scripted.server import Speak
from tests.services.native.calls import OPENAI, PROVIDERS, CountedCall, Provider, calling


def first_sound(call: CountedCall) -> float:
    return next(at for at, frame in call.probe.frames if isinstance(frame, BotAudio))


@pytest.mark.parametrize("hook_s", [0.5, 1.5])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_answer_is_heard_as_soon_as_without_a_hook(provider: Provider, hook_s: float) -> None:
    heard: dict[float, float] = {}
    for seconds in (0.0, hook_s):
        behaviour = {"transcripts": ["how do you do"]}
        async with calling(provider, [[Speak("Well.", seconds=0.4)]], behaviour=behaviour) as call:

            async def slow(frame: UserTranscript, seconds: float = seconds) -> UserTranscript:
                await anyio.sleep(seconds)
                return msgspec.structs.replace(frame, text=frame.text.upper())

            call.session.intercept(UserTranscript, slow)
            await call.says()
            over = call.session.now()
            await call.hears(1)
            await call.waits(2 * hook_s + 0.5)
            heard[seconds] = first_sound(call) - over
            assert call.understood == ["HOW DO YOU DO"]
    assert heard[hook_s] < heard[0.0] + 0.15


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_caller_interrupts_while_a_hook_works(provider: Provider) -> None:
    behaviour = {"transcripts": ["tell me a story", "stop"]}
    model = [[Speak("Once upon a time.", seconds=8.0, pace=1.0)], [Speak("Yes?", seconds=0.2)]]
    async with calling(provider, model, behaviour=behaviour) as call:
        interrupted: list[float] = []
        call.session.on(Interrupted, lambda signal: interrupted.append(call.session.now()))

        async def slow(frame: UserTranscript) -> UserTranscript:
            await anyio.sleep(1.9)
            return frame

        call.session.intercept(UserTranscript, slow)
        await call.says(0.4)
        await call.waits(0.3)  # the hook works on the first transcript
        began = call.session.now()
        await call.says(0.4)
        await call.hears(1)
        await call.waits(4.0)
        assert interrupted
        assert interrupted[0] - began < 0.7
        assert call.understood == ["tell me a story", "stop"]


class Transcripts(Processor):
    """Stands behind the engine: the caller's words, and the times at which their speech was reported."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.speech: list[float] = []

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        self.texts.append(frame.text)
        await self.push(frame)

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        self.speech.append(self.session.now())
        await self.push(frame)


async def test_transcripts_keep_their_order_and_a_hook_is_asked_only_about_the_latest() -> None:
    behaviour = {"transcripts": ["one two three four five six", "seven"]}
    answers = [[Speak("Yes.", seconds=0.2)], [Speak("Bye.", seconds=0.2)]]
    seen = Transcripts()
    asked: list[str] = []
    async with OPENAI.server(answers, **behaviour) as server:
        engine = OPENAI.engine(server)
        async with CountedCall(OPENAI, server, engine, engine, seen) as call:

            async def slow(frame: UserTranscript) -> UserTranscript:
                asked.append(frame.text)
                await anyio.sleep(1.0 if frame.text[:3] == "one" else 0.0)
                return frame

            call.session.intercept(UserTranscript, slow)
            await call.says()
            await call.says()
            await call.hears(1)
            await call.waits(3.0)
            finals = [text for text in seen.texts if text in behaviour["transcripts"]]
            assert finals == behaviour["transcripts"]
            assert call.understood == behaviour["transcripts"]
            assert asked == seen.texts
            assert len(asked) <= 4
