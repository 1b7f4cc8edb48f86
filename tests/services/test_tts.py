from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import anyio
import pytest

from duologue.frames import BotAudio, BotText, Interrupted, ResponseEnded, Say, ToolCall, Usage, Word, WordTimes
from duologue.processors import Processor, handles
from duologue.processors.tools import Tools
from duologue.services.response_speech import in_proportion
from duologue.services.tts import SpeechChunk
from duologue.session.prices import Price
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.transports import MemoryTransport
from tests.services.story import Story, asks, story


class Timed(MockTTS):
    """Knows when its words are spoken: half a second each."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.spoken.append(text)
        for number, word in enumerate(text.split()):
            await anyio.sleep(0.01)
            times = (Word(word + " ", number * 0.5, number * 0.5 + 0.5),)
            yield SpeechChunk(bytes(self.sample_rate), times)


class Bare(MockTTS):
    """As `Timed`, but its words have no space around the sentence."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        *words, last = text.split()
        for number, word in enumerate([*(f"{word} " for word in words), last]):
            yield SpeechChunk(bytes(self.sample_rate), (Word(word, number * 0.5, number * 0.5 + 0.5),))


class Broken(MockTTS):
    """Fails at sentences with "bad", after 0.5 s of audio at those with "torn"; gives nothing for "mute"; hangs."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        if "bad" in text:
            raise ConnectionError("no voice today")
        if "hangs" in text:
            await anyio.sleep_forever()
        if "mute" in text:
            return
        if "torn" in text:
            yield SpeechChunk(bytes(self.sample_rate))
            raise ConnectionError("torn")
        async for chunk in super().synthesize(text, voice):
            yield chunk


def words(call: Story) -> list[tuple[str, float, float]]:
    """The word times as they finally hold."""
    found: list[Word] = []
    for frame in call.came(WordTimes):
        found = [w for w in found if w.start_s < frame.words[0].start_s] + list(frame.words)
    return [(w.text, round(w.start_s, 3), round(w.end_s, 3)) for w in found]


async def test_a_sentence_is_spoken_while_the_next_one_is_still_being_written() -> None:
    tts = MockTTS(seconds_per_sentence=1.0)
    async with story(llm=MockLLM(["One two. Three four."], token_s=0.2), tts=tts) as call:
        await call.types("Go.")
        await call.waits_until(5)
    assert tts.spoken == ["One two. ", "Three four."] or tts.spoken == ["One two.", " Three four."]
    assert call.times(BotAudio)[0] < call.times(BotText)[-1]


async def test_text_goes_on_at_once_audio_in_its_order_and_the_end_last() -> None:
    async with story(llm=MockLLM(["One. Two. Three."]), tts=MockTTS(seconds_per_sentence=0.5)) as call:
        await call.types("Go.")
        await call.waits_until(5)
    assert call.times(BotText) == [0.15, 0.16, 0.17]
    assert isinstance(call.frames[-1], ResponseEnded)
    assert call.times(ResponseEnded)[0] >= call.times(BotAudio)[-1]
    assert round(call.spoken_s, 6) == 1.5
    assert {f.response_id for f in call.came(BotAudio)} == {call.came(ResponseEnded)[0].response_id}


async def test_a_tool_call_does_not_wait_for_the_words_before_it_to_be_spoken() -> None:
    tts = MockTTS(seconds_per_sentence=10.0)
    async with story(
        Tools([lambda_look]), llm=MockLLM([["Let me see", asks("lambda_look")], "Done."]), tts=tts
    ) as call:
        await call.types("Go.")
        await call.waits_until(9)
    assert call.times(ToolCall) == [0.18]
    assert tts.spoken == ["Let me see", "Done."], "whole sentence or not"


async def test_what_was_written_before_a_call_does_not_wait_for_the_call_to_be_made() -> None:
    class Asking(Processor):
        @handles(ToolCall)
        async def wait(self, frame: ToolCall) -> None:
            await anyio.sleep(5)
            await self.push(frame)

    tts = MockTTS(seconds_per_sentence=1.0)
    async with story(
        Asking(), Tools([lambda_look]), llm=MockLLM([["Let me see", asks("lambda_look")], "."]), tts=tts
    ) as call:
        await call.types("Go.")
        await call.waits_until(1)
        assert tts.spoken == ["Let me see"]


async def test_what_has_no_end_is_spoken_at_the_end_of_the_response() -> None:
    tts = MockTTS(seconds_per_sentence=1.0)
    async with story(llm=MockLLM(["One. And two"]), tts=tts) as call:
        await call.types("Go.")
        await call.waits_until(4)
        assert call.log[1] == "agent: One. And two"
    assert [text.strip() for text in tts.spoken] == ["One.", "And two"]


def lambda_look() -> str:
    return "seen"


async def test_usage_is_the_characters_and_seconds_of_each_response() -> None:
    async with story(llm=MockLLM(["One.", "Two and three."]), tts=MockTTS(s_per_character=0.1)) as call:
        for _ in range(2):
            await call.types("Go.")
            await call.waits_until(call.session.now() + 3)
    mine = [u for u in call.came(Usage) if u.service == "MockTTS"]
    assert [(u.turn, u.characters, round(u.output_audio_s, 6)) for u in mine] == [(1, 4, 0.4), (2, 14, 1.4)]


async def test_what_was_asked_for_is_charged_when_the_service_closes_in_the_middle_of_a_response() -> None:
    tts = MockTTS(seconds_per_sentence=10.0)
    async with story(llm=MockLLM(["A first sentence."]), tts=tts) as call:
        await call.types("Go.")
        await call.waits_until(2)
        await tts.close()
        (report,) = [u for u in call.came(Usage) if u.service == "MockTTS"]
        assert (report.characters, report.estimated) == (17, True)
        await call.waits_until(3)
        await tts.open()
        await call.types("Go.")
        await call.waits_until(20)
    mine = [u for u in call.came(Usage) if u.service == "MockTTS"]
    assert [u.characters for u in mine] == [17, 17]


async def test_a_sentence_that_fails_before_its_first_piece_costs_nothing() -> None:
    class Refuses(MockTTS):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
            if text.startswith("Bad"):
                raise ConnectionRefusedError("refused")
            async for chunk in super().synthesize(text, voice):
                yield chunk

    prices = {"Refuses": Price(characters=1000)}
    async with story(llm=MockLLM(["One. Bad one. Two."]), tts=Refuses(), prices=prices) as call:
        await call.types("Go.")
        await call.waits(5)
        cost = call.session.cost
        assert [u.characters for u in call.came(Usage) if u.service == "Refuses"] == [len("One. Two.")]
        assert cost.by_service["Refuses", ""] == pytest.approx(len("One. Two.") * 1000 / 1e6)
        assert cost.estimated_usd == 0.0


async def test_markup_is_not_spoken_and_what_has_no_words_is_not_either() -> None:
    tts = MockTTS()
    text = "**Hello** [there](http://a.b).\n---\n...\n# Title\n"
    async with story(llm=MockLLM([text]), tts=tts) as call:
        await call.types("Go.")
        await call.waits_until(5)
        assert call.log[1] == f"agent: {text}", "the log has what was written"
    assert [sentence.strip() for sentence in tts.spoken] == ["Hello there.", "Title"]


async def test_an_interruption_cancels_the_synthesis_at_once() -> None:
    ended = []

    class Watched(MockTTS):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
            try:
                async for chunk in super().synthesize(text, voice):
                    yield chunk
            finally:
                ended.append(self.session.now())

    async with story(llm=MockLLM(["One. Two. Three."]), tts=Watched(seconds_per_sentence=10.0)) as call:
        await call.types("Go.")
        await call.waits_until(0.5)
        call.session.interrupt()
        await call.waits_until(5)
    assert ended == [0.5], "one was begun, and ends at once"
    assert max(call.times(BotAudio)) <= 0.5


async def test_the_end_of_a_response_that_was_written_but_not_spoken_says_interrupted() -> None:
    async with story(llm=MockLLM(["One. Two."]), tts=MockTTS(seconds_per_sentence=10.0)) as call:
        await call.types("Go.")
        await call.waits_until(1)
        assert call.responses == [": One. Two. (goes on)"]
        call.session.interrupt()
        await call.waits_until(2)
    assert call.responses == [": One. Two. (interrupted)"]
    assert call.times(ResponseEnded) == [1.0]


# -- word times --------------------------------------------------------------------------------------------------------


async def test_word_times_count_from_the_start_of_the_response() -> None:
    async with story(llm=MockLLM(["One two. Three."]), tts=Timed()) as call:
        await call.types("Go.")
        await call.waits_until(5)
    assert words(call) == [("One ", 0.0, 0.5), ("two. ", 0.5, 1.0), ("Three.", 1.0, 1.5)]
    order = [type(f) for f in call.frames if isinstance(f, BotAudio | WordTimes)]
    assert order == [WordTimes, BotAudio] * 3, "before the audio that holds them"


async def test_without_word_times_words_are_timed_in_proportion() -> None:
    async with story(llm=MockLLM(["Ab abcd. Abc."]), tts=MockTTS(seconds_per_sentence=1.0)) as call:
        await call.types("Go.")
        await call.waits_until(5)
    assert words(call) == [("Ab ", 0.0, 0.333), ("abcd. ", 0.333, 1.0), ("Abc.", 1.0, 2.0)]
    first_audio = next(i for i, f in enumerate(call.frames) if isinstance(f, BotAudio))
    assert any(isinstance(f, WordTimes) for f in call.frames[:first_audio]), "a guess comes first"


@pytest.mark.parametrize("text", ["One two.", " One  two. ", "x", "你好。", "a\nb\tc "])
def test_words_in_proportion_join_to_the_text_and_fill_the_time(text: str) -> None:
    found = in_proportion(text, 1.0, 3.0)
    assert "".join(w.text for w in found) == text
    assert found[0].start_s == 1.0
    assert found[-1].end_s == pytest.approx(3.0)
    assert all(a.end_s == b.start_s for a, b in pairwise(found))


# -- what was heard ----------------------------------------------------------------------------------------------------


async def heard(tts: MockTTS, text: str | list[str], at: float, **times: float) -> tuple[Interrupted, list[str]]:
    """The caller interrupts at `at`, counted from the first sound: what was heard, and what the log says."""
    line = MemoryTransport()
    async with story(line.output(), llm=MockLLM([text]), tts=tts) as call:
        await call.types("Tell.")
        while not call.session.floor.agent_speaking:
            await anyio.sleep(0.001)
        await anyio.sleep(at)
        signal = call.session.interrupt()
        await anyio.sleep(3)
        assert call.is_quiet()
        return signal, call.log[1:]


async def test_what_was_heard_is_known_by_the_times_of_the_words() -> None:
    signal, log = await heard(Timed(), "One two three. Four five.", 1.6)
    assert signal.heard == "One two three."
    assert log == ["agent: One two three. --"]
    signal, log = await heard(Timed(), "One two three. Four five.", 1.8)
    assert signal.heard == "One two three. Four"
    assert signal.heard_s == pytest.approx(1.8, abs=0.03)


async def test_the_space_between_two_sentences_is_not_lost() -> None:
    for tts in (Bare(), Timed()):
        signal, _ = await heard(tts, ["One two.", " Three four.", "\nFive six."], 1.8)
        assert signal.heard == "One two. Three four."


async def test_what_was_heard_is_estimated_in_proportion() -> None:
    tts = MockTTS(seconds_per_sentence=2.0)
    signal, log = await heard(tts, "Four word sentence here. And another one follows.", 3.0)
    assert signal.heard == "Four word sentence here. And another"
    assert log == ["agent: Four word sentence here. And another --"]


async def test_the_sentence_that_is_still_being_synthesized_was_heard_as_far_as_it_was_played() -> None:
    tts = MockTTS(seconds_per_sentence=4.0, speed=1.1, chunk_s=0.02)
    text = "This is quite a long sentence that takes about four seconds. Next."
    signal, _ = await heard(tts, text, 2.0)
    assert text.startswith(signal.heard)
    assert 25 <= len(signal.heard) <= 35, "2 s at 15 characters a second"


async def test_nothing_played_is_nothing_said() -> None:  # pipecat 5305
    line = MemoryTransport()
    async with story(line.output(), llm=MockLLM(["Hello there."])) as call:
        await call.types("Hi.")
        await call.waits_until(0.18)
        signal = call.session.interrupt()
        await call.waits_until(2)
        assert (signal.heard, signal.heard_s) == ("", 0.0)
        assert call.log == ["caller: Hi."]


# -- failure -----------------------------------------------------------------------------------------------------------


async def test_a_sentence_that_cannot_be_spoken_is_left_out_and_was_not_said() -> None:
    async with story(llm=MockLLM(["One. This is bad. Three."]), tts=Broken(seconds_per_sentence=1.0)) as call:
        await call.types("Go.")
        await call.waits_until(10)
        assert call.log == ["caller: Go.", "agent: One. Three."]
        assert call.is_quiet()
    assert round(call.spoken_s, 6) == 2.0
    (end,) = call.came(ResponseEnded)
    assert (end.status, end.reason) == ("failed", "no speech for a sentence: no voice today")
    assert [e.category for e in call.errors] == ["service"]


async def test_a_sentence_that_breaks_off_was_said_as_far_as_it_came() -> None:
    async with story(llm=MockLLM(["One. It is torn into pieces."]), tts=Broken(seconds_per_sentence=1.0)) as call:
        await call.types("Go.")
        await call.waits_until(10)
        assert call.log[1] == "agent: One. It is"
    assert "".join(word for word, _, _ in words(call)) == "One. It is"


async def test_a_sentence_without_audio_was_not_said() -> None:
    async with story(llm=MockLLM(["All mute."]), tts=Broken()) as call:
        await call.types("Go.")
        await call.waits_until(10)
        assert call.log == ["caller: Go."]
        assert [e.message for e in call.errors] == ["no speech for a sentence: the service gave no audio"]


async def test_a_service_that_hangs_is_not_waited_for_for_ever() -> None:
    async with story(llm=MockLLM(["It hangs. Then goes on."]), tts=Broken(seconds_per_sentence=1.0)) as call:
        await call.types("Go.")
        await call.waits_until(20)
        assert call.errors == []
        await call.waits_until(30)
        assert [e.message for e in call.errors] == ["no speech for a sentence: no audio for 10 s"]
        assert call.log[1].strip() == "agent: Then goes on."
        assert call.is_quiet()


async def test_a_hung_service_does_not_outlive_an_interruption() -> None:
    async with story(llm=MockLLM(["It hangs.", "Fine."]), tts=Broken(seconds_per_sentence=1.0)) as call:
        await call.types("Go.")
        await call.waits_until(1)
        await call.types("Hello?")
        await call.waits_until(3)
        assert call.responses[1] == ": Fine. (completed)"
        assert call.errors == []


async def test_speech_of_the_application_is_spoken_too() -> None:
    tts = MockTTS()
    async with story(tts=tts) as call:
        await call.session.send(Say(text="Welcome to us. How are you?"))
    assert [text.strip() for text in tts.spoken] == ["Welcome to us.", "How are you?"]


@pytest.mark.parametrize("size", [1, 3, 4063])
async def test_speech_in_odd_pieces_is_heard_whole(size: int) -> None:  # pipecat 4952, 5090
    speech = bytes(range(256)) * (4 if size == 1 else 100)

    class Streamed(MockTTS):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
            for start in range(0, len(speech), size):
                yield SpeechChunk(speech[start : start + size])
            yield SpeechChunk(b"\1")  # half a sample is not an error
            yield SpeechChunk(b"")

    async with story(llm=MockLLM(["Hello. There."]), tts=Streamed()) as call:
        await call.types("Go.")
        await call.waits_until(5)
        assert b"".join(frame.audio for frame in call.came(BotAudio)) == speech * 2
        assert call.log == ["caller: Go.", "agent: Hello. There."]
        assert not call.errors
