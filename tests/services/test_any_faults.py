"""Random faults of all three services in one call: every turn has an outcome, log and ledger agree, nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import Agent, Handoff
from duologue.frames import BotText, HandoffCompleted, ResponseEnded, ResponseStarted, Say
from duologue.services.cascade import Cascade
from duologue.services.llm import Request
from duologue.services.stt import Transcription
from duologue.services.tts import SpeechChunk
from duologue.testing.clock import run
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import Story, story
from tests.services.test_faults import BadSTT

FAULTS = ("", "", "", "raises", "stalls", "is empty", "is torn", "ignores its cancellation")


async def have(fault: str) -> None:
    """Raise, hang, or ignore a cancellation for ten seconds."""
    if fault == "raises":
        raise ConnectionError("no route")
    if fault == "stalls":
        await anyio.sleep_forever()
    if fault == "ignores its cancellation":
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(10)


class LLM(MockLLM):
    def __init__(self, faults: Iterator[str]) -> None:
        super().__init__(["It is fine. All is well."])
        self.faults = faults

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        self.requests.append(request)
        fault = next(self.faults, "")
        if fault == "is torn":
            yield "It is fi"
            raise ConnectionError("torn")
        await have(fault)
        if not fault:
            self.requests.pop()
            async for piece in super().generate(request):
                yield piece


class TTS(MockTTS):
    def __init__(self, faults: Iterator[str]) -> None:
        super().__init__(seconds_per_sentence=1.0)
        self.faults = faults
        self.voiced: list[str] = []

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        fault = next(self.faults, "")
        if fault == "is torn":
            yield SpeechChunk(bytes(12_000))
            raise ConnectionError("torn")
        await have(fault)
        if not fault:
            self.voiced.append(text.strip())
            async for chunk in super().synthesize(text, voice):
                yield chunk


class STT(MockSTT):
    def __init__(self, faults: Iterator[str]) -> None:
        super().__init__(["Are you there?"])
        self.faults = faults
        self.fault = ""

    async def begin(self) -> None:
        self.fault = next(self.faults, "")
        await super().begin()

    async def feed(self, pcm: bytes) -> str:
        if self.fault == "is torn" and self.heard[-1] > 2_000:
            raise ConnectionError("torn")
        return await super().feed(pcm)

    async def finish(self) -> Transcription:
        if self.fault == "is empty":
            return Transcription(text="")
        await have(self.fault)
        return await super().finish()


faults = st.lists(st.sampled_from(FAULTS), max_size=8)


@settings(max_examples=25)
@given(
    llm=faults,
    tts=faults,
    stt=faults,
    steps=st.lists(
        st.tuples(st.sampled_from(["types", "says", "says over it", "says for us"]), st.floats(0, 30)), max_size=7
    ),
)
def test_every_turn_has_an_outcome_whatever_the_services_do(
    llm: Sequence[str], tts: Sequence[str], stt: Sequence[str], steps: Sequence[tuple[str, float]]
) -> None:
    async def main() -> None:
        model = LLM(iter(llm))
        voice = TTS(iter(tts))
        async with story(llm=model, tts=voice, stt=STT(iter(stt)), on_error=lambda error: "continue") as call:
            typed = await play(call, steps)
            await call.waits(150)
            check_outcomes(call, typed, voice.voiced)
            typed = await play(call, [("types", 0)])
            await call.waits(60)
            check_outcomes(call, typed, voice.voiced)
        await anyio.sleep(200)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if not task.done()]

    run(main)


async def play(call: Story, steps: Sequence[tuple[str, float]]) -> list[str]:
    typed = []
    for number, (what, seconds) in enumerate(steps):
        if what == "types":
            typed.append(f"text {number} at {call.session.now():.3f}")
            await call.types(typed[-1])
        elif what == "says for us":
            await call.session.send(Say(text="A word from us."))
        else:
            await call.says(0.5, interrupting=what == "says over it")
        await anyio.sleep(seconds)
    return typed


def check_outcomes(call: Story, typed: Sequence[str], voiced: Sequence[str]) -> None:
    session = call.session
    assert session.floor.owner == "caller", "the floor is free again"
    assert not session.ledger.unsettled
    assert not session.calls.open()
    log = list(session.conversation)
    assert [text for text in typed if text not in [item.text for item in log]] == [], "every text is in the log"
    started = [frame.response_id for frame in call.came(ResponseStarted)]
    ended = [frame.response_id for frame in call.came(ResponseEnded)]
    assert started == ended, "every response has its end, in order"
    assert {item.status for item in log} <= {"complete", "interrupted"}
    if log and log[-1].role == "caller" and log[-1].kind == "message":
        assert call.errors, "what has no answer has a reason"
    texts = {frame.response_id: "" for frame in call.came(ResponseStarted)}
    for frame in call.came(BotText):
        texts[frame.response_id] += frame.text
    for item in log:
        if item.role == "agent" and item.kind == "message":
            assert set(item.text.split()) <= set(texts[item.id].split())
    said = " ".join(item.text for item in log if item.role == "agent")
    for sentence in ("It is fine.", "All is well.", "A word from us."):
        assert said.count(sentence) <= voiced.count(sentence), "what had no voice was not said"


# -- another engine ----------------------------------------------------------------------------------------------------


async def test_a_cascade_whose_stt_is_lost_gives_the_utterance_to_the_next_engine() -> None:
    bad = BadSTT("finish", times=100)
    engines = {
        "first": Cascade(bad, MockLLM(["I am the first."]), MockTTS(seconds_per_sentence=1.0)),
        "second": Cascade(MockSTT(["Is anybody there?"]), MockLLM(["I am."]), MockTTS(seconds_per_sentence=1.0)),
    }
    async with story(Handoff([Agent(name="Ann")], failover=["first", "second"]), engines=engines) as call:
        moved: list[HandoffCompleted] = []
        call.session.on(HandoffCompleted, moved.append)
        await call.says(0.5)
        await call.waits(8)
        await call.says(0.5)
        await call.waits(12)
        assert len(moved) == 1
        assert "caller: Is anybody there?" in call.log
        assert call.log[-1] == "Ann: I am."
        assert not [error for error in call.errors if error.fatal]


async def test_a_cascade_whose_tts_is_lost_gives_the_call_to_the_next_engine() -> None:
    class Mute(MockTTS):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
            return
            yield

    engines = {
        "first": Cascade(MockSTT(), MockLLM(["I am the first."]), Mute()),
        "second": Cascade(MockSTT(), MockLLM(["I am the second."]), MockTTS(seconds_per_sentence=1.0)),
    }
    async with story(Handoff([Agent(name="Ann")], failover=["first", "second"]), engines=engines) as call:
        for _ in range(3):
            await call.types("Hello?")
            await call.waits(6)
        assert call.log[-1] == "Ann: I am the second."
        assert not [error for error in call.errors if error.fatal]
        assert "I am the first" not in " ".join(call.log)
