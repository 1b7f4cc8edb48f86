"""`TurnHoldingSTT`: the vendor decides when the caller's turn begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from duologue.frames import EagerEndOfTurn, EndOfTurn, Frame, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from duologue.processors import Pipeline
from duologue.services.remote.dialect import Event, Wire, WireMessage
from duologue.services.remote.service import Setup
from duologue.services.remote.stt import Recognized, STTDialect
from duologue.services.remote.turns import TurnBegan, TurnEnded, TurnHoldingSTT, TurnWentOn
from duologue.session import Session
from duologue.testing.parrot.stt import ParrotSTTDialect
from duologue.testing.parrot.wire import decode_parrot, open_parrot
from duologue.testing.scripted.parrot import ListeningParrot, ScriptedParrot
from tests.services.remote.calls import RemoteCall
from tests.services.speech_calls import piece, pieces
from tests.session.calls import Sink, Top, settled


class HoldingDialect(ParrotSTTDialect):
    """Parrot's, with turns: its texts are cumulative."""

    def read(self, message: WireMessage) -> Sequence[Event]:
        got = decode_parrot(message)
        at_s = got.left_s or None
        match got.type:
            case "began":
                return [TurnBegan(at_s=at_s)]
            case "eager":
                return [Recognized(text=got.text), TurnEnded(eager=True, confidence=0.6)]
            case "resumed":
                return [TurnWentOn()]
            case "ended":
                return [Recognized(text=got.text, final=True, words=got.timed()), TurnEnded(at_s=at_s)]
        return super().read(message)


class HoldingSTT(TurnHoldingSTT):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def dial(self, setup: Setup) -> Wire:
        return await open_parrot(self.url, "/listen", "test", [], None)

    def dialect(self, setup: Setup) -> STTDialect:
        return HoldingDialect()


class TurnsCall(RemoteCall):
    """A call through an STT whose vendor finds the turns."""

    def __init__(self, server: ScriptedParrot, stt: HoldingSTT) -> None:
        self.server, self.stt, self.sink, self.top = server, stt, Sink(), Top()
        super().__init__(Session(Pipeline([self.top, stt, self.sink])))
        self.number = 0

    async def says(self, count: int) -> None:
        """In real time."""
        for _ in range(count):
            await anyio.sleep(0.02)
            await self.session.send(piece(self.number))
            self.number += 1

    async def tells(self, kind: str, **fields: Any) -> None:
        """The vendor sends a message."""
        await self.connection.send(kind, **fields)
        await anyio.sleep(0.05)

    @property
    def connection(self) -> ListeningParrot:
        connection = self.server.connections[-1]
        assert isinstance(connection, ListeningParrot)
        return connection

    @property
    def told(self) -> list[Frame]:
        return [frame for frame in self.sink.frames if not isinstance(frame, UserAudio)]


@asynccontextmanager
async def line(prepare: Callable[[HoldingSTT], None] = lambda stt: None) -> AsyncIterator[TurnsCall]:
    async with ScriptedParrot() as server:
        stt = HoldingSTT(server.url)
        prepare(stt)
        async with TurnsCall(server, stt) as call:
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "HoldingSTT" in task.get_name()]


async def test_the_vendor_hears_everything_and_its_turns_are_pushed() -> None:
    async with line() as caller:
        await caller.says(50)
        await caller.tells("began", left_s=0.6)
        assert caller.session.floor.caller_speaking
        await caller.says(50)
        await caller.tells("text", text="hello")
        await caller.tells("ended", text="hello there", left_s=1.8, words=[["hello", 0.7, 1.0], ["there", 1.0, 1.4]])
        assert not caller.session.floor.caller_speaking
        assert bytes(caller.server.got[0].audio) == pieces(0, 100)
        started, interim, stopped, final, ended = caller.told
        assert isinstance(started, SpeechStarted)
        assert started.at == pytest.approx(0.6)
        assert isinstance(interim, UserTranscript)
        assert (interim.text, interim.final) == ("hello", False)
        assert isinstance(stopped, SpeechStopped)
        assert isinstance(final, UserTranscript)
        assert (final.text, final.final) == ("hello there", True)
        assert started.utterance == interim.utterance == final.utterance != ""
        assert [word.start_s for word in final.words] == pytest.approx([0.1, 0.4])
        assert ended == EndOfTurn(at=pytest.approx(1.8), by="server")
    assert [frame.text for frame in caller.top.frames if isinstance(frame, UserTranscript)] == ["hello", "hello there"]


async def test_a_detectors_turns_do_not_count() -> None:
    async with line() as caller:
        await caller.session.send(SpeechStarted(at=0.0))
        await caller.says(10)
        await caller.session.send(SpeechStopped(at=0.2))
        await caller.session.send(EndOfTurn(at=0.2))
        await anyio.sleep(1)
        assert caller.told == []


async def test_a_turn_interrupts_the_agent() -> None:
    async with line() as caller:
        floor = caller.session.floor
        turn = floor.begin()
        await caller.says(10)
        await caller.tells("began")
        assert floor.fence >= turn


def told_turns(caller: TurnsCall) -> list[str]:
    """The turn's frames by their types, with their texts; without interim texts."""
    kept = [f for f in caller.told if not isinstance(f, UserTranscript) or f.final]
    return [f"{type(f).__name__} {getattr(f, 'text', '')}".rstrip() for f in kept]


async def test_an_eager_end_is_told_and_confirmed() -> None:
    async with line() as caller:
        await caller.says(10)
        await caller.tells("began")
        await caller.tells("eager", text="hello")
        started, interim, eager = caller.told
        assert isinstance(started, SpeechStarted)
        assert isinstance(interim, UserTranscript)
        assert isinstance(eager, EagerEndOfTurn)
        assert (eager.text, eager.utterance, eager.confidence) == ("hello", started.utterance, 0.6)
        assert caller.session.floor.caller_speaking
        await caller.tells("ended", text="hello")
        assert told_turns(caller) == [
            "SpeechStarted",
            "EagerEndOfTurn hello",
            "SpeechStopped",
            "UserTranscript hello",
            "EndOfTurn",
        ]


async def test_an_eager_end_is_taken_back() -> None:
    async with line() as caller:
        await caller.says(10)
        await caller.tells("resumed")
        await caller.tells("began")
        await caller.tells("resumed")
        await caller.tells("eager", text="hello")
        await caller.tells("eager", text="hello")
        await caller.tells("resumed")
        await caller.tells("resumed")
        await caller.tells("eager", text="hello there")
        await caller.tells("eager", text="hello there you")
        await caller.tells("ended", text="hello there you")
        assert told_turns(caller)[1:-3] == [
            "EagerEndOfTurn hello",
            "TurnResumed",
            "EagerEndOfTurn hello there",
            "TurnResumed",
            "EagerEndOfTurn hello there you",
        ]
        await caller.tells("eager", text="late")
        assert isinstance(caller.told[-1], EndOfTurn)


async def test_the_text_of_an_eager_end_is_that_of_the_hooks() -> None:
    async with line() as caller:

        async def loud(transcript: UserTranscript) -> UserTranscript | None:
            return (
                None if transcript.text == "no" else msgspec.structs.replace(transcript, text=transcript.text.upper())
            )

        caller.session.intercept(UserTranscript, loud)
        await caller.says(10)
        await caller.tells("began")
        await caller.tells("eager", text="no")
        await caller.tells("resumed")
        await caller.tells("eager", text="hello")
        await caller.tells("ended", text="hello")
        assert told_turns(caller) == [
            "SpeechStarted",
            "EagerEndOfTurn HELLO",
            "SpeechStopped",
            "UserTranscript HELLO",
            "EndOfTurn",
        ]


async def test_words_that_come_twice_after_a_turn_are_not_in_the_next_one() -> None:
    async with line() as caller:
        await caller.says(10)
        await caller.tells("began")
        await caller.tells("ended", text="hello")
        await caller.tells("ended", text="hello")
        await caller.tells("began")
        await caller.tells("ended", text="and goodbye")
        finals = [frame.text for frame in caller.told if isinstance(frame, UserTranscript) and frame.final]
        assert finals == ["hello", "and goodbye"]


async def test_after_a_loss_in_mid_turn_the_turn_is_heard_again_and_told_once() -> None:
    async with line() as caller:
        await caller.says(200)
        await caller.tells("began", left_s=3.0)
        await caller.says(20)
        caller.connection.drop()
        await caller.says(20)
        await anyio.sleep(1)
        again = bytes(caller.connection.got.audio)
        assert again == pieces(0, 240)[-len(again) :]
        assert len(again) >= len(pieces(150, 90))
        await caller.tells("began", left_s=1.0)
        await caller.tells("ended", text="hello")
        assert [type(frame) for frame in caller.told] == [SpeechStarted, SpeechStopped, UserTranscript, EndOfTurn]
        assert not caller.errors


async def test_a_loss_between_turns_loses_nothing_that_counts() -> None:
    async with line() as caller:
        await caller.says(500)
        caller.connection.drop()
        await caller.says(50)
        await anyio.sleep(1)
        again = bytes(caller.connection.got.audio)
        assert again == pieces(0, 550)[-len(again) :]
        assert 2.0 <= len(again) / 32_000 <= 3.1
        assert not caller.errors


async def test_a_turn_that_the_vendor_does_not_end_is_ended() -> None:
    def short(stt: HoldingSTT) -> None:
        stt.max_utterance_s, stt.timeout_s = 2.0, 1.0

    async with line(short) as caller:
        await caller.says(10)
        await caller.tells("began")
        await caller.tells("text", text="well")
        await caller.says(200)
        assert caller.server.got[0].kinds() == ["finish"]
        assert isinstance(caller.told[-1], EndOfTurn)
        assert [frame.text for frame in caller.told if isinstance(frame, UserTranscript) and frame.final] == ["well"]
        assert [error.category for error in caller.errors] == ["timeout"]


async def test_a_turn_without_news_is_ended() -> None:
    def short(stt: HoldingSTT) -> None:
        stt.ends_within_s, stt.timeout_s = 3.0, 1.0

    async with line(short) as caller:
        await caller.says(10)
        await caller.tells("began")
        await caller.says(100)
        await caller.tells("text", text="well")
        await caller.says(100)
        assert caller.server.got[0].kinds() == []
        await caller.says(60)
        assert caller.server.got[0].kinds() == ["finish"]
        await caller.says(100)
        assert isinstance(caller.told[-1], EndOfTurn)
        await caller.says(50)
        assert len(caller.server.got) == 2
        assert [error.category for error in caller.errors] == ["timeout"]


async def test_a_turn_in_progress_is_released_with_its_beginning() -> None:
    async with line() as caller:
        await caller.says(50)
        await caller.tells("began", left_s=0.9)
        await caller.says(20)
        await settled()
        released = caller.stt.release()
        assert b"".join(frame.audio for frame in released if isinstance(frame, UserAudio)) == pieces(25, 45)
        assert any(isinstance(frame, SpeechStarted) for frame in released)
        await caller.tells("ended", text="hello")
        assert not [frame for frame in caller.told if isinstance(frame, UserTranscript | EndOfTurn)]
