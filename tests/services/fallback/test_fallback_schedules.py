"""Random schedules of faults in all three services of a call, with and without a `Fallback`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest

from duologue import Cascade, Fallback, MemoryTransport
from duologue.frames import BotAudio, BotText, EndOfTurn, ErrorRaised, ResponseEnded, WordTimes
from duologue.testing.clock import run
from tests.services.fallback.faulty import (
    FINE,
    KINDS,
    Fault,
    FaultyLLM,
    FaultySTT,
    FaultyTTS,
    Other,
    OtherSTT,
    OtherTTS,
)
from tests.services.fallback.test_fallback_tts import OtherTimed, Timed
from tests.services.story import Story, story

SCHEDULES = 300
BLOCKS = 10
TURNS = 2
ANSWER = "We are open from nine to five. On Sundays we are closed."
WORDS = ANSWER.split()
FIRST_S = 1.5
LATEST_S = 3 * 2 * FIRST_S + 1.0
"""The first word, at the latest: each stage may be slow to begin, and once more to go on."""
WHOLE_S = LATEST_S + len(WORDS) * 0.5 + 4 * FIRST_S


@dataclass
class Schedule:
    """The faults of each service in the order of its requests; afterwards it works, or is dead."""

    seed: int

    def __post_init__(self) -> None:
        dice = random.Random(f"schedule {self.seed}")
        self.stt, self.llm, self.tts = (
            self._faults(dice, afters) for afters in ((0, 1, 12, 25, 1000), (0, 1, 2, 5, 11), (0, 1, 3, 5))
        )
        self.timed = dice.random() < 0.5
        self.says_s = dice.choice([0.3, 0.5, 0.9])

    def _faults(self, dice: random.Random, afters: tuple[int, ...]) -> tuple[list[Fault], Fault]:
        def one() -> Fault:
            kind, after = dice.choice(KINDS), dice.choice(afters)
            return Fault(kind, 0 if kind == "gives nothing" and 0 < after < 1000 else after)

        faults = [one() if dice.random() < 0.5 else FINE for _ in range(dice.randint(0, 4))]
        return faults, one() if dice.random() < 0.2 else FINE

    def engine(self, *, fallback: bool) -> Cascade:
        voice: type[FaultyTTS] = Timed if self.timed else FaultyTTS
        (stt, dead_stt), (llm, dead_llm), (tts, dead_tts) = self.stt, self.llm, self.tts
        if not fallback:  # three failures in a row end the call
            stt, llm, tts = stt[:2], llm[:2], tts[:2]
            dead_stt = dead_llm = dead_tts = FINE
        ears: Any = FaultySTT(["When are you open?"], *stt, dead=dead_stt)
        model: Any = FaultyLLM([ANSWER], *llm, dead=dead_llm)
        voices: Any = voice(*tts, dead=dead_tts)
        if fallback:
            limits: dict[str, Any] = {"first_s": FIRST_S, "stall_s": FIRST_S, "retry_s": 3}
            ears = Fallback([ears, OtherSTT(["When are you open?"])], **limits)
            model = Fallback([model, Other([ANSWER])], **limits)
            voices = Fallback([voices, OtherTimed() if self.timed else OtherTTS()], **limits)
        return Cascade(ears, model, voices)

    def call(self, *, fallback: bool) -> Story:
        return story(MemoryTransport().output(), engine=self.engine(fallback=fallback))


def said(call: Story) -> list[str]:
    return [item.text for item in call.session.conversation if item.kind == "message"]


def check_whole(call: Story, timed: bool) -> None:
    """Each turn has one whole answer, in time."""
    assert said(call) == ["When are you open?", ANSWER] * TURNS
    assert [frame.status for frame in call.came(ResponseEnded)] == ["completed"] * TURNS
    assert len(call.came(EndOfTurn)) == TURNS
    for frame in call.came(ResponseEnded):
        texts = [piece.text for piece in call.came(BotText) if piece.response_id == frame.response_id]
        assert "".join(texts).split() == WORDS
        own = [audio for audio in call.came(BotAudio) if audio.response_id == frame.response_id]
        spoken_s = sum(audio.duration_s for audio in own)
        length_s = len(WORDS) * 0.5 if timed else len(ANSWER) / 15
        assert length_s - 1.0 <= spoken_s <= length_s + 1.0
        found: list[Any] = []
        for times in (times for times in call.came(WordTimes) if times.response_id == frame.response_id):
            found = [word for word in found if word.start_s < times.words[0].start_s] + list(times.words)
        assert "".join(word.text for word in found).split() == WORDS


def play(block: int, main: Callable[[Schedule], Awaitable[None]]) -> None:
    for seed in range(block * SCHEDULES // BLOCKS, (block + 1) * SCHEDULES // BLOCKS):
        try:
            run(partial(main, Schedule(seed)))
        except BaseException as error:
            error.add_note(f"schedule {seed}: {vars(Schedule(seed))}")
            raise


@pytest.mark.parametrize("block", range(BLOCKS))
def test_with_a_fallback_every_answer_is_heard_once_and_whole(block: int) -> None:
    async def main(schedule: Schedule) -> None:
        async with schedule.call(fallback=True) as call:
            for _ in range(TURNS):
                asked = call.session.now() + schedule.says_s + 0.2
                before = len(call.came(BotAudio))
                await call.says(schedule.says_s)
                await call.until(partial(has_more_audio, call, before), "the first word", LATEST_S)
                await call.settles()
                assert call.session.now() - asked <= WHOLE_S
            errors = [error.message for error in call.came(ErrorRaised)]
            assert [error for error in errors if "ignored its cancellation" not in error] == []
            check_whole(call, schedule.timed)
        await anyio.sleep(200)
        assert not [task for task in asyncio.all_tasks() - {asyncio.current_task()} if not task.done()], (
            "nothing is left"
        )

    play(block, main)


def has_more_audio(call: Story, before: int) -> bool:
    return len(call.came(BotAudio)) > before


@pytest.mark.parametrize("block", range(BLOCKS))
def test_without_a_fallback_a_lost_answer_has_an_error_and_the_call_goes_on(block: int) -> None:
    lost = 0

    async def main(schedule: Schedule) -> None:
        nonlocal lost
        async with schedule.call(fallback=False) as call:
            await call.says(schedule.says_s)
            await call.waits(60)
            if said(call) != ["When are you open?", ANSWER]:
                lost += 1
                assert call.came(ErrorRaised), "a clear error"
            for _ in range(3):  # until all faults have been shown
                await call.says(schedule.says_s)
                await call.waits(60)
            assert said(call)[-2:] == ["When are you open?", ANSWER]

    play(block, main)
    assert lost, "the faults are worth a Fallback"


@pytest.mark.parametrize("kind", ["stt", "llm", "tts"])
def test_the_schedules_show_every_fault(kind: str) -> None:
    shown = {fault.kind for seed in range(SCHEDULES) for fault in getattr(Schedule(seed), kind)[0]}
    assert shown == {"", *KINDS}
