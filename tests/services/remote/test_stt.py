"""`RemoteSTT`, with a made-up vendor behind a real WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    EndOfTurn,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserTranscript,
)
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.session import Session
from duologue.testing.parrot import ParrotSTT, ParrotSTTOptions
from duologue.testing.parrot.stt import ParrotSTTDialect
from duologue.testing.parrot.wire import outgoing
from duologue.testing.scripted.parrot import ListeningParrot, ScriptedParrot
from duologue.testing.tls import loopback
from tests.services.speech_calls import ListeningCall, pieces
from tests.session.calls import settled


class STTCall(ListeningCall[ParrotSTT]):
    """A call through an STT, with a caller whose audio is numbered."""

    def __init__(self, server: ScriptedParrot, stt: ParrotSTT, *, ends: bool = True, may_fail: bool = False) -> None:
        self.server = server
        super().__init__(stt, ends=ends, may_fail=may_fail)

    @property
    def connection(self) -> ListeningParrot:
        connection = self.server.connections[-1]
        assert isinstance(connection, ListeningParrot)
        return connection


@asynccontextmanager
async def line(
    options: ParrotSTTOptions | None = None,
    *,
    settings: ConnectionSettings | None = None,
    prepare: Callable[[ParrotSTT], None] = lambda stt: None,
    ends: bool = True,
    may_fail: bool = False,
    **behaviour: Any,
) -> AsyncIterator[STTCall]:
    async with ScriptedParrot(**behaviour) as server:
        stt = ParrotSTT(api_key="test", base_url=server.url, options=options, connection=settings)
        prepare(stt)
        async with STTCall(server, stt, ends=ends, may_fail=may_fail) as call:
            yield call
        left = asyncio.all_tasks() - {asyncio.current_task()}
        await settled()
        assert not server.connections or all(not connection._tasks for connection in server.connections)
        assert not [task for task in left if task.get_name().startswith("ParrotSTT")]


# -- utterances --------------------------------------------------------------------------------------------------------


async def test_utterances_are_transcribed_one_after_the_other_over_one_connection() -> None:
    async with line(transcripts=["hello there", "and goodbye"]) as caller:
        first = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello there"]
        second = await caller.utters(50)
        assert await caller.until_transcribed(2) == ["hello there", "and goodbye"]
        (got,) = caller.server.got
        assert got.utterances == [first, second]
        assert caller.stt.connections_made == 1
        assert [usage.input_audio_s for usage in caller.usage] == [pytest.approx(0.4), pytest.approx(1.0)]
    assert [type(frame) for frame in caller.sink.frames if not isinstance(frame, UserAudio)][:4] == [
        SpeechStarted,
        SpeechStopped,
        UserTranscript,
        EndOfTurn,
    ]
    assert [f.text for f in caller.top.frames if isinstance(f, UserTranscript)] == ["hello there", "and goodbye"]


async def test_interim_texts_go_out_when_they_arrive() -> None:
    async with line(transcripts=["one two three"], interim_s=0.2) as caller:
        await caller.begins(30)
        await anyio.sleep(0.05)
        assert caller.transcripts(final=False) == ["one", "one two", "one two three"]
        await caller.stops()
        assert await caller.until_transcribed(1) == ["one two three"]


async def test_an_interim_text_that_comes_without_more_audio_goes_out() -> None:
    async with line(transcripts=["one two"]) as caller:
        await caller.begins(10)
        await anyio.sleep(1)
        await caller.connection.send("text", text="well")
        await anyio.sleep(0.05)
        assert caller.transcripts(final=False) == ["well"]


async def test_words_are_timed_from_the_start_of_their_utterance() -> None:
    async with line(transcripts=["hello there", "good bye"]) as caller:
        for count in (1, 2):
            await caller.utters(40)
            await caller.until_transcribed(count)
        for final in caller.finals():
            assert [word.start_s for word in final.words] == pytest.approx([0.0, 0.3])
            assert [word.end_s for word in final.words] == pytest.approx([0.3, 0.6])
            assert final.confidence == 0.9


async def test_final_segments_are_joined_in_order() -> None:
    async with line(transcripts=["what is the weather"], split_answer=True) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["what is the weather"]
        assert [word.text for word in caller.finals()[0].words] == ["what ", "is ", "the ", "weather "]


async def test_an_utterance_without_words_has_an_empty_transcript_and_no_error() -> None:
    async with line(transcripts=[""]) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == [""]
        assert not caller.errors


# -- answers that are missing, late, or come twice ---------------------------------------------------------------------


async def test_an_utterance_that_is_never_answered_ends_in_time_with_the_text_that_has_come() -> None:
    async with line(transcripts=["one two three", "hello"], interim_s=0.2, answers=0) as caller:
        await caller.begins(20)
        began = anyio.current_time()
        await caller.stops()
        assert await caller.until_transcribed(1) == ["one two"]
        assert anyio.current_time() - began == pytest.approx(caller.stt.timeout_s, abs=0.2)
        assert [error.category for error in caller.errors] == ["timeout"]
        caller.server.behaviour.answers, caller.server.behaviour.transcripts = 1, ["hello"]
        said = await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "hello"
        assert caller.server.got[-1].utterances == [said]


@pytest.mark.parametrize(("interim_s", "left", "goes_on"), [(0.2, "one two", True), (0.0, "", False)])
async def test_a_vendor_that_ends_no_utterance_is_kept_while_its_interim_texts_serve(
    interim_s: float, left: str, goes_on: bool
) -> None:
    async with line(
        transcripts=["one two three"], interim_s=interim_s, answers=0, ends=goes_on, may_fail=not goes_on
    ) as caller:
        for count in range(1, 4):
            await caller.utters()
            assert (await caller.until_transcribed(count))[-1] == left
        await caller.waits(1)
        assert caller.is_over is not goes_on
        if goes_on:
            assert [error.fatal for error in caller.errors] == [False] * 3
            caller.server.behaviour.answers = 1
            await caller.utters()
            assert (await caller.until_transcribed(4))[3] == "one two three"


async def test_a_vendor_that_ends_no_utterance_is_left_if_another_engine_can_take_the_call() -> None:
    async with line(transcripts=["one two three"], interim_s=0.2, answers=0) as caller:
        caller.stt.replaceable = True
        for _ in range(3):
            await caller.utters()
            await caller.waits(6)
        assert "lost" in caller.states
        assert not caller.fatal


async def test_an_answer_that_comes_too_late_is_not_the_next_utterances() -> None:
    async with line(transcripts=["first", "second"], answer_delay_s=6.0) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == [""]
        caller.server.behaviour.answer_delay_s = 0.0
        await caller.begins(100)
        await caller.stops()
        assert (await caller.until_transcribed(2))[1] == "second"


async def test_a_second_answer_is_dropped() -> None:
    async with line(transcripts=["first", "second"], answers=2) as caller:
        for count in (1, 2):
            await caller.utters()
            await caller.until_transcribed(count)
            await anyio.sleep(0.5)
        assert caller.transcripts() == ["first", "second"]
        assert caller.transcripts(final=False) == []


async def test_a_refused_utterance_is_sent_once_more() -> None:
    async with line(transcripts=["hello"], answers=0) as caller:
        audio = await caller.utters()
        await anyio.sleep(0.2)
        caller.server.behaviour.answers = 1
        await caller.connection.send("error", code="overloaded", message="Once more, please.")
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[0].utterances == [audio, audio]
        assert not caller.errors


async def test_an_utterance_that_is_refused_twice_is_reported_and_the_next_one_works() -> None:
    async with line(transcripts=["second"], answers=0) as caller:
        await caller.utters()
        for _ in range(2):
            await anyio.sleep(0.2)
            await caller.connection.send("error", code="too_short", message="No speech.")
        await caller.until_transcribed(1)
        assert ["too_short" in error.message for error in caller.errors] == [True]
        caller.server.behaviour.answers = 1
        await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "second"


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_after", [0, 1, 7, 19, 20])
@pytest.mark.parametrize("code", [0, 1011])
async def test_after_a_loss_the_next_connection_gets_the_utterance_to_the_sample(drop_after: int, code: int) -> None:
    async with line(transcripts=lambda pcm: "hello") as caller:
        first = await caller.begins(drop_after)
        caller.connection.drop(code)
        await caller.goes_on(20 - drop_after)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].utterances == [pieces(first, 20)]
        assert caller.states == ["reconnecting", "active"]
        assert not caller.errors


async def test_a_connection_lost_while_the_answer_is_awaited_is_asked_again() -> None:
    async with line(transcripts=lambda pcm: f"{len(pcm)} bytes", answer_delay_s=1.0) as caller:
        await caller.utters(20)
        await anyio.sleep(0.5)
        caller.connection.drop()
        assert await caller.until_transcribed(1) == [f"{20 * 640} bytes"]
        assert [got.kinds() for got in caller.server.got] == [["finish"], ["finish"]]


async def test_messages_that_precede_an_utterance_are_sent_once_on_each_connection() -> None:
    class Announced(ParrotSTTDialect):
        def begin(self) -> list[str]:
            return [outgoing("begin")]

    def announce(stt: ParrotSTT) -> None:
        stt.dialect = lambda setup: Announced()  # type: ignore[method-assign]

    async with line(transcripts=lambda pcm: "hello", prepare=announce) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await caller.begins(10)
        caller.connection.drop()
        await caller.goes_on(10)
        await caller.stops()
        await caller.until_transcribed(2)
        assert [got.kinds() for got in caller.server.got] == [["begin", "finish", "begin"], ["begin", "finish"]]


async def test_segments_of_the_lost_connection_are_not_given_twice() -> None:
    async with line(transcripts=["hello there"]) as caller:
        await caller.begins(10)
        await caller.connection.send("text", text="hello", final=True)
        await anyio.sleep(0.1)
        caller.connection.drop()
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello there"]


async def test_audio_that_outgrows_the_ring_is_reported_as_lost() -> None:
    async with line(transcripts=["the rest"], settings=ConnectionSettings(ring_s=1)) as caller:
        first = await caller.begins(40)
        caller.server.behaviour.setup_delay_s = 1.0
        caller.connection.drop()
        await caller.goes_on(60)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["the rest"]
        (said,) = caller.server.got[-1].utterances
        assert said.endswith(pieces(first + 90, 10))
        assert 1.0 <= len(said) / 32_000 <= 1.7, "the ring, and all that came after the connection"
        assert ["lost" in error.message for error in caller.errors] == [True]


@pytest.mark.parametrize("heartbeat_s", [1.0, 2.0])
async def test_a_half_open_connection_is_replaced_and_the_utterance_repeated(heartbeat_s: float) -> None:
    def patient(stt: ParrotSTT) -> None:
        stt.timeout_s = 20.0

    settings = ConnectionSettings(heartbeat_s=heartbeat_s)
    async with line(transcripts=["hello"], settings=settings, prepare=patient) as caller:
        first = await caller.begins(10)
        caller.connection.go_half_open()
        await caller.goes_on(10)
        await caller.stops()
        began = anyio.current_time()
        assert await caller.until_transcribed(1) == ["hello"]
        assert anyio.current_time() - began <= 2 * heartbeat_s + 0.6
        assert caller.server.got[-1].utterances == [pieces(first, 20)]


async def test_a_vendor_that_answers_pings_alone_is_left() -> None:
    def patient(stt: ParrotSTT) -> None:
        stt.timeout_s = 20.0

    settings = ConnectionSettings(stall_s=3)
    async with line(transcripts=["hello"], answers=0, settings=settings, prepare=patient) as caller:
        await caller.utters()
        await anyio.sleep(2)
        assert caller.states == []
        caller.server.behaviour.answers = 1
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.states == ["reconnecting", "active"]


async def test_an_idle_connection_is_kept_alive() -> None:
    async with line(transcripts=["hello"]) as caller:
        await anyio.sleep(60)
        assert caller.states == []
        assert 8 <= caller.server.got[0].kinds().count("keep-alive") <= 13
        await caller.utters(600)
        await caller.until_transcribed(1)
        assert caller.server.got[0].kinds().count("keep-alive") <= 13, "none while audio flows"


@pytest.mark.parametrize("statuses", [[429], [500, 503], [408, 409, 425]])
async def test_a_busy_vendor_is_tried_again(statuses: list[int]) -> None:
    async with line(transcripts=["hello"]) as caller:
        await caller.begins(5)
        caller.server.behaviour.refuse = list(statuses)
        caller.connection.drop()
        await caller.goes_on(5)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]


async def test_a_refused_key_is_given_up_at_once_and_told_as_fatal() -> None:
    async with line(transcripts=["hello"], ends=False, may_fail=True) as caller:
        await caller.begins(5)
        caller.server.behaviour.key = "another"
        caller.connection.drop()
        await anyio.sleep(1)
        assert caller.states == ["reconnecting", "lost"]
        assert caller.errors[0].fatal
    assert isinstance(caller.stt.failure, ConnectionLost)


async def test_a_key_that_is_refused_at_the_start_ends_the_call() -> None:
    async with ScriptedParrot(key="another") as server:
        session = Session(ParrotSTT(api_key="test", base_url=server.url))
        outcome = await session.run()
    assert isinstance(outcome.error, ConnectionLost)
    assert outcome.error.fatal
    assert not server.got


async def test_a_vendor_that_goes_away_is_replaced_between_utterances() -> None:
    async with line(transcripts=lambda pcm: f"{len(pcm) // 640}") as caller:
        await caller.connection.send("going-away", left_s=30.0)
        for count in range(1, 20):
            await caller.utters(50)
            await caller.until_transcribed(count)
            await anyio.sleep(1)
        assert caller.transcripts() == ["50"] * 19
        assert len(caller.server.got) == 2
        assert caller.states == ["expiring", "refreshing", "active"]
        assert not caller.errors


async def test_over_tls() -> None:
    async with ScriptedParrot(tls=loopback().server, transcripts=["hello"]) as server:
        stt = ParrotSTT(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with STTCall(server, stt) as caller:
            await caller.utters()
            assert await caller.until_transcribed(1) == ["hello"]


# -- options, and the end ----------------------------------------------------------------------------------------------


async def test_options_are_sent() -> None:
    options = ParrotSTTOptions(model="echo-1", keyterms=("Duologue", "Wolpertinger"))
    async with line(options, prepare=lambda stt: setattr(stt, "language", "fr")) as caller:
        (got,) = caller.server.got
        assert got.query["model"] == ["echo-1"]
        assert got.query["keyterm"] == ["Duologue", "Wolpertinger"]
        assert got.query["language"] == ["fr"]
        assert got.query["sample_rate"] == ["16000"]


async def test_another_language_takes_another_connection_before_the_next_utterance() -> None:
    async with line(transcripts=["hello", "bonjour"]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        caller.stt.language = "fr"
        await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "bonjour"
        assert [got.query["language"] for got in caller.server.got] == [[""], ["fr"]]


async def test_a_language_that_the_vendor_lacks_is_refused_and_the_old_one_stays() -> None:
    async with line(transcripts=["hello", "still here"]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        caller.stt.language = "tlh"
        await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "still here"
        assert ["tlh" in error.message for error in caller.errors] == [True]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="echo-9"):
        ParrotSTTOptions(model="echo-9")
    with pytest.raises(ConfigurationError, match="101 keyterms"):
        ParrotSTTOptions(keyterms=tuple("a" * 101))


async def test_speech_that_is_released_is_not_told_and_can_be_adopted() -> None:
    async with line(transcripts=["never"], answer_delay_s=1.0) as caller:
        first = await caller.begins(20)
        await settled()
        released = caller.stt.release()
        audio = b"".join(frame.audio for frame in released if isinstance(frame, UserAudio))
        assert audio == pieces(first, 20)
        await anyio.sleep(3)
        assert not caller.transcripts()


async def closing_at(moment: Callable[[STTCall], Awaitable[None]]) -> None:
    async with line(transcripts=["hello"], answer_delay_s=0.5, ends=False) as caller:
        await moment(caller)
    await settled()
    assert not [task for task in asyncio.all_tasks() if "ParrotSTT" in task.get_name()]
    assert all(got.closed is not None for got in caller.server.got)


async def _idle(caller: STTCall) -> None:
    await anyio.sleep(1)


async def _speaking(caller: STTCall) -> None:
    await caller.begins(10)


async def _waiting(caller: STTCall) -> None:
    await caller.utters()
    await anyio.sleep(0.2)


async def _reconnecting(caller: STTCall) -> None:
    await caller.begins(10)
    caller.server.behaviour.setup_delay_s = 5.0
    caller.connection.drop()
    await anyio.sleep(0.5)


@pytest.mark.parametrize("moment", [_idle, _speaking, _waiting, _reconnecting])
async def test_nothing_is_left_after_the_end(moment: Callable[[STTCall], Awaitable[None]]) -> None:
    await closing_at(moment)
