"""`RemoteTTS.feeding`: a sentence goes to the vendor while it is written."""

from __future__ import annotations

import random
import re

import anyio
import pytest

from duologue.frames import BotAudio, BotText
from duologue.services.ahead import Prepare
from duologue.services.cascade import Cascade
from duologue.services.deepgram import DeepgramFluxTTS, DeepgramFluxTTSOptions
from duologue.services.elevenlabs import ElevenLabsTTS, ElevenLabsTTSOptions
from duologue.services.pieces import Feeding
from duologue.services.reading import Reading
from duologue.services.remote import RemoteTTS
from duologue.testing.mocks import MockLLM, MockSTT
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from tests.services.elevenlabs.calls import speaking as over_elevenlabs
from tests.services.remote.test_tts import TTSCall, line, spoken
from tests.services.story import story

pytestmark = pytest.mark.virtual_clock

TOKENS = ("Your tab", "le is", " booked for", " 9 o'clock", ", Mister", " Smith. ", "Good", "bye.")
PIECES = ["Your ", "table ", "is booked ", "for 9 o'clock, ", "Mister Smith. ", "Goodbye."]
STORY = (
    "We have a table for you, and it is by the window, if you like it there. It is quiet, and you see the sea. "
    "Do you want it, or do you want to wait for the other one, which is bigger?"
)


def texts(agent: TTSCall) -> list[str]:
    """The texts that the vendor got on the latest connection, with a mark behind those that were flushed."""
    found: list[str] = []
    for message in agent.server.got[-1].messages:
        if message["type"] == "text":
            found.append(message["text"])
        elif message["type"] == "flush":
            found[-1] += "|"
    return found


async def test_words_are_sent_as_they_come_and_flushed_at_the_end_of_the_sentence() -> None:
    async with line() as agent:
        agent.tts.feeding = "words"
        response = await agent.says(*TOKENS)
        (ended,) = await agent.until_ended(1)
        assert texts(agent) == [*PIECES[:4], "Mister Smith. |", "Goodbye.|"]
        assert agent.audio(response) == spoken(*PIECES)
        assert "".join(word.text for word in agent.words(response)) == "".join(TOKENS)
        assert ended.status == "completed"
        (usage,) = agent.usage
        assert usage.characters == len("".join(TOKENS))


async def test_without_word_times_they_are_in_proportion() -> None:
    async with line(with_words=False) as agent:
        agent.tts.feeding = "words"
        response = await agent.says(*TOKENS)
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "".join(TOKENS)
        assert words[-1].end_s == pytest.approx(len("".join(TOKENS)) / 15, abs=0.01)


async def test_an_answer_that_breaks_off_has_the_words_that_were_sent() -> None:
    async with line() as agent:
        agent.tts.feeding = "words"
        response = await agent.begins()
        await agent.writes(response, "The table, the tab")
        await agent.ends(response, "failed")
        await agent.until_ended(1)
        assert texts(agent) == ["The table, the |"]
        assert agent.session.ledger.text_of(response) == "The table, the "


async def test_the_rest_of_an_answer_without_a_full_stop_is_flushed() -> None:
    async with line() as agent:
        agent.tts.feeding = "words"
        response = await agent.begins()
        await agent.writes(response, "One mo", "ment")
        await agent.ends(response)
        await agent.until_ended(1)
        assert texts(agent) == ["One ", "moment|"]


@pytest.mark.parametrize("timed", [True, False])
async def test_the_end_of_a_sentence_is_told_if_its_last_piece_is_not_spoken(timed: bool) -> None:
    async with line(with_words=timed) as agent:
        agent.tts.feeding = "words"
        agent.tts.reading = Reading(replace={"hmm": ""})
        response = await agent.says("We are o", "pen now", " hm", "m.", " Goodbye all", " hm", "m.")
        (ended,) = await agent.until_ended(1)
        assert texts(agent) == ["We are ", "open ", "now |", " Goodbye ", "all |"]
        assert "".join(word.text for word in agent.words(response)) == "We are open now hmm. Goodbye all hmm."
        assert ended.status == "completed"


@pytest.mark.parametrize("whole", [True, False])
async def test_a_voice_that_fails_after_an_unspoken_piece_leaves_the_text_that_was_spoken(whole: bool) -> None:
    async with line(pace=1.0, chunk_bytes=480) as agent:
        agent.tts.feeding = "words"
        agent.tts.reading = Reading(replace={"hmm": ""})
        response = await agent.begins()
        await agent.writes(response, "We are open now", " hm", "m.", *([" Goodbye, and thank you"] if whole else []))
        await anyio.sleep(0.7)
        agent.connection.drop()
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        said = "".join(word.text for word in agent.words(response)).strip()
        assert said
        assert "We are open now".startswith(said)
        assert agent.session.ledger.text_of(response).strip() == said


async def test_a_sentence_that_waits_for_its_rest_owes_no_audio() -> None:
    async with line(silent=True, timeout_s=2) as agent:
        agent.tts.feeding = "words"
        response = await agent.begins()
        await agent.writes(response, "One moment")
        await anyio.sleep(20)
        assert agent.errors == []
        agent.server.behaviour.silent = False
        await agent.writes(response, " please.")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"


async def test_a_loss_before_the_first_audio_repeats_the_words() -> None:
    async with line(silent=True, never_done=True) as agent:
        agent.tts.feeding = "words"
        response = await agent.begins()
        await agent.writes(response, "Hello. Your tab", "le is")
        await anyio.sleep(0.5)
        agent.server.behaviour.silent = agent.server.behaviour.never_done = False
        agent.connection.drop()
        await anyio.sleep(1)
        assert texts(agent) == ["Hello. |", "Your table "]
        await agent.writes(response, " ready.")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert texts(agent) == ["Hello. |", "Your table ", "is ready.|"]
        assert agent.audio(response) == spoken("Hello. ", "Your table ", "is ready.")
        assert ended.status == "completed"


async def test_a_loss_in_the_middle_leaves_the_words_that_were_spoken() -> None:
    async with line(pace=1.0, chunk_bytes=480) as agent:
        agent.tts.feeding = "words"
        response = await agent.begins()
        await agent.writes(response, "We say it. We say the same again, and we", " say it")
        await anyio.sleep(1.5)
        agent.connection.drop()
        await anyio.sleep(0.2)
        await agent.writes(response, " again, and we say it.", " Goodbye.")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        said = "".join(word.text for word in agent.words(response)).strip()
        assert said.startswith("We say it. We say the same")
        assert agent.session.ledger.text_of(response).strip() == said


@pytest.mark.parametrize("feeding", ["words", "clauses"])
async def test_whenever_the_connection_is_lost_the_text_is_what_was_spoken(feeding: Feeding) -> None:
    dice, failed = random.Random(feeding), 0
    async with line(pace=1.1, chunk_bytes=960) as agent:
        agent.tts.feeding = feeding
        for number in range(1, 26):
            lost_after_s = dice.uniform(0.0, 9.0)
            response = await agent.begins()
            begun_at, is_lost = anyio.current_time(), False
            for token in re.findall(r"\s*\S+", STORY):
                await agent.writes(response, token)
                await anyio.sleep(0.1)
                if not is_lost and anyio.current_time() - begun_at >= lost_after_s:
                    agent.connection.drop()
                    is_lost = True
            await agent.ends(response)
            if not is_lost:
                await anyio.sleep(lost_after_s - (anyio.current_time() - begun_at))
                agent.connection.drop()
            ended = (await agent.until_ended(2 * number - 1))[-1]
            said = "".join(word.text for word in agent.words(response)).strip()
            text = agent.session.ledger.text_of(response).strip()
            assert text == said
            assert STORY.startswith(said)
            assert (text == STORY) == (ended.status == "completed")
            failed += ended.status == "failed"
            await agent.says("Good.")
            assert (await agent.until_ended(2 * number))[-1].status == "completed"
    assert failed > 10


async def test_a_prepared_sentence_is_sent_as_a_whole() -> None:
    async with line() as agent:
        agent.tts.feeding = "words"
        await agent.session.send(Prepare(number=1, text="Hello there, my friend. "))
        await anyio.sleep(0.3)
        response = await agent.begins()
        await agent.writes(response, "Hello there", ", my friend. ")
        await anyio.sleep(0.1)
        await agent.writes(response, "How are you", " today?")
        await agent.ends(response)
        await agent.until_ended(1)
        assert texts(agent) == ["Hello there, my friend. |", "How are ", "you today?|"]
        assert agent.audio(response) == spoken("Hello there, my friend. ", "How are ", "you today?")
        assert [usage.discarded for usage in agent.usage] == [False]


async def test_hooks_get_whole_sentences() -> None:
    async with line() as agent:
        agent.tts.feeding = "words"
        checked: list[str] = []

        def check(frame: BotText) -> BotText:
            checked.append(frame.text)
            return frame

        agent.session.intercept(BotText, check)
        await agent.says(*TOKENS)
        await agent.until_ended(1)
        assert checked == ["Your table is booked for 9 o'clock, Mister Smith.", "Goodbye."]
        assert texts(agent) == ["Your table is booked for 9 o'clock, Mister Smith. |", "Goodbye.|"]


async def test_elevenlabs_gets_clauses_and_speaks_each_at_once() -> None:
    async with over_elevenlabs(ElevenLabsTTSOptions(feeding="clauses")) as agent:
        response = await agent.says("Your table is booked", " for nine, Mister", " Smith.")
        await agent.until_ended(1)
        sent = [message["text"] for message in agent.messages if message.get("text", " ").strip()]
        assert sent == ["Your table is booked for nine, ", "Mister Smith. "]
        assert "".join(word.text for word in agent.words(response)) == "Your table is booked for nine, Mister Smith."


# -- how much earlier --------------------------------------------------------------------------------------------------

LONG = (
    "I have looked through the whole calendar of the month for you, and it seems to me that there is still a quiet "
    "table by the window for the two of you on Friday evening. Shall I book it?"
)
TOKEN_S, FIRST_TOKEN_S, FIRST_AUDIO_S = 0.04, 0.15, 0.08


async def first_audio_s(tts: RemoteTTS) -> float:
    """The seconds from a question to the first audio of the answer, whose log is right."""
    llm = MockLLM([LONG], first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S)
    async with story(engine=Cascade(MockSTT(), llm, tts)) as call:
        await anyio.sleep(1)
        asked_at = call.session.now()
        await call.types("Is there a table?")
        await call.until(lambda: bool(call.times(BotAudio)), "audio", 60)
        begun_s = call.times(BotAudio)[0] - asked_at
        await anyio.sleep(30)
        assert call.log[-1] == f"agent: {LONG}"
        assert not call.errors
        return begun_s


def elevenlabs(server: ScriptedElevenLabs, feeding: Feeding) -> ElevenLabsTTS:
    if feeding == "words":
        options = ElevenLabsTTSOptions(feeding=feeding, auto_mode=False, chunk_length_schedule=(50, 120))
    else:
        options = ElevenLabsTTSOptions(feeding=feeding)
    return ElevenLabsTTS(api_key="test", base_url=server.url, options=options)


async def test_the_first_audio_comes_before_a_long_sentence_is_written_by_elevenlabs() -> None:
    begun: dict[Feeding, float] = {}
    for feeding in ("sentences", "clauses", "words"):
        async with ScriptedElevenLabs(first_audio_s=FIRST_AUDIO_S) as server:
            begun[feeding] = await first_audio_s(elevenlabs(server, feeding))
    written_s = FIRST_TOKEN_S + len(LONG.partition(". ")[0].split()) * TOKEN_S
    assert begun["sentences"] == pytest.approx(written_s + FIRST_AUDIO_S, abs=0.1)
    assert begun["clauses"] == pytest.approx(FIRST_TOKEN_S + 13 * TOKEN_S + FIRST_AUDIO_S, abs=0.1)
    assert begun["words"] < begun["clauses"] < begun["sentences"] - 0.5


async def test_the_first_audio_comes_before_a_long_sentence_is_written_by_flux() -> None:
    begun: dict[Feeding, float] = {}
    for feeding in ("sentences", "clauses", "words"):
        async with ScriptedDeepgram(first_audio_s=FIRST_AUDIO_S) as server:
            options = DeepgramFluxTTSOptions(feeding=feeding)
            begun[feeding] = await first_audio_s(DeepgramFluxTTS(api_key="test", base_url=server.url, options=options))
    assert begun["words"] == pytest.approx(FIRST_TOKEN_S + TOKEN_S + FIRST_AUDIO_S, abs=0.1)
    assert begun["words"] < begun["clauses"] - 0.3 < begun["sentences"] - 0.6
