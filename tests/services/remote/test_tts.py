"""`RemoteTTS`, with a made-up vendor behind a real WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    ResponseEnded,
    ResponseStarted,
    ToolCall,
)
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.parrot import ParrotTTS, ParrotTTSOptions
from duologue.testing.scripted.parrot import ScriptedParrot, SpeakingParrot
from duologue.testing.scripted.server import SPEECH_CHARACTERS_PER_S
from duologue.testing.tls import loopback
from duologue.testing.tones import tone
from tests.services.remote.calls import WritingCall
from tests.session.calls import settled


class TTSCall(WritingCall):
    """A call through a TTS, with an agent that writes."""

    def __init__(self, server: ScriptedParrot, tts: ParrotTTS, *, ends: bool = True, may_fail: bool = False) -> None:
        self.server, self.tts = server, tts
        super().__init__(tts, ends=ends, may_fail=may_fail)

    @property
    def connection(self) -> SpeakingParrot:
        connection = self.server.connections[-1]
        assert isinstance(connection, SpeakingParrot)
        return connection

    def kinds(self) -> list[str]:
        return self.server.got[-1].kinds()


@asynccontextmanager
async def line(
    options: ParrotTTSOptions | None = None,
    *,
    settings: ConnectionSettings | None = None,
    timeout_s: float = 10.0,
    ends: bool = True,
    may_fail: bool = False,
    **behaviour: Any,
) -> AsyncIterator[TTSCall]:
    async with ScriptedParrot(**behaviour) as server:
        tts = ParrotTTS(api_key="test", base_url=server.url, options=options, connection=settings)
        tts.timeout_s = timeout_s
        async with TTSCall(server, tts, ends=ends, may_fail=may_fail) as call:
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "ParrotTTS" in task.get_name()]
    assert all(got.closed is not None for got in server.got)


def spoken(*texts: str) -> bytes:
    """The audio for sentences."""
    return b"".join(tone(len(text) / SPEECH_CHARACTERS_PER_S, 24_000) for text in texts)


# -- responses ---------------------------------------------------------------------------------------------------------


async def test_a_response_is_one_context_and_its_audio_comes_in_order() -> None:
    async with line() as agent:
        response = await agent.says("Hello there. ", "How are", " you? ", "I am fine.")
        (ended,) = await agent.until_ended(1)
        assert agent.kinds() == ["open", "text", "flush", "text", "flush", "text", "flush", "end"]
        assert {message["context"] for message in agent.server.got[0].messages} == {"context_1"}
        assert agent.audio(response) == spoken("Hello there. ", "How are you? ", "I am fine.")
        assert ended.status == "completed"
        (usage,) = agent.usage
        assert usage.characters == 36
        assert usage.output_audio_s == pytest.approx(36 / 15, abs=0.001)
    kinds = [type(frame) for frame in agent.sink.frames]
    assert kinds[0] is ResponseStarted
    assert kinds.index(ResponseEnded) > max(place for place, kind in enumerate(kinds) if kind is BotAudio)


async def test_a_sentence_is_spoken_before_the_next_one_is_written() -> None:
    async with line() as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ")
        await anyio.sleep(0.2)
        assert agent.audio(response) == spoken("Hello there. ")
        await anyio.sleep(60)
        await agent.writes(response, "Still there? ")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there. ", "Still there? ")


async def test_many_responses_share_one_connection() -> None:
    async with line() as agent:
        for count in range(1, 21):
            await agent.says(f"This is number {count}.")
            await agent.until_ended(count)
            await anyio.sleep(7)
        assert agent.tts.connections_made == len(agent.server.got) == 1
        assert [ended.status for ended in agent.ended] == ["completed"] * 20
        assert agent.kinds().count("open") == 20
        assert agent.kinds().count("keep-alive") >= 20


async def test_words_have_absolute_times_and_join_to_the_text() -> None:
    async with line(chunk_bytes=1_000) as agent:
        response = await agent.says("Hello there. ", "How are **you**?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are **you**?"
        text = "Hello there. How are you?"
        for word in words:
            said = word.text.strip().replace("*", "")
            at = text.index(said)
            assert word.start_s == pytest.approx(at / 15, abs=0.002)
            assert word.end_s == pytest.approx((at + len(said)) / 15, abs=0.002)


async def test_without_word_times_they_are_in_proportion() -> None:
    async with line(with_words=False) as agent:
        response = await agent.says("Hello there. ", "How are you?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are you?"
        assert words[-1].end_s == pytest.approx(25 / 15, abs=0.001)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 333, 4_801])
async def test_an_odd_byte_waits_for_the_next_piece(chunk_bytes: int) -> None:
    async with line(chunk_bytes=chunk_bytes, with_words=False) as agent:
        response = await agent.says("Hi.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hi.")
        assert all(len(f.audio) % 2 == 0 for f in agent.sink.frames if isinstance(f, BotAudio))


async def test_a_response_without_words_to_speak_opens_no_context() -> None:
    async with line() as agent:
        await agent.says("... ")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.kinds() == []


async def test_a_response_that_was_never_opened_is_not_ended_on_the_wire() -> None:
    async with ScriptedParrot() as server:
        tts = OneVoice(api_key="test", base_url=server.url)
        async with TTSCall(server, tts) as agent:
            server.behaviour.refuse = [403]
            await agent.says("Hello there.", voice="blue")
            assert [ended.status for ended in await agent.until_ended(1)] == ["failed"]
            assert agent.kinds() == []


async def test_a_response_that_was_cancelled_is_not_ended_on_the_wire() -> None:
    async with line(silent=True, never_done=True, timeout_s=2) as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ")
        await agent.until(lambda: agent.errors, "the failure")
        await agent.ends(response)
        await agent.until_ended(1)
        await anyio.sleep(1)
        kinds = agent.kinds()
        assert kinds.count("cancel") == kinds.count("open")
        assert "end" not in kinds


async def test_what_stands_before_a_tool_call_is_spoken() -> None:
    async with line() as agent:
        response = await agent.begins()
        await agent.writes(response, "Let me see")
        turn = agent.session.floor.turn
        await agent.session.send(ToolCall(turn=turn, response_id=response, call_id="c", name="n", arguments={}))
        await anyio.sleep(0.5)
        assert agent.audio(response) == spoken("Let me see")


# -- interruptions -----------------------------------------------------------------------------------------------------


async def test_late_audio_of_a_cancelled_context_is_dropped() -> None:
    async with line(pace=1.0, late_audio=5) as agent:
        first = await agent.says("This is a rather long sentence that is cut.")
        await anyio.sleep(0.5)
        heard = agent.audio(first)
        agent.session.interrupt()
        second = await agent.says("Yes?")
        await agent.until_ended(2)
        await anyio.sleep(1)
        assert agent.kinds().count("cancel") == 1
        assert agent.audio(first) == heard
        assert agent.audio(second) == spoken("Yes?")
        assert agent.tts.dropped_bytes >= 5 * 4_800
        assert [ended.status for ended in agent.ended] == ["interrupted", "completed"]
        assert agent.tts.connections_made == 1


async def test_an_interruption_before_the_first_audio_leaves_nothing() -> None:
    async with line(pace=1.0) as agent:
        first = await agent.says("This is never heard.")
        agent.session.interrupt()
        await anyio.sleep(1)
        assert agent.audio(first) == b""
        await agent.says("This is.")
        assert [ended.status for ended in await agent.until_ended(2)] == ["interrupted", "completed"]


# -- vendors that fail -------------------------------------------------------------------------------------------------


async def test_a_context_that_never_ends_is_given_up_in_time() -> None:
    async with line(never_done=True, timeout_s=3) as agent:
        response = await agent.says("Hello there.")
        began = anyio.current_time()
        (ended,) = await agent.until_ended(1)
        assert anyio.current_time() - began == pytest.approx(3, abs=0.3)
        assert ended.status == "failed"
        assert agent.audio(response) == spoken("Hello there."), "what came is spoken"
        agent.server.behaviour.never_done = False
        await agent.says("And again.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_a_context_without_audio_fails_and_its_text_was_not_said() -> None:
    async with line(silent=True, timeout_s=2) as agent:
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert "no speech" in ended.reason
        assert agent.session.ledger.text_of(response) == ""
        assert len(agent.errors) == 1


@pytest.mark.parametrize("fault", ["it is refused", "it hangs"])
async def test_a_context_without_audio_is_sent_once_more(fault: str) -> None:
    async with line(silent=True, never_done=True, timeout_s=2) as agent:
        before = len(agent.server.connections)
        response = await agent.says("Hello there.")
        await anyio.sleep(0.5)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        if fault == "it is refused":
            await agent.connection.send("error", context="context_1", code="busy", message="Later.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")
        assert agent.errors == []
        assert len(agent.server.connections) == before


async def test_a_vendor_that_keeps_giving_no_audio_is_told_as_lost() -> None:
    async with line(silent=True, may_fail=True) as agent:
        for number in range(1, 3):
            await agent.says("Hello there.")
            await agent.until_ended(number)
        assert agent.errors[-1].fatal or agent.errors[-2].fatal
        assert any("failed 3 times in a row" in error.message for error in agent.errors)


async def test_a_vendor_that_speaks_until_it_is_interrupted_has_not_failed_in_a_row() -> None:
    async with line(timeout_s=2) as agent:
        for number in range(1, 5):
            agent.server.behaviour.silent = agent.server.behaviour.never_done = True
            await agent.says("Hello there.")
            await anyio.sleep(1)
            agent.server.behaviour.silent = False
            await anyio.sleep(2)
            agent.session.interrupt()
            assert (await agent.until_ended(number))[-1].status == "interrupted"
        assert agent.errors == []


async def test_a_refused_context_fails_and_the_next_response_is_spoken() -> None:
    async with line(silent=True, never_done=True) as agent:
        await agent.says("Hello there.")
        await anyio.sleep(0.5)
        for context in ("context_1", "context_2"):
            await agent.connection.send("error", context=context, code="bad_text", message="Not this.")
            await anyio.sleep(0.3)
        (ended,) = await agent.until_ended(1)
        assert (ended.status, "bad_text" in ended.reason) == ("failed", True)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        await agent.says("But this.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_a_response_without_audio_is_repeated_on_the_next_connection() -> None:
    async with line(silent=True, never_done=True) as agent:
        response = await agent.says("Hello there. ", "How are you?")
        await anyio.sleep(0.5)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        agent.connection.drop()
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there. ", "How are you?")
        assert agent.tts.connections_made == 2


async def test_a_response_keeps_its_language_when_another_is_configured_meanwhile() -> None:
    async with line(silent=True, never_done=True) as agent:
        agent.tts.language = "fr"
        response = await agent.begins()
        await anyio.sleep(0.5)
        agent.tts.language = "de"
        await agent.writes(response, "Bonjour. ")
        await anyio.sleep(0.5)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        agent.connection.drop()
        await agent.ends(response)
        await agent.until_ended(1)
        await agent.says("Guten Tag.")
        await agent.until_ended(2)
        opened = [message for got in agent.server.got for message in got.messages if message["type"] == "open"]
        assert [message["language"] for message in opened] == ["fr", "fr", "de"]


async def test_a_response_whose_audio_is_cut_by_a_loss_fails_and_the_next_one_is_spoken() -> None:
    async with line(pace=1.0, chunk_bytes=480) as agent:
        response = await agent.says("Hello there, my dear friend. ", "How are you?")
        await anyio.sleep(1)
        agent.connection.drop()
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert 0 < len(agent.audio(response)) < len(spoken("Hello there, my dear friend. "))
        text = "".join(word.text for word in agent.words(response))
        assert agent.session.ledger.text_of(response).strip() == text.strip()
        assert text.startswith("Hello there")
        await agent.says("Good.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_text_written_while_there_is_no_connection_is_spoken_on_the_next() -> None:
    async with line(setup_delay_s=0.0) as agent:
        agent.server.behaviour.setup_delay_s = 1.0
        agent.connection.drop()
        await anyio.sleep(0.2)
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")


async def test_a_vendor_that_is_given_up_fails_the_response_and_is_told_as_fatal() -> None:
    async with line(silent=True, never_done=True, ends=False, may_fail=True) as agent:
        await agent.says("Hello there.")
        await anyio.sleep(0.2)
        agent.server.behaviour.key = "another"
        agent.connection.drop()
        await anyio.sleep(1)
        assert agent.states == ["reconnecting", "lost"]
        assert any(error.fatal for error in agent.errors)


async def test_a_half_open_connection_is_replaced() -> None:
    async with line(settings=ConnectionSettings(heartbeat_s=1)) as agent:
        agent.connection.go_half_open()
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")


async def test_a_vendor_that_answers_pings_alone_is_left() -> None:
    async with line(silent=True, never_done=True, settings=ConnectionSettings(stall_s=2)) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(1)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")
        assert agent.states == ["reconnecting", "active"]


# -- options, voices, TLS ----------------------------------------------------------------------------------------------


async def test_the_voice_the_language_and_the_options_are_sent() -> None:
    async with line(ParrotTTSOptions(speed=2)) as agent:
        agent.tts.language = "fr"
        response = await agent.says("Bonjour.", voice="blue")
        await agent.until_ended(1)
        opened = agent.server.got[0].messages[0]
        assert (opened["voice"], opened["language"]) == ("blue", "fr")
        assert len(agent.audio(response)) == len(spoken("Bonjour.")) // 2


def test_options_and_voices_that_the_vendor_lacks_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="speed is 3"):
        ParrotTTSOptions(speed=3)
    with pytest.raises(ConfigurationError, match="tenor"):
        ParrotTTS(api_key="test").check_voice("tenor")
    with pytest.raises(ConfigurationError, match="PARROT_API_KEY"):
        ParrotTTS()


async def test_over_tls() -> None:
    async with ScriptedParrot(tls=loopback().server) as server:
        tts = ParrotTTS(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with TTSCall(server, tts) as agent:
            response = await agent.says("Hello there.")
            await agent.until_ended(1)
            assert agent.audio(response) == spoken("Hello there.")


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
async def test_nothing_is_left_of_a_call_that_is_cancelled_in_the_middle_of_a_response(after_s: float) -> None:
    async with line(pace=1.0, ends=False) as agent:
        await agent.says("This is a rather long sentence that is cut.")
        await anyio.sleep(after_s)


class OneVoice(ParrotTTS):
    """A connection of this one has one voice."""

    def setup(self, voice: str, language: str) -> tuple[str, ...]:
        return (voice,)


async def test_a_voice_that_takes_a_connection_of_its_own_gets_one() -> None:
    async with ScriptedParrot() as server:
        tts = OneVoice(api_key="test", base_url=server.url)
        async with TTSCall(server, tts) as agent:
            for count, voice in enumerate(["", "blue", "blue", "amber"], 1):
                response = await agent.says("Hello there.", voice=voice)
                await agent.until_ended(count)
                assert agent.audio(response) == spoken("Hello there.")
            assert agent.tts.connections_made == 3
            opened = [message["voice"] for got in server.got for message in got.messages if message["type"] == "open"]
            assert opened == ["", "blue", "blue", "amber"]


async def test_a_voice_whose_connection_is_refused_fails_the_response_and_no_other() -> None:
    async with ScriptedParrot() as server:
        tts = OneVoice(api_key="test", base_url=server.url)
        async with TTSCall(server, tts) as agent:
            server.behaviour.refuse = [403]
            await agent.says("Hello there.", voice="blue")
            await agent.says("Hello again.")
            assert [ended.status for ended in await agent.until_ended(2)] == ["failed", "completed"]
            assert not any(error.fatal for error in agent.errors)
