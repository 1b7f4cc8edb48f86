from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from duologue.frames import (
    EndOfTurn,
    Frame,
    Input,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
    Transcribed,
    Usage,
    UserAudio,
    UserTranscript,
)
from duologue.processors import Pipeline
from duologue.services.stt import STT, Transcription
from duologue.session import Session
from duologue.session.prices import Price
from duologue.testing.mocks import MockSTT
from tests.session.calls import Sink, TextCall, Top, running


class Recorder(STT):
    """Keeps the audio of each utterance, and says how many bytes it was."""

    def __init__(self) -> None:
        super().__init__()
        self.utterances: list[bytes] = []

    async def begin(self) -> None:
        self.utterances.append(b"")

    async def feed(self, pcm: bytes) -> str:
        self.utterances[-1] += pcm
        return ""

    async def finish(self) -> Transcription:
        return Transcription(text=f" {len(self.utterances[-1])} bytes ", confidence=0.5, language="en")


class Failing(Recorder):
    """Fails, or hangs, in one of its three calls, in the first `times` utterances that it is given."""

    def __init__(self, where: str, *, hangs: bool = False, times: int = 2) -> None:
        super().__init__()
        self.where, self.hangs, self.times = where, hangs, times
        self.asked = 0

    async def _do(self, what: str) -> None:
        if what == self.where and len(self.utterances) <= self.times:
            self.asked += 1
            if self.hangs:
                await anyio.sleep_forever()
            raise ConnectionError("the line is dead")

    async def begin(self) -> None:
        await super().begin()
        await self._do("begin")

    async def feed(self, pcm: bytes) -> str:
        await self._do("feed")
        return await super().feed(pcm)

    async def finish(self) -> Transcription:
        await self._do("finish")
        return await super().finish()


class Line:
    """A caller, an STT, and what comes out of it downstream and upstream."""

    def __init__(self, call: TextCall, sink: Sink, top: Top) -> None:
        self.call, self.sink, self.top = call, sink, top
        self.usage: list[Usage] = []
        call.session.on(Usage, self.usage.append)

    async def speak(self, *frames: Input) -> None:
        for frame in frames:
            await self.call.session.send(frame)

    async def utter(self, first: int = 0, count: int = 10) -> None:
        """Speech of `count` pieces of 20 ms, begun and ended."""
        audio = [piece(number) for number in range(first, first + count)]
        at = audio[0].at if audio else first * 0.02
        await self.speak(SpeechStarted(at=at), *audio, SpeechStopped(at=at + 0.1), EndOfTurn(at=at + 0.1))

    async def until_quiet(self, seconds: float = 1.0) -> None:
        await anyio.sleep(seconds)

    def transcripts(self, final: bool = True) -> list[str]:
        return [f.text for f in self.sink.frames if isinstance(f, UserTranscript) and f.final is final]

    def kinds(self) -> list[str]:
        return [type(frame).__name__ for frame in self.sink.frames]


def piece(number: int) -> UserAudio:
    """20 ms of audio that differ from all others."""
    samples = np.full(320, number + 1, "<i2")
    return UserAudio(audio=samples.tobytes(), sample_rate=16_000, at=number * 0.02)


def pieces(numbers: range) -> bytes:
    return b"".join(piece(number).audio for number in numbers)


@asynccontextmanager
async def line(stt: STT) -> AsyncIterator[Line]:
    top, sink = Top(), Sink()
    async with running(top, stt, sink) as call:
        yield Line(call, sink, top)


async def test_an_utterance_is_heard_from_before_its_start_was_detected_and_in_order() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(*(piece(number) for number in range(100)))
        await caller.utter(100, 50)
        await caller.until_quiet()
    assert stt.utterances == [pieces(range(75, 150))], "500 ms, then all of it"
    assert caller.transcripts() == [f"{75 * 640} bytes"]


async def test_audio_between_utterances_starts_no_task() -> None:
    stt = Recorder()
    async with running(Top(), stt) as call:
        for number in range(30):
            await call.session.send(piece(number))
        assert stt._lane is not None
        assert stt._lane.worker is None
        await call.session.send(SpeechStarted(at=0.6))
        await call.session.send(EndOfTurn(at=0.6))
        await anyio.sleep(1)
    assert stt.utterances == [pieces(range(5, 30))]


async def test_audio_that_comes_while_a_transcript_is_awaited_is_the_next_pre_roll() -> None:
    stt = MockSTT(("one", "two"), delay_s=2)
    transcripts: list[str] = []
    async with running(Top(), stt) as call:
        call.session.on(Transcribed, lambda signal: transcripts.append(signal.text))
        await call.session.send(SpeechStarted(at=0.0))
        await call.session.send(piece(0))
        await call.session.send(EndOfTurn(at=0.02))
        await anyio.sleep(1)
        for number in range(1, 4):
            await call.session.send(piece(number))
        await call.session.send(SpeechStarted(at=0.08))
        await call.session.send(piece(4))
        await call.session.send(EndOfTurn(at=0.1))
        await anyio.sleep(5)
    assert stt.heard == [640, 4 * 640]
    assert transcripts == ["one", "two"]


async def test_the_audio_since_an_end_without_a_transcript_goes_to_the_next_service_too() -> None:
    stt = MockSTT(delay_s=2)
    async with running(Top(), stt) as call:
        for frame in (SpeechStarted(at=0.0), piece(0), EndOfTurn(at=0.02)):
            await call.session.send(frame)
        await anyio.sleep(1)
        await call.session.send(piece(1))
        released = stt.release()
    kinds = [type(frame).__name__ for frame in released]
    assert kinds == ["SpeechStarted", "UserAudio", "EndOfTurn", "UserAudio"]
    assert released[-1] == piece(1)


async def test_the_pre_roll_never_reaches_into_the_utterance_before() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.utter(0, 10)
        await caller.speak(piece(10), piece(11))
        await caller.utter(12, 3)
        await caller.until_quiet()
    assert stt.utterances == [pieces(range(10)), pieces(range(10, 15))]


async def test_all_audio_and_all_marks_pass_on_unchanged_and_in_order() -> None:
    async with line(Recorder()) as caller:
        frames: list[Input] = [piece(0), SpeechStarted(at=0.02), piece(1), SpeechStopped(at=0.04), piece(2)]
        await caller.speak(*frames, UserAudio(audio=b""))
        await caller.until_quiet()
    assert caller.sink.frames[:6] == [*frames, UserAudio(audio=b"")]


async def test_a_pause_within_a_turn_belongs_to_the_utterance() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(
            SpeechStarted(), piece(0), SpeechStopped(at=0.02), piece(1), SpeechStarted(at=0.04), piece(2)
        )
        await caller.speak(SpeechStopped(at=0.06), piece(3), EndOfTurn(at=0.06))
        await caller.until_quiet()
    assert stt.utterances == [pieces(range(4))]
    assert len(caller.transcripts()) == 1


async def test_the_final_transcript_stands_before_the_end_of_the_turn_and_goes_up_as_well() -> None:
    async with line(Recorder()) as caller:
        await caller.speak(piece(0), piece(1))
        await caller.utter(2, 2)
        await caller.until_quiet()
    assert caller.kinds()[-4:] == ["SpeechStopped", "UserTranscript", "EndOfTurn", "End"]
    transcript = next(f for f in caller.sink.frames if isinstance(f, UserTranscript))
    assert transcript == UserTranscript(
        text="2560 bytes", start_s=0.04, end_s=0.04 + 0.1, utterance="item_1", confidence=0.5, language="en"
    )
    assert [f for f in caller.top.frames if isinstance(f, UserTranscript)] == [transcript]


async def test_interim_texts_go_up_and_down_between_the_start_and_the_final_one() -> None:
    async with line(MockSTT(["one two three"], interim_s=0.1)) as caller:
        await caller.speak(*(piece(number) for number in range(6)))
        await caller.utter(6, 5)
        await caller.until_quiet()
    assert caller.transcripts(final=False) == ["one", "one two"]
    assert [getattr(frame, "text", "") for frame in caller.top.frames if isinstance(frame, UserTranscript)] == [
        "one",
        "one two",
        "one two three",
    ]
    interim = [number for number, kind in enumerate(caller.kinds()) if kind == "UserTranscript"]
    assert caller.kinds().index("SpeechStarted") < interim[0]


async def test_an_end_of_turn_without_speech_has_no_transcript() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(piece(0), EndOfTurn(at=1.0))
        await caller.until_quiet()
    assert caller.kinds() == ["UserAudio", "EndOfTurn", "End"]
    assert stt.utterances == []


async def test_an_utterance_without_audio_is_finished_all_the_same() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(SpeechStarted(), EndOfTurn())
        await caller.until_quiet()
    assert stt.utterances == [b""]
    assert caller.transcripts() == ["0 bytes"]


async def test_the_end_of_the_speech_is_that_of_the_last_sound() -> None:
    async with line(Recorder()) as caller:
        await caller.speak(SpeechStarted(at=1.0), SpeechStopped(at=2.5), EndOfTurn())
        await caller.until_quiet()
    (transcript,) = (f for f in caller.sink.frames if isinstance(f, UserTranscript))
    assert (transcript.start_s, transcript.end_s) == (1.0, 2.5)


async def test_what_follows_from_a_transcript_comes_before_its_usage_and_the_end_of_the_call_after_it() -> None:
    happened: list[str] = []
    async with line(Recorder()) as caller:
        session = caller.call.session
        session.observe(lambda processor, direction, frame: happened.append(type(frame).__name__))
        await caller.utter()
        await session.end()
        await caller.until_quiet()
    transcript = happened.index("UserTranscript")
    assert happened[transcript:].index("EndOfTurn") < happened[transcript:].index("Usage")
    assert happened.index("Usage") < happened.index("SessionEnding")


async def test_usage_is_the_audio_that_was_fed() -> None:
    async with line(Recorder()) as caller:
        await caller.speak(*(piece(number) for number in range(100)))
        await caller.utter(100, 50)
        await caller.utter(150, 5)
        await caller.until_quiet()
    assert [round(usage.input_audio_s, 6) for usage in caller.usage] == [1.5, 0.1]
    assert {usage.service for usage in caller.usage} == {"Recorder"}


# -- other formats -----------------------------------------------------------------------------------------------------


def tone(rate: int, channels: int = 1, seconds: float = 0.5) -> list[UserAudio]:
    """440 Hz in pieces of 20 ms, the same in every channel."""
    times = np.arange(round(rate * seconds)) / rate
    samples = np.repeat(np.rint(8000 * np.sin(2 * np.pi * 440 * times)).astype("<i2"), channels).tobytes()
    size = rate // 50 * 2 * channels
    parts = [samples[at : at + size] for at in range(0, len(samples), size)]
    return [UserAudio(audio=p, sample_rate=rate, channels=channels, at=n * 0.02) for n, p in enumerate(parts)]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 1), (44_100, 2), (16_000, 2), (24_000, 1)])
async def test_the_service_gets_mono_at_its_own_rate_to_the_last_sample(rate: int, channels: int) -> None:
    stt = Recorder()
    async with line(stt) as caller:
        for _ in range(2):
            await caller.speak(SpeechStarted(), *tone(rate, channels), EndOfTurn())
        await caller.until_quiet()
    wanted = np.frombuffer(b"".join(frame.audio for frame in tone(16_000)), "<i2").astype(float)
    for utterance in stt.utterances:
        heard = np.frombuffer(utterance, "<i2").astype(float)
        assert len(heard) == 8_000
        assert np.abs(heard - wanted)[200:-200].max() < 100


async def test_a_change_of_the_rate_within_an_utterance_loses_nothing() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(SpeechStarted(), *tone(8_000), *tone(48_000), *tone(16_000), EndOfTurn())
        await caller.until_quiet()
    assert [len(utterance) for utterance in stt.utterances] == [3 * 16_000]


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_what_is_kept_for_the_pre_roll_is_bounded() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        for number in range(500):
            await caller.speak(piece(number), UserAudio(audio=b"", at=number * 0.02))
        await caller.utter(500, 1)
        await caller.until_quiet()
    assert stt.utterances == [pieces(range(475, 501))]


async def test_empty_audio_is_not_kept() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(*(piece(number) for number in range(25)), *[UserAudio(audio=b"")] * 1000)
        await anyio.sleep(0.1)
        assert len(stt.release()) == 25


async def test_a_long_utterance_is_transcribed_in_parts_and_none_of_it_is_lost() -> None:
    stt = Recorder()
    stt.max_utterance_s = 1.0
    async with line(stt) as caller:
        await caller.utter(0, 120)
        await caller.until_quiet()
    assert stt.utterances == [pieces(range(50)), pieces(range(50, 100)), pieces(range(100, 120))]
    finals = [frame for frame in caller.sink.frames if isinstance(frame, UserTranscript)]
    assert [(round(f.start_s, 6), round(f.end_s, 6)) for f in finals] == [
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, pytest.approx(0.1)),
    ]
    assert caller.kinds().count("EndOfTurn") == 1


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("where", ["begin", "feed", "finish"])
async def test_a_service_that_fails_costs_one_transcript_and_nothing_else(where: str, hangs: bool) -> None:
    stt = Failing(where, hangs=hangs)
    async with line(stt) as caller:
        await caller.utter(0, 10)
        await caller.until_quiet(15)
        await caller.utter(10, 10)
        await caller.until_quiet()
    one = ["SpeechStarted", *["UserAudio"] * 10, "SpeechStopped", "UserTranscript", "EndOfTurn"]
    assert caller.kinds() == [*one, *one, "End"]
    assert caller.transcripts() == ["", "6400 bytes"]
    errors = caller.call.errors
    assert [error.category for error in errors] == ["timeout" if hangs else "service"]
    assert ("longer than 5 s" if hangs else "the line is dead") in errors[0].message
    assert stt.asked == 2, "it is left alone until the end of the utterance, and then asked once more"


async def test_the_rest_of_a_conversion_may_fail_too() -> None:
    class FailsAtTheEnd(Recorder):
        async def feed(self, pcm: bytes) -> str:
            if len(self.utterances[-1]) + len(pcm) > 15_800:
                raise ConnectionError("the line is dead")
            return await super().feed(pcm)

    async with line(FailsAtTheEnd()) as caller:
        await caller.speak(SpeechStarted(), *tone(8_000), EndOfTurn())
        await caller.until_quiet()
    assert caller.transcripts() == [""]
    assert caller.kinds()[-2:] == ["EndOfTurn", "End"]


async def test_a_call_may_end_while_the_service_hangs() -> None:
    async with line(Failing("finish", hangs=True)) as caller:
        await caller.utter()
        await anyio.sleep(0.1)
    assert caller.call.outcome.reason == "ended"
    assert caller.transcripts() == [""]


# -- a change of engines -----------------------------------------------------------------------------------------------


async def test_speech_without_a_transcript_can_be_given_to_another_one() -> None:
    old, new = Recorder(), Recorder()
    async with line(old) as caller:
        await caller.speak(*(piece(number) for number in range(30)), SpeechStarted(at=0.6), piece(30), piece(31))
        await anyio.sleep(0.1)
        speech = old.release()
        assert [type(frame).__name__ for frame in speech] == [
            *["UserAudio"] * 25,
            "SpeechStarted",
            "UserAudio",
            "UserAudio",
        ]
    async with line(new) as caller:
        new.adopt(speech)
        await caller.speak(piece(32), EndOfTurn(at=0.66))
        await caller.until_quiet()
    assert new.utterances == [pieces(range(5, 33))]
    assert caller.kinds() == ["UserAudio", "UserTranscript", "EndOfTurn", "End"], (
        "what was passed on is not passed again"
    )


async def test_what_was_given_away_is_not_in_the_next_utterance() -> None:
    stt = Recorder()
    async with line(stt) as caller:
        await caller.speak(SpeechStarted(), *tone(8_000))
        await anyio.sleep(0.1)
        stt.release()
        await stt.open()
        await caller.speak(SpeechStarted(), *tone(8_000), EndOfTurn())
        await caller.until_quiet()
    assert len(stt.utterances[-1]) == 16_000


async def test_what_was_given_away_is_not_told_of_any_more() -> None:
    old = MockSTT(["Hello."], delay_s=1.0)
    async with line(old) as caller:
        await caller.utter()
        await anyio.sleep(0.5)
        speech = old.release()
        await caller.until_quiet(2.0)
    assert isinstance(speech[-1], EndOfTurn)
    assert caller.transcripts() == []
    assert "EndOfTurn" not in caller.kinds()
    assert caller.call.errors == []


async def test_outside_an_utterance_the_pre_roll_is_given_away() -> None:
    old, new = Recorder(), Recorder()
    async with line(old) as caller:
        await caller.utter(0, 5)
        await caller.speak(*(piece(number) for number in range(5, 50)))
        await anyio.sleep(0.1)
        speech: tuple[Frame, ...] = old.release()
        assert speech == tuple(piece(number) for number in range(25, 50))
        assert old.release() == ()
    async with line(new) as caller:
        new.adopt([frame for frame in speech if isinstance(frame, Input)])
        await caller.utter(50, 2)
        await caller.until_quiet()
    assert new.utterances == [pieces(range(25, 52))]


@pytest.mark.parametrize("told", [None, Usage(service="", input_tokens=33, input_audio_tokens=30, output_tokens=4)])
async def test_tokens_are_those_of_the_vendor_or_estimated_by_the_seconds(told: Usage | None) -> None:
    class Counts(STT):
        model = "counted"

        async def feed(self, pcm: bytes) -> str:
            return ""

        async def finish(self) -> Transcription:
            return Transcription(text="yes", usage=told)

    stt, used = Counts(), list[Usage]()
    prices = {"counted": Price(text_input=1, audio_input=3, text_output=10, input_tokens_per_s=10)}
    session = Session(Pipeline([stt]), prices=prices)
    session.on(Usage, used.append)

    async def speaks() -> None:
        await session.send(SpeechStarted(at=0.0))
        for _ in range(50):
            await session.send(UserAudio(audio=bytes(640), sample_rate=16_000))
        await anyio.sleep(0.1)
        assert session.cost.estimated_usd == pytest.approx(10 * 3e-6)
        await session.send(EndOfTurn(at=1.0))
        await anyio.sleep(0.1)
        session.cancel()

    async def begins(signal: SessionStarted) -> None:
        await speaks()

    session.on(SessionStarted, begins)
    await session.run()
    (report,) = used
    expected = (10, 10, 0, True) if told is None else (33, 30, 4, False)
    assert (report.input_tokens, report.input_audio_tokens, report.output_tokens, report.estimated) == expected
    assert report.input_audio_s == pytest.approx(1.0)
    assert (report.service, report.model) == ("Counts", "counted")
    assert session.cost.estimated_usd == 0
