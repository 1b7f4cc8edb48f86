"""`Frustration` in calls: what it hears, what it asks the model, and when."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from duologue.errors import BadInput, ConfigurationError
from duologue.frames import (
    Affect,
    CallerStartedSpeaking,
    EndOfTurn,
    FrustrationChanged,
    UserText,
    UserTranscript,
    decode,
    encode,
)
from duologue.processors import Pipeline
from duologue.processors.frustration.frustration import AUTHOR, Frustration
from duologue.processors.frustration.policy import FrustrationPolicy
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.vad import Vad
from duologue.services.cascade import Cascade
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.session import Session
from duologue.session.call_events import AffectHeard, FrustrationMoved
from duologue.session.rows import to_row
from duologue.testing import BareCall, run_processor
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted import ScriptedGemini, ScriptedOpenAI, Speak
from duologue.transports import MemoryTransport
from tests.processors.frustration.test_measures import faster_and_higher, louder, recorded

pytestmark = pytest.mark.virtual_clock

RATE = 16_000


class VoiceCall(BareCall):
    """A call whose caller speaks with recordings."""

    def __init__(self, *processors: Any, frustration: Frustration, **options: Any) -> None:
        self.transport = MemoryTransport(RATE)
        self.frustration = frustration
        parts = [self.transport.input(), *processors, self.transport.output()]
        super().__init__(Session(Pipeline(parts), **options))

    async def speaks(self, pcm: bytes) -> None:
        """The caller speaks, and is silent until the agent has answered."""
        noise = np.random.default_rng(3)
        line = pcm + bytes(2 * RATE)
        for place in range(0, len(line), 640):
            piece = np.frombuffer(line[place : place + 640].ljust(640, b"\0"), "<i2") + noise.normal(0, 3, 320)
            await asyncio.sleep(0.02)
            self.transport.send(piece.clip(-32768, 32767).astype("<i2").tobytes())
        await self.settles(30.0)

    @property
    def notes(self) -> list[str]:
        return [item.text for item in self.session.conversation if item.author == AUTHOR]

    @property
    def changes(self) -> list[FrustrationChanged]:
        return self.came(FrustrationChanged)


def cascade(texts: list[str], **options: Any) -> tuple[Cascade, MockLLM]:
    model = MockLLM(["I see."])
    return Cascade(MockSTT(texts), model, MockTTS(seconds_per_sentence=0.5), **options), model


CALM = ["weather please", "and tomorrow then", "which day was that", "where is it going", "something else to ask"]


async def hears(call: VoiceCall, *, angry: bool) -> None:
    names = ("utterance_2", "utterance_4", "utterance_2")
    for name in names:
        await call.speaks(louder(recorded(name), -10))
    for name in ("utterance_4", "utterance_2"):
        pcm = louder(recorded(name), -1 if angry else -9)
        await call.speaks(faster_and_higher(pcm, 1.25) if angry else pcm)


@pytest.mark.parametrize("angry", [True, False])
async def test_the_voice_alone_in_a_cascade(angry: bool) -> None:
    engine, model = cascade(CALM)
    frustration = Frustration()
    async with VoiceCall(Vad(), Endpointing(), frustration, engine, frustration=frustration) as call:
        await hears(call, angry=angry)
    if not angry:
        assert call.changes == []
        assert call.notes == []
        return
    assert call.changes[0].state in ("tense", "frustrated")
    assert {"louder", "higher"} <= set(call.changes[0].reasons)
    # The model is asked before it answers the very turn that shows it.
    told = next(number for number, request in enumerate(model.requests) if "In the next answer" in str(request))
    assert told == 3


@pytest.mark.parametrize("engine", ["openai", "gemini"])
async def test_the_voice_alone_before_a_native_engine(engine: str) -> None:
    async with (
        ScriptedOpenAI(lambda asked: [Speak("I see.")]) as openai,
        ScriptedGemini(lambda asked: [Speak("I see.")]) as gemini,
    ):
        native: Any = (
            OpenAIRealtime(api_key="test", base_url=openai.url, options=OpenAIRealtimeOptions(turn_detection=None))
            if engine == "openai"
            else GeminiLive(
                api_key="test",
                base_url=gemini.url,
                ssl_context=gemini.ssl_context,
                options=GeminiLiveOptions(turn_detection=None),
            )
        )
        frustration = Frustration()
        async with VoiceCall(Vad(), Endpointing(), frustration, native, frustration=frustration) as call:
            await hears(call, angry=True)
            server: Any = openai if engine == "openai" else gemini
            told = [message.text for message in server.got[-1].history if "In the next answer" in message.text]
    assert call.changes[0].state in ("tense", "frustrated")
    assert len(call.notes) == len(told) >= 1


async def test_words_in_the_cascade_count_for_the_answer_to_them() -> None:
    frustration = Frustration()
    engine, model = cascade(["my order is late", "I already told you that", "thanks"], heard=[frustration])
    async with VoiceCall(Vad(), Endpointing(), engine, frustration=frustration) as call:
        await call.speaks(recorded("utterance_4"))
        await call.speaks(recorded("utterance_4"))
    [change] = call.changes
    assert (change.state, change.reasons, change.acts) == ("tense", ("said it before",), ("acknowledge", "shorten"))
    assert "said it before" in str(model.requests[1])
    assert "said it before" not in str(model.requests[0])


async def test_words_that_are_known_too_late_count_for_the_next_answer() -> None:
    frustration = Frustration()
    engine, model = cascade(["my order is late", "I already told you that", "my number is seven"])
    async with VoiceCall(Vad(), Endpointing(), frustration, engine, frustration=frustration) as call:
        for _ in range(3):
            await call.speaks(recorded("utterance_4"))
    assert call.changes[0].state == "tense"
    assert "said it before" in str(model.requests[2])
    assert len(call.notes) == 1


# -- by itself ---------------------------------------------------------------------------------------------------------


async def said(frustration: Frustration, *texts: str, pause_s: float = 5.0, before: Any = ()) -> Any:
    """Let the caller say texts, as the processor sees them in a cascade."""
    frames: list[Any] = [*before]
    for number, text in enumerate(texts):
        frames += [
            CallerStartedSpeaking(at=0.0),
            UserTranscript(text=text, utterance=f"u{number}"),
            EndOfTurn(),
            pause_s,
        ]
    return await run_processor(frustration, frames)


def changes_of(ran: Any) -> list[FrustrationChanged]:
    return [signal for signal in ran.signals if isinstance(signal, FrustrationChanged)]


async def test_the_request_comes_before_the_end_of_the_turn() -> None:
    ran = await said(Frustration(), "I already told you that")
    assert [type(frame) for frame in ran] == [UserTranscript, UserText, EndOfTurn]
    _, request, _ = ran
    assert (request.author, request.respond) == (AUTHOR, False)
    assert request.text == (
        "The caller seems tense (said it before). In the next answer: acknowledge it in a few words, without excuses; "
        "answer in one or two short sentences. Do not mention this note."
    )


async def test_acts_have_a_pause_between_them_unless_it_gets_worse() -> None:
    told, quiet = "I already told you that", ["it is the red one", "it is the large one"]
    ran = await said(Frustration(), told, "how many times now", *quiet, pause_s=5.0)
    assert [change.acts for change in changes_of(ran) if change.acts] == [("acknowledge", "shorten")]
    ran = await said(Frustration(), told, told, told, pause_s=5.0)
    assert [change.state for change in changes_of(ran)] == ["tense", "frustrated"]  # the same again, as well
    ran = await said(Frustration(), told, *quiet, "it is blue", "and by post", told, pause_s=50.0)
    assert len([change for change in changes_of(ran) if change.acts]) == 2


async def test_a_person_is_offered_to_who_asks_for_one_and_once() -> None:
    ran = await said(Frustration(), "can I speak to a human", "I want a human", "speak to a human", pause_s=1.0)
    assert changes_of(ran)[0].acts == ("acknowledge", "offer a person")
    assert len([change for change in changes_of(ran) if "offer a person" in change.acts]) == 1


async def test_a_person_is_offered_when_nothing_helps() -> None:
    texts = [f"I already told you, {what} that is not what I asked" for what in ("no", "stop", "well", "look", "hear")]
    ran = await said(Frustration(), *texts, pause_s=50.0)
    acts = [change.acts for change in changes_of(ran) if change.acts]
    assert "offer a person" in acts[2]
    assert len(acts) <= FrustrationPolicy().most


async def test_no_more_acts_than_the_policy_allows() -> None:
    texts = [f"I already told you {number}" for number in range(40)]
    ran = await said(Frustration(FrustrationPolicy(most=2, pause_s=0)), *texts, pause_s=60.0)
    assert len([frame for frame in ran if isinstance(frame, UserText)]) == 2


async def test_typed_words_count() -> None:
    ran = await run_processor(Frustration(), [UserText(text="I already told you my number"), 1.0])
    assert [frame.author for frame in ran if isinstance(frame, UserText)] == [AUTHOR, "caller"]


# -- what a provider hears ---------------------------------------------------------------------------------------------

HUME = {"Anger": 0.8, "Joy": 0.05, "Calmness": 0.1, **{f"Expression {number}": 0.3 for number in range(45)}}


async def test_the_affect_of_a_provider() -> None:
    ran = await said(Frustration(), "where is it", before=[CallerStartedSpeaking(), Affect(source="hume", scores=HUME)])
    [change] = changes_of(ran)
    assert change.state == "tense"
    assert change.reasons == ("affect",)
    calm = {**HUME, "Anger": 0.1, "Calmness": 0.9}
    ran = await said(Frustration(), "where is it", before=[Affect(source="hume", scores=calm)] * 50)
    assert changes_of(ran) == []


async def test_one_angry_word_among_many_calm_ones_is_no_anger() -> None:
    scores = [Affect(source="hume", scores={"anger": 1.0 if number == 7 else 0.05}) for number in range(20)]
    ran = await said(Frustration(), "where is it", before=scores)
    assert changes_of(ran) == []


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, "0.5", None, True, 10**400])
def test_a_score_that_is_not_a_number_is_named(score: Any) -> None:
    with pytest.raises(BadInput, match=r"'Anger' of 'hume'"):
        Affect(source="hume", scores={"Joy": 0.5, "Anger": score})


@pytest.mark.parametrize("scores", [{"": 0.1}, {"x" * 101: 0.1}, {f"s{number}": 0.1 for number in range(257)}, [0.1]])
def test_scores_of_another_form_are_refused(scores: Any) -> None:
    with pytest.raises(BadInput):
        Affect(source="hume", scores=scores)


def test_the_signals_travel() -> None:
    for signal in (
        Affect(source="hume", scores=HUME, at=2.0),
        FrustrationChanged(state="tense", level=0.5, acts=("shorten",)),
    ):
        assert decode(encode(signal)) == signal


async def test_scores_outside_of_the_scale_are_bounded() -> None:
    frustration = Frustration()
    await said(
        frustration,
        "where",
        before=[Affect(source="x", scores={"anger": 1e308}), Affect(source="x", scores={"anger": -5})],
    )
    assert 0 <= frustration.judge.level <= 1


# -- the application's choice ------------------------------------------------------------------------------------------


async def slowly(signal: FrustrationChanged) -> Any:
    await asyncio.sleep(3600)


def fails(signal: FrustrationChanged) -> Any:
    raise SystemExit(3)


async def later(signal: FrustrationChanged) -> Any:
    return ["simplify"]


@pytest.mark.parametrize(
    ("choose", "acts", "errors"),
    [
        (lambda signal: ("offer a person",), ("offer a person",), 0),
        (lambda signal: "shorten", ("shorten",), 0),
        (lambda signal: (), (), 0),
        (lambda signal: None, ("acknowledge", "shorten"), 0),
        (later, ("simplify",), 0),
        (slowly, ("acknowledge", "shorten"), 1),
        (fails, ("acknowledge", "shorten"), 1),
        (lambda signal: ["sing"], ("acknowledge", "shorten"), 1),
        (lambda signal: 7, ("acknowledge", "shorten"), 1),
    ],
)
async def test_the_application_chooses(
    choose: Callable[[FrustrationChanged], Any], acts: tuple[str, ...], errors: int
) -> None:
    ran = await run_processor(
        Frustration(choose=choose),
        [UserTranscript(text="I already told you that"), EndOfTurn(), 5.0],
        may_fail=True,
    )
    assert [change.acts for change in changes_of(ran)] == [acts]
    assert len(ran.errors) == errors
    assert len([frame for frame in ran if isinstance(frame, UserText)]) == bool(acts)
    assert isinstance(list(ran)[-1], EndOfTurn)


@pytest.mark.parametrize(
    "options",
    [
        {"tense": ("sing",)},
        {"frustrated": "shorten"},
        {"most": -1},
        {"patience": 1.5},
        {"pause_s": math.nan},
        {"affect": {"anger": 2.0}},
        {"affect_calm": 1.0},
        {"requests": {"shorten": "kürzer"}},
    ],
)
def test_a_policy_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options)).split("_")[0]):
        FrustrationPolicy(**options)


def test_a_choice_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="choose"):
        Frustration(choose="shorten")  # type: ignore[arg-type]


# -- who watches -------------------------------------------------------------------------------------------------------


async def test_the_feed_the_rows_and_the_log_have_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "duologue.call")
    frustration = Frustration()
    engine, _ = cascade(["hello"])
    events: list[Any] = []
    async with VoiceCall(frustration, engine, frustration=frustration) as call:
        call.session.feed.on(events.append, AffectHeard, FrustrationMoved)
        call.session.broadcast(Affect(source="hume", scores={"Anger": 1.0}, at=0.5))
        await call.types("I already told you my number")
        await asyncio.sleep(3.0)
    assert [type(event) for event in events] == [AffectHeard, FrustrationMoved]
    assert events[1].state == "frustrated"
    assert "the caller is frustrated (said it before, affect): acknowledge, shorten, simplify" in caplog.text
    assert to_row(events[1], "s", None).metadata["data"]["acts"] == ("acknowledge", "shorten", "simplify")  # type: ignore[union-attr]
