"""The agent's own echo in the caller's microphone, while the caller is silent; and the work of the ear."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import anyio
import numpy as np

from ....frames import UserAudio
from ....processors.pipeline import Pipeline
from ....processors.processor import Processor
from ....session.session import Session
from ....testing.call import BareCall
from .calls import STOPPED_S, TurnCall, silences
from .endpoints import Person, spoken
from .events import MONOLOGUES
from .recogniser import MANNERS
from .rooms import CONDITIONS, Room
from .settings import EarSettings

ECHOES_DB = (-20.0, -30.0)
LISTEN_S = 60.0
"""Seconds in which each caller listens."""
WORK_ROUNDS = 9


@dataclass(frozen=True, slots=True)
class EchoResult:
    """The false stops of a call, and the seconds in which the caller listened."""

    language: str
    echo_db: float
    stops: int
    seconds: float


async def play_echo(caller: Person, settings: EarSettings, echo_db: float, seed: int = 0) -> EchoResult:
    """Return the false stops under an echo. The caller says one turn, and then listens."""
    texts = MONOLOGUES[caller.language]
    seed += caller.seed
    room = Room(CONDITIONS["clean"], caller.which, caller.language, caller.level_dbfs, seed)
    stops, number = 0, 0

    def reply() -> str:
        nonlocal number
        number += 1
        return texts[number % len(texts)]

    call = TurnCall(settings, room, MANNERS["plain"], caller.language, reply, seed=seed, echo_db=echo_db)
    async with call:
        opening = spoken(caller.turns[0], caller.voice)
        await call.say(room.carried(opening.samples), opening.words)
        await call.until(call.now() + opening.end_s + 0.5)
        await call.waits(lambda: call.agent_busy, 4.0)
        first = call.now()
        while call.now() < first + LISTEN_S:
            if not call.agent_busy:
                await call.ask()
                await call.waits(lambda: call.session.floor.agent_speaking, 5.0)
            began, before = call.now(), len(call.ends.interrupted)
            await call.waits(lambda before=before: not call.agent_busy or len(call.ends.interrupted) > before, 40.0)  # type: ignore[misc]
            loud = call.audible(began, call.now())
            stops += len(call.ends.interrupted) - before + sum(gap >= STOPPED_S for gap in silences(loud))
            await call.quiet()
        seconds = call.now() - first
    return EchoResult(caller.language, echo_db, stops, seconds)


class _Source(Processor):
    """The head of a call: gives the audio that it gets."""

    gives = frozenset({UserAudio})


async def _heard_s(processors: list[Processor], pcm: bytes, sample_rate: int) -> float:
    """Return the CPU seconds of a call in which these processors hear some audio: a second of it at a time."""
    source, size = _Source(), 2 * (sample_rate // 50)
    pieces = [
        UserAudio(audio=pcm[place : place + size], sample_rate=sample_rate, at=place / (2 * sample_rate))
        for place in range(0, len(pcm) - size + 1, size)
    ]
    session = Session(Pipeline([source, *processors]))
    async with BareCall(session):
        began = time.process_time()
        for place in range(0, len(pieces), 50):
            for piece in pieces[place : place + 50]:
                await source.push(piece)
            await anyio.sleep(1.0)
        return time.process_time() - began


async def work_ms(caller: Person, settings: EarSettings) -> float:
    """Return the CPU time of the ear, in milliseconds for each minute of audio.

    It is that of a call with the ear, less that of one without: the median of the difference in some rounds. Neither
    has a microphone, an engine or a playout. The audio comes in pieces of 20 ms, and about half of it is speech, 36
    stretches in a minute; nobody recognises words in it.
    """
    room = Room(CONDITIONS["20 dB"], caller.which, caller.language, caller.level_dbfs, caller.seed)
    pieces = [spoken(turn, caller.voice).samples for turn in caller.turns]
    sound = np.concatenate([part for piece in pieces for part in (piece, np.zeros_like(piece))])
    pcm = room.carried(sound)
    minutes = len(pcm) / (2 * room.sample_rate) / 60
    took = []
    for _ in range(WORK_ROUNDS):
        bare = await _heard_s([], pcm, room.sample_rate)
        took.append(await _heard_s(settings.ear(), pcm, room.sample_rate) - bare)
    return 1000 * statistics.median(took) / minutes
