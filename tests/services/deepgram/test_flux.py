"""`DeepgramFluxSTT` over the real SDK, with a scripted Deepgram that finds the turns."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import EagerEndOfTurn, EndOfTurn, SpeechStarted, Usage, UserTranscript
from duologue.services.deepgram import DeepgramFluxOptions, DeepgramFluxSTT
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.scripted.deepgram_flux import ListeningFlux
from duologue.testing.tones import tone
from tests.services.deepgram.calls import STTCall, taking_turns

EAGER = DeepgramFluxOptions(eager_eot_threshold=0.5)
QUICK = ConnectionSettings(backoff_s=0.05, retry_for_s=5.0)

FluxCall = STTCall[DeepgramFluxSTT]


async def says(caller: FluxCall, seconds: float = 1.0, silence_s: float = 0.7) -> None:
    await caller.is_silent(0.3)
    await caller.speaks(seconds)
    await caller.is_silent(silence_s)
    await anyio.sleep(0.1)


def turn(*texts: str, eager: tuple[str, ...] = ()) -> list[str]:
    (said,) = texts
    return ["SpeechStarted", *eager, "SpeechStopped", f"UserTranscript {said}".rstrip(), "EndOfTurn"]


def connection(caller: FluxCall) -> ListeningFlux:
    latest = caller.server.connections[-1]
    assert isinstance(latest, ListeningFlux)
    return latest


# -- turns -------------------------------------------------------------------------------------------------------------


async def test_the_vendors_turns_are_pushed() -> None:
    async with taking_turns(transcripts=["Hello there.", "Bye."], interim_s=0.25) as caller:
        await says(caller)
        await says(caller)
        assert caller.turns == [*turn("Hello there."), *turn("Bye.")]
        started, _, said, ended = caller.told[:4]
        assert isinstance(started, SpeechStarted)
        assert started.at == pytest.approx(0.34, abs=0.05)  # known late: without words at the start of the turn
        assert isinstance(ended, EndOfTurn)
        assert ended.at == pytest.approx(1.3, abs=0.03)
        assert ended.by == "server"
        assert isinstance(said, UserTranscript)
        assert [word.text for word in said.words] == ["Hello ", "there. "]
        assert said.confidence == pytest.approx(0.9)
        assert [frame.text for frame in caller.finals(final=False)][:2] == ["Hello", "Hello there."]
        assert caller.got.query == {
            "model": ["flux-general-en"],
            "encoding": ["linear16"],
            "sample_rate": ["16000"],
        }
    assert caller.got.kinds() == ["CloseStream"]


async def test_an_eager_end_is_told_and_confirmed() -> None:
    async with taking_turns(EAGER, transcripts=["Hello there."]) as caller:
        await says(caller)
        assert caller.turns == turn("Hello there.", eager=("EagerEndOfTurn Hello there.",))
        eager = caller.told[1]
        assert isinstance(eager, EagerEndOfTurn)
        assert eager.at == pytest.approx(1.3, abs=0.03)
        assert eager.confidence == 0.6


async def test_an_eager_end_is_taken_back() -> None:
    async with taking_turns(EAGER, transcripts=["I think I go."], eager_texts=["I think"]) as caller:
        await says(caller, silence_s=0.05)
        await says(caller)
        told = ("EagerEndOfTurn I think", "TurnResumed", "EagerEndOfTurn I think I go.")
        assert caller.turns == turn("I think I go.", eager=told)


async def test_a_turn_is_ended_by_the_application() -> None:
    async with taking_turns(transcripts=["Over."], silence_ms=60_000) as caller:
        await says(caller)
        assert caller.turns == ["SpeechStarted"]
        caller.stt.end_turn()
        await anyio.sleep(0.1)
        assert caller.turns == turn("Over.")
        caller.stt.end_turn()
        await anyio.sleep(0.1)
        assert len(caller.turns) == 4


async def test_a_turn_interrupts_the_agent() -> None:
    async with taking_turns(transcripts=["Stop."]) as caller:
        floor = caller.session.floor
        begun = floor.begin()
        await says(caller)
        assert floor.fence >= begun


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_an_end_that_is_told_twice_ends_one_turn() -> None:
    async with taking_turns(transcripts=["Hello.", "Bye."], answers=3) as caller:
        await says(caller)
        await says(caller)
        assert caller.turns == [*turn("Hello."), *turn("Bye.")]


async def test_a_turn_begins_with_its_first_text_if_its_start_is_lost() -> None:
    async with taking_turns(turn_detection="told") as caller:
        await caller.is_silent(0.5)
        wire = connection(caller)
        wire.tell("Update", "")
        wire.tell("TurnResumed", "")
        await anyio.sleep(0.1)
        assert caller.turns == []
        wire.tell("Update", "Hello")
        wire.tell("EndOfTurn", "Hello.")
        await anyio.sleep(0.1)
        assert caller.turns == turn("Hello.")


async def test_an_empty_turn_has_an_empty_transcript() -> None:
    async with taking_turns(turn_detection="told") as caller:
        await caller.is_silent(0.5)
        connection(caller).tell("StartOfTurn")
        connection(caller).tell("EndOfTurn")
        connection(caller).tell("EndOfTurn")  # of a turn without a beginning or a word
        await anyio.sleep(0.1)
        assert caller.turns == turn("")


async def test_a_turn_without_an_end_is_ended() -> None:
    async with taking_turns(DeepgramFluxOptions(eot_timeout_ms=500), transcripts=["Hello."], silence_ms=1e9) as caller:
        await says(caller, silence_s=4.0)
        assert caller.got.kinds() == ["ForceEndTurn"]
        assert caller.turns == turn("Hello.")
        assert not caller.errors


async def test_a_turn_that_the_vendor_does_not_end_at_all_is_ended_with_its_text() -> None:
    async with taking_turns(DeepgramFluxOptions(eot_timeout_ms=500), turn_detection="told", settings=QUICK) as caller:
        caller.stt.timeout_s = 1.0
        await caller.is_silent(0.5)
        connection(caller).tell("StartOfTurn")
        connection(caller).tell("Update", "Well")
        connection(caller)._in_turn = False  # the script ignores `ForceEndTurn`
        await caller.is_silent(5.0)
        assert caller.turns == turn("Well")
        assert [error.category for error in caller.errors] == ["timeout"]
        assert len(caller.server.got) == 2
        connection(caller).tell("StartOfTurn")
        connection(caller).tell("EndOfTurn", "Next.")
        await anyio.sleep(0.1)
        assert caller.turns == [*turn("Well"), *turn("Next.")]


async def test_a_loss_in_mid_turn_costs_nothing() -> None:
    async with taking_turns(transcripts=["Hello."], settings=QUICK) as caller:
        await caller.is_silent(0.3)
        await caller.speaks(0.5)
        caller.server.connections[-1].drop(1011, "NET-0000")
        await caller.speaks(0.5)
        await caller.is_silent(1.0)
        assert caller.turns == turn("Hello.")
        (said,) = caller.server.got[1].utterances
        assert len(said) / 32_000 == pytest.approx(1.5, abs=0.1)
        assert tone(0.5, 16_000)[640:] in said
        assert not caller.errors


async def test_a_connection_without_audio_gets_silence_which_counts_in_no_time() -> None:
    async with taking_turns(transcripts=["Hello."], turn_detection="told") as caller:
        await caller.is_silent(1.0)
        await anyio.sleep(31.0)  # the caller is muted
        assert len(caller.server.got) == 1
        assert len(caller.got.audio) == 32_000 + 7 * 2560
        wire = connection(caller)
        wire._from = len(caller.got.audio)
        await caller.speaks(1.0)
        wire.tell("StartOfTurn", "Hello.")
        wire.tell("EndOfTurn", "Hello.")
        await anyio.sleep(0.1)
        started, _, _, ended = caller.told
        assert isinstance(started, SpeechStarted)
        assert started.at == pytest.approx(1.0, abs=0.03)
        assert isinstance(ended, EndOfTurn)
        assert ended.at == pytest.approx(2.0, abs=0.03)


async def test_a_message_that_is_odd_costs_nothing_else() -> None:
    async with taking_turns(transcripts=["Hello."]) as caller:
        await caller.is_silent(0.2)
        odd: list[dict[str, Any] | str | bytes] = [
            {"type": "TurnInfo"},
            {"type": "TurnInfo", "event": "Pause", "turn_index": 0, "transcript": ""},
            {"type": "TurnInfo", "event": "Update", "turn_index": None, "transcript": None, "words": [{"word": None}]},
            {"type": "Warning", "code": "SLOW", "description": "Slow audio."},
            {"type": "tide_table"},
            "not JSON",
            b"\x01\x02\x03",
        ]
        for message in odd:
            connection(caller).raw(message)
        await says(caller)
        assert caller.turns == turn("Hello.")
        assert {error.message for error in caller.errors if error.category != "bad_input"} == {"SLOW: Slow audio."}
        assert len(caller.server.got) == 1


async def test_words_without_times_are_left_out() -> None:
    async with taking_turns(turn_detection="told") as caller:
        await caller.speaks(1.0)
        info = {"type": "TurnInfo", "turn_index": 0, "transcript": "Hi you", "audio_window_end": 0.9}
        words = [{"word": "Hi", "confidence": 0.5, "start": 0.1, "end": 0.2}, {"word": "you", "confidence": 1.0}]
        connection(caller).raw({**info, "event": "EndOfTurn", "words": words})
        await anyio.sleep(0.1)
        assert caller.turns == turn("Hi you")
        (said,) = caller.finals()
        assert said.words == ()
        assert said.confidence == 0.75


async def test_an_error_of_the_vendor_before_the_session_is_its_refusal() -> None:
    async with ScriptedDeepgram(refuse=[402]) as server:
        call = STTCall(server, DeepgramFluxSTT(api_key="test", base_url=server.url))
        with pytest.raises(ConnectionLost, match=r"HTTP 402.*credit"):
            async with call:
                pass


# -- options -----------------------------------------------------------------------------------------------------------


async def test_options_are_sent_and_changed_on_the_open_connection() -> None:
    options = DeepgramFluxOptions(
        model="flux-general-multi",
        eot_threshold=0.8,
        eager_eot_threshold=0.4,
        eot_timeout_ms=3000,
        keyterms=("Zoe",),
        language_hints=("en", "es"),
    )
    async with taking_turns(options, settings=QUICK) as caller:
        assert caller.got.query == {
            "model": ["flux-general-multi"],
            "encoding": ["linear16"],
            "sample_rate": ["16000"],
            "eot_threshold": ["0.8"],
            "eager_eot_threshold": ["0.4"],
            "eot_timeout_ms": ["3000"],
            "keyterm": ["Zoe"],
            "language_hint": ["en", "es"],
        }
        caller.stt.change(eot_threshold=1.0, eot_timeout_ms=None, keyterms=(), numerals=True)
        await anyio.sleep(0.1)
        assert caller.got.messages == [
            {
                "type": "Configure",
                "keyterms": [],
                "numerals": True,
                "thresholds": {"eot_threshold": 1.0, "eot_timeout_ms": 5000},
            }
        ]
        caller.server.connections[-1].drop()
        await anyio.sleep(1.0)
        query = caller.got.query
        assert (query["eot_threshold"], query.get("keyterm"), query["numerals"]) == (["1.0"], None, ["true"])
        with pytest.raises(ConfigurationError, match="eager_eot_threshold cannot be turned off"):
            caller.stt.change(eager_eot_threshold=None)
        with pytest.raises(ConfigurationError, match="model cannot change"):
            caller.stt.change(model="flux-general-en")
        assert caller.stt.options.eager_eot_threshold == 0.4
        assert not caller.errors


async def test_the_agents_language_is_a_hint() -> None:
    async with taking_turns(DeepgramFluxOptions(model="flux-general-multi"), transcripts=["Hola."]) as caller:
        assert "language_hint" not in caller.got.query
        caller.stt.language = "es-MX"
        caller.stt.language = "es-ES"
        await says(caller)
        assert caller.got.messages == [{"type": "Configure", "language_hints": ["es"]}]
        assert caller.finals()[0].language == "en"  # as the script has it


async def test_a_configuration_that_the_vendor_refuses_is_reported() -> None:
    async with taking_turns(transcripts=["Hello."]) as caller:
        caller.stt._configure({"thresholds": {"eot_threshold": 7}})
        await says(caller)
        assert caller.turns == turn("Hello.")
        assert [error.message for error in caller.errors] == ["INVALID_CONFIGURATION: invalid: eot_threshold"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "nova-3"}, "flux-general-en or flux-general-multi"),
        ({"eot_threshold": 0.4}, "eot_threshold"),
        ({"eot_threshold": 1.1}, "eot_threshold"),
        ({"eager_eot_threshold": 0.2}, "eager_eot_threshold"),
        ({"eager_eot_threshold": 0.8}, "at most eot_threshold, 0.7"),
        ({"eot_timeout_ms": 499}, "eot_timeout_ms"),
        ({"eot_timeout_ms": 60_001}, "eot_timeout_ms"),
        ({"language_hints": ("de",)}, "language_hints are for flux-general-multi"),
        ({"keyterms": ("a " * 501,)}, "keyterms"),
    ],
)
def test_options_that_deepgram_would_refuse_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        DeepgramFluxOptions(**options)


# -- money -------------------------------------------------------------------------------------------------------------


async def test_the_open_connection_is_charged_by_the_clock_and_a_gap_is_not() -> None:
    async with taking_turns(transcripts=["Hello."], settings=QUICK) as caller:
        used: list[Usage] = []
        caller.session.on(Usage, used.append)
        begun, began_usd = caller.session.now(), caller.session.cost.usd
        await anyio.sleep(2.0)  # in silence
        first = caller.server.connections[-1]
        first.drop(1011, "NET-0000")
        await anyio.sleep(3.0)
        connected_s = sum(one.connection_s for one in used)
        assert {(one.service, one.model) for one in used} == {("DeepgramFluxSTT", "flux-general-en")}
        assert len(used) >= 4
        assert 3.5 < connected_s <= caller.session.now() - begun + 1
        spent = caller.session.cost.usd - began_usd
        assert spent == pytest.approx(0.0065 / 60 * (caller.session.now() - begun), rel=0.1)
    assert len(caller.server.got) == 2
