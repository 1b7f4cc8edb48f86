"""Endpoints: callers say their turns, and the ear decides when each of them is over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calls import TurnCall
from .line import STEP_S
from .recogniser import ERRORS_IN, MANNERS, Manner
from .rooms import CONDITIONS, Room
from .scripts import ScriptTurn, read_script
from .settings import EarSettings
from .voices import RATE, Samples, Speaker, SpokenWord, speakers, speech_of

PATIENCE_S = 5.0
"""An end that is not decided within this time is missed."""
REACTION_S = 0.35
"""From the end of the agent's words to the caller's."""
LATE_S = 0.15
"""A decision that comes up to this much after a pause still belongs to it."""
GO_ON = "Okay?"
PACES = (0.7, 1.0, 0.85, 1.2, 0.6, 0.9)
"""The factors of the callers' pauses, in turn."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The outcome of a turn. Times are in seconds."""

    language: str
    kind: str
    pauses: tuple[tuple[float, bool], ...]
    """The length of each pause, and True if the turn was ended in it."""
    cuts_inside: int
    """Decisions while the caller was speaking."""
    decision_s: float | None
    """From the end of the speech to the decision; None if it was missed."""
    answer_s: float | None
    """From the end of the speech to the agent's voice, None without."""
    talked_over: bool
    """True if the agent was audible before the turn's end."""
    strays: int
    """Further decisions between this turn's and the next turn."""


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A turn as sound. `parts` are the start and the end of each part, in seconds from the turn's start."""

    samples: Samples
    parts: tuple[tuple[float, float], ...]
    words: tuple[SpokenWord, ...]

    @property
    def end_s(self) -> float:
        """The end of the speech."""
        return self.parts[-1][1]


def spoken(turn: ScriptTurn, voice: Speaker, pace: float = 1.0) -> SpokenTurn:
    """Return a turn in a voice. Its pauses are silent, and longer by the factor `pace`."""
    pieces: list[Samples] = []
    parts, words, at = [], [], 0
    for part, pause in zip(turn.parts, (*turn.pauses_ms, 0), strict=True):
        speech = speech_of(part, voice)
        start = at / RATE
        words += [replace(word, start_s=start + word.start_s, end_s=start + word.end_s) for word in speech.words]
        pieces += [speech.samples, np.zeros(round(pace * pause * RATE / 1000), np.float32)]
        parts.append((start, start + speech.duration_s))
        at += len(speech.samples) + len(pieces[-1])
    return SpokenTurn(np.concatenate(pieces), tuple(parts), tuple(words))


@dataclass(frozen=True, slots=True)
class Person:
    """A person of a set: their voice, the level of their speech, and the turns that they say."""

    which: str
    language: str
    voice: Speaker
    level_dbfs: float
    seed: int
    turns: tuple[ScriptTurn, ...]
    pace: float = 1.0
    """The factor of their pauses: some people speak on sooner than others."""


def callers(which: str, share: int = 1) -> list[Person]:
    """Return the callers of a set. With `share` 3 each says every third of their turns."""
    found = []
    for language in ("en", "es", "de", "hi"):
        turns = read_script(which, language).turns
        people = speakers(which, language)
        for number, voice in enumerate(people):
            seed = 100 * ("en", "es", "de", "hi").index(language) + number + (7_000 if which == "held-out" else 0)
            level = float(np.random.default_rng([seed, 4]).uniform(-28, -20))
            own = turns[number :: len(people)][::share]
            found.append(Person(which, language, voice, level, seed, own, PACES[number % len(PACES)]))
    return found


async def play_endpoints(
    caller: Person, settings: EarSettings, condition: str, manner: str, seed: int = 0
) -> list[TurnResult]:
    """Return the outcome of a caller's turns."""
    seed += caller.seed
    room = Room(CONDITIONS[condition], caller.which, caller.language, caller.level_dbfs, seed)
    said = MANNERS[manner]
    said = replace(said, errors=max(said.errors, ERRORS_IN.get(condition, 0.0)))
    turns = [(turn, spoken(turn, caller.voice, caller.pace)) for turn in caller.turns]
    return await play_turns(turns, settings, room, said, caller.language, seed)


async def play_turns(
    turns: Sequence[tuple[ScriptTurn, SpokenTurn]],
    settings: EarSettings,
    room: Room,
    manner: Manner,
    language: str,
    seed: int,
) -> list[TurnResult]:
    """Return the outcome of turns that are said one after the other, each as the answer to its question."""
    place, end_s = 0, 0.0

    def reply() -> str:
        """Return the next question, or a word of an agent that believes the turn to be over."""
        return turns[place][0].agent if call.now() >= end_s and place < len(turns) else GO_ON

    pool = [word.text for _, sound in turns for word in sound.words if not word.filler]
    call = TurnCall(settings, room, manner, language, reply, seed=seed, pool=pool)
    found: list[TurnResult] = []
    async with call:
        await call.ask()
        for number, (turn, sound) in enumerate(turns):
            await call.waits(lambda: call.agent_busy, 1.5)
            await call.quiet()
            await call.until(call.now() + REACTION_S)
            place, end_s = number + 1, np.inf
            start = await call.say(room.carried(sound.samples), sound.words)
            end_s = start + sound.end_s
            await call.until(end_s)
            before = len(call.ends.ends)
            decided = await call.waits(lambda before=before: len(call.ends.ends) > before, PATIENCE_S)  # type: ignore[misc]
            if decided:
                await call.waits(lambda: call.session.floor.agent_speaking, 3.0)
                await call.quiet()
            found.append(_turn_result(call, language, turn, sound, start))
    return found


def _turn_result(call: TurnCall, language: str, turn: ScriptTurn, sound: SpokenTurn, start: float) -> TurnResult:
    end = start + sound.end_s
    result = judged(language, turn.kind, sound.parts, [at - start for at in call.ends.ends if at > start])
    heard = np.flatnonzero(call.audible(end, call.now()))
    return replace(
        result,
        answer_s=float(heard[0]) * STEP_S if len(heard) and result.decision_s is not None else None,
        talked_over=any(start < at < end for at in call.ends.ends) and bool(call.audible(start, end).any()),
    )


def judged(language: str, kind: str, parts: Sequence[tuple[float, float]], ends: Sequence[float]) -> TurnResult:
    """Return what became of a turn whose parts begin and end at these times, if it was ended at those."""
    edges = [(before[1], after[0]) for before, after in itertools.pairwise(parts)]
    in_pauses = [[first <= at < last + LATE_S for first, last in edges] for at in ends]
    after = [at - parts[-1][1] for at in ends if at >= parts[-1][1]]
    return TurnResult(
        language=language,
        kind=kind,
        pauses=tuple(
            (last - first, any(places[number] for places in in_pauses)) for number, (first, last) in enumerate(edges)
        ),
        cuts_inside=sum(at < parts[-1][1] and not any(places) for at, places in zip(ends, in_pauses, strict=True)),
        decision_s=after[0] if after else None,
        answer_s=None,
        talked_over=False,
        strays=max(0, len(after) - 1),
    )
