from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from duologue import TTS, Agent, Cascade, Fallback, handles
from duologue.frames import (
    BotAudio,
    ErrorRaised,
    ResponseEnded,
    Say,
    ServiceChanged,
    SpeechStarted,
    Usage,
    Word,
    WordTimes,
)
from duologue.services.fallback.tts import SentencePart
from duologue.services.tts import SpeechChunk
from duologue.testing.mocks import MockLLM, MockSTT
from tests.services.fallback.faulty import KINDS, Fault, FaultyTTS, OtherTTS
from tests.services.story import Story, story

SENTENCE = "One two three four five six seven eight nine ten."


def call_with(*voices: TTS, agent: Agent | None = None, **options: Any) -> Story:
    cascade = Cascade(MockSTT(["Hello?"]), MockLLM(), Fallback(list(voices), **{"retry_s": 60, **options}))
    return story(engine=cascade, agent=agent)


class Timed(FaultyTTS):
    """Times its words: half a second each, in a chunk of its own; or all of them with the first chunk."""

    at_once = False

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        async for piece in self.plan.spoil(self._timed(text)):
            yield piece

    async def _timed(self, text: str) -> AsyncIterator[SpeechChunk]:
        self.spoken.append(text)
        words = [Word(word, n * 0.5, n * 0.5 + 0.5) for n, word in enumerate(text.split())]
        for number, word in enumerate(words):
            await anyio.sleep(0.05)
            told = () if self.at_once and number else tuple(words) if self.at_once else (word,)
            yield SpeechChunk(bytes(self.sample_rate), told)


class TimedAtOnce(Timed):
    at_once = True


class OtherTimed(Timed):
    """The same, by another name."""


def times(call: Story) -> list[Word]:
    """The word times as they finally hold."""
    found: list[Word] = []
    for frame in call.came(WordTimes):
        found = [w for w in found if w.start_s < frame.words[0].start_s] + list(frame.words)
    return found


def changes(call: Story) -> list[tuple[str, str]]:
    return [(change.source, change.target) for change in call.came(ServiceChanged)]


def spoken(call: Story) -> list[str]:
    return [item.text for item in call.session.conversation if item.role == "agent"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_voice_speaks_a_sentence_that_the_first_one_does_not_begin(kind: str) -> None:
    first, second = FaultyTTS(Fault(kind)), OtherTTS()
    async with call_with(first, second) as call:
        await call.session.send(Say(text=f"{SENTENCE} And more."))
        await call.waits(20)
    assert [text.strip() for text in second.spoken] == [SENTENCE, "And more."]
    assert first.plan.asked == 1, "a response keeps its voice"
    assert [frame.status for frame in call.came(ResponseEnded)] == ["completed"]
    assert spoken(call) == [f"{SENTENCE} And more."]
    assert call.times(BotAudio)[0] <= 3.5
    assert changes(call) == [("FaultyTTS", "OtherTTS")]
    assert not call.came(ErrorRaised) or kind == "ignores its end"


@pytest.mark.parametrize("voice", [Timed, TimedAtOnce])
@pytest.mark.parametrize("other", [OtherTimed, OtherTTS])
@pytest.mark.parametrize("after", [1, 4, 9])
@pytest.mark.parametrize("kind", ["resets", "stalls", "garbles"])
async def test_the_next_voice_speaks_the_rest_by_word_times(
    kind: str, after: int, other: type[FaultyTTS], voice: type[Timed]
) -> None:
    first, second = voice(Fault(kind, after)), other()
    async with call_with(first, second) as call:
        await call.session.send(Say(text=SENTENCE))
        await call.waits(20)
    words = SENTENCE.split()
    assert first.spoken == [SENTENCE]
    assert second.spoken[0].split() == words[after:]
    found = times(call)
    assert "".join(word.text for word in found) == SENTENCE
    assert [word.start_s for word in found[: after + 1]] == [pytest.approx(n * 0.5) for n in range(after + 1)]
    assert [frame.status for frame in call.came(ResponseEnded)] == ["completed"]
    assert spoken(call) == [SENTENCE]
    assert not call.came(ErrorRaised)


@pytest.mark.parametrize("after", [1, 10, 25])
async def test_without_word_times_the_rest_is_found_by_the_pace(after: int) -> None:
    first, second = FaultyTTS(Fault(), Fault("resets", after), s_per_character=0.1), OtherTTS()
    async with call_with(first, second) as call:
        await call.session.send(Say(text=f"A first sentence for the pace of it. {SENTENCE}"))
        await call.waits(20)
    said = len(SENTENCE) - len(second.spoken[0].strip())
    assert abs(said - after) <= len("three ")
    assert SENTENCE.endswith(second.spoken[0].strip())
    assert "".join(word.text for word in times(call)).split()[-10:] == SENTENCE.split()
    assert not call.came(ErrorRaised)


async def test_the_audio_has_the_sample_rate_of_the_first_voice() -> None:
    first, second = FaultyTTS(Fault("resets", 5)), OtherTTS(sample_rate=16_000)
    async with call_with(first, second) as call:
        await call.session.send(Say(text=SENTENCE))
        await call.waits(20)
    assert {frame.sample_rate for frame in call.came(BotAudio)} == {24_000}
    assert call.spoken_s == pytest.approx(len(SENTENCE) / 15, abs=0.4)
    assert {(usage.service, usage.characters > 0) for usage in call.came(Usage) if usage.output_audio_s} == {
        ("FaultyTTS", True),
        ("OtherTTS", True),
    }


async def test_each_voice_is_chosen_from_the_agents_table() -> None:
    class Gold(FaultyTTS):
        voices = "gold"

    class Silver(OtherTTS):
        voices = "silver"

    first, second, third = Gold(Fault(), Fault("refuses")), Silver(Fault("refuses")), OtherTTS()
    agent = Agent(name="Ann", voice={"gold": "marin", "silver": "kore"})
    async with call_with(first, second, third, agent=agent) as call:
        await call.session.send(Say(text="One. Two."))
        await call.waits(10)
    assert first.voices_used[0] == "marin"
    assert third.voices_used == [""]
    assert second.plan.asked == 1

    second = Silver()
    async with call_with(Gold(Fault("refuses")), second, agent=Agent(name="Ann", voice=agent.voice)) as call:
        await call.session.send(Say(text="One."))
        await call.waits(10)
    assert second.voices_used == ["kore"]

    second = Silver()
    async with call_with(Gold(Fault("refuses")), second, agent=Agent(name="Ann", voice="marin")) as call:
        await call.session.send(Say(text="One."))
        await call.waits(10)
    assert second.voices_used == [""], "a name without a family is the first one's"


async def test_a_voice_comes_back_with_the_next_response_after_a_probe() -> None:
    first, second = FaultyTTS(Fault("refuses"), Fault("refuses")), OtherTTS()
    async with call_with(first, second, retry_s=2) as call:
        await call.session.send(Say(text="One."))
        await call.waits(1)
        await call.session.send(Say(text="Two."))
        await call.waits(1)
        await anyio.sleep(8)
        await call.session.send(Say(text="Three."))
        await call.waits(3)
    assert first.spoken[1:] == ["Yes.", "Yes.", "Three."], "two probes, of which the first one fails"
    assert second.spoken == ["One.", "Two."]
    assert changes(call) == [("FaultyTTS", "OtherTTS"), ("OtherTTS", "FaultyTTS")]


async def test_all_voices_fail_and_the_call_goes_on() -> None:
    first, second = FaultyTTS(*[Fault("refuses")] * 2), OtherTTS(*[Fault("resets")] * 2)
    async with call_with(first, second) as call:
        await call.session.send(Say(text="One."))
        await call.waits(4)
        await call.session.send(Say(text="Two."))
        await call.waits(10)
    assert [error.message for error in call.came(ErrorRaised)] == [
        "no speech for a sentence: no service is left: FaultyTTS: refused; OtherTTS: reset"
    ]
    assert [frame.status for frame in call.came(ResponseEnded)] == ["failed", "completed"]
    assert spoken(call)[-1] == "Two."


async def test_an_interruption_stops_the_active_voice_at_once() -> None:
    closed: list[float] = []

    class Long(FaultyTTS):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
            try:
                while True:
                    await anyio.sleep(0.05)
                    yield SpeechChunk(bytes(480))
            finally:
                closed.append(call.session.now())

    async with call_with(FaultyTTS(Fault("refuses")), Long()) as call:
        await call.session.send(Say(text=SENTENCE))
        await anyio.sleep(1)
        call.session.interrupt()
        cut = call.session.now()
        await call.waits(3)
    assert closed == [pytest.approx(cut, abs=0.01)]


def test_the_rest_of_a_sentence() -> None:
    part = SentencePart(SENTENCE)
    part.spoken_s = 0.6
    assert [word.text for word in part.cut()] == ["One ", "two "]
    assert part.rest == "three four five six seven eight nine ten."
    part.begin(15)
    part.spoken_s = 10
    assert "".join(word.text for word in part.cut()) == "three four five six seven eight nine ten."
    assert part.rest == ""


async def test_the_voice_that_will_speak_prepares_itself_when_the_caller_speaks() -> None:
    class Prepares(FaultyTTS):
        prepared = 0

        @handles(SpeechStarted)
        async def warm_up(self, frame: SpeechStarted) -> None:
            self.prepared += 1
            await self.push(frame)

    first, second = Prepares(), Prepares()
    async with call_with(first, second) as call:
        await call.says(0.3)
        await call.waits(3)
        assert len(call.came(SpeechStarted)) == 1
    assert (first.prepared, second.prepared) == (1, 0)


async def test_usage_names_the_voice_that_spoke() -> None:
    async with call_with(FaultyTTS(Fault(), Fault("refuses")), OtherTTS()) as call:
        await call.session.send(Say(text="One."))
        await call.waits(3)
        await call.session.send(Say(text="Two."))
        await call.waits(3)
    # The refused request costs nothing.
    assert [(usage.service, usage.characters) for usage in call.came(Usage)] == [("FaultyTTS", 4), ("OtherTTS", 4)]


async def test_a_voice_that_fails_within_a_sentence_is_charged_for_it() -> None:
    async with call_with(FaultyTTS(Fault("resets", 1)), OtherTTS()) as call:
        await call.session.send(Say(text=SENTENCE))
        await call.waits(8)
    failed, spoke = call.came(Usage)
    assert (failed.service, failed.characters, spoke.service) == ("FaultyTTS", len(SENTENCE), "OtherTTS")
    assert failed.output_audio_s > 0
