"""Events while the agent speaks: sounds, backchannels, words for others, and interruptions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .calls import STOPPED_S, TurnCall
from .endpoints import Person, spoken
from .line import STEP_S, audible
from .noises import SOUNDS, make_sound
from .recogniser import ERRORS_IN, MANNERS
from .rooms import CONDITIONS, Room
from .scripts import read_script
from .settings import EarSettings
from .voices import RATE, Samples, SpokenPart, SpokenWord, speech_of

AT_S = 0.4, 3.5
"""The earliest and the latest time of an event, from the start of the answer."""
AFTER_S = 3.0
"""Seconds after an event in which its effects are looked for."""
ASIDE_DB = -8.0
"""The level of words for others in the room: the mouth is away from the microphone."""
DAMAGE_S = 0.08
"""More than the fades of a voice that was held may add."""
PHASES = 8
"""The places of the first step at which an answer is laid beside what was heard of it."""
IGNORED_S = 1.0
"""A longer silence is a reaction to the event."""
SEAM_S = 0.05
"""A longer silence that was not in the agent's speech is a seam."""
SOUND_ROUNDS = 2
MONOLOGUES = {
    "en": (
        "Thank you for waiting. I have looked at your account and I can see the order that you placed last week. "
        "It left our warehouse on Monday and the driver has it with him today. You will get a message before he comes.",
        "Our opening hours have changed this month. From Monday to Thursday we are open from nine until six. "
        "On Fridays we close at four and on Saturdays we only serve customers who have an appointment.",
        "The plan that you have now costs twelve pounds a month and includes all calls within the country. "
        "The larger plan costs five pounds more and also covers calls to mobile phones in the rest of Europe.",
    ),
    "es": (
        "Gracias por esperar. He mirado su cuenta y veo el pedido que hizo la semana pasada. "
        "Salió de nuestro almacén el lunes y el repartidor lo lleva hoy. Recibirá un mensaje antes de que llegue.",
    ),
    "de": (
        "Danke für Ihre Geduld. Ich habe Ihr Konto vor mir und sehe die Bestellung von letzter Woche. "
        "Sie hat unser Lager am Montag verlassen und der Fahrer hat sie heute dabei. Sie bekommen noch eine Nachricht.",
    ),
    "hi": (
        "इंतज़ार करने के लिए धन्यवाद। मैंने आपका खाता देखा है और पिछले हफ़्ते का ऑर्डर मुझे दिख रहा है। "
        "वह सोमवार को हमारे गोदाम से निकला और आज ड्राइवर के पास है। आने से पहले आपको संदेश मिलेगा।",
    ),
}
BRIEF = {"en": "All right.", "es": "De acuerdo.", "de": "In Ordnung.", "hi": "ठीक है।"}


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that the caller's microphone picks up while the agent speaks."""

    kind: str
    """sound, backchannel, aside or interruption"""
    name: str
    samples: Samples
    words: tuple[SpokenWord, ...] = ()
    gain_db: float = 0.0


@dataclass(frozen=True, slots=True)
class EventResult:
    """The outcome of an event. Times are in seconds."""

    language: str
    kind: str
    name: str
    interrupted: bool
    """True if the agent's answer was cut."""
    silent_s: float
    """Silence in the agent's speech that was not in its answer; of an answer that was not cut."""
    damaged: bool
    """True if parts of an answer that was not cut were lost or said twice."""
    answered: bool
    """True if the agent said something new because of the event."""
    yield_s: float | None = None
    """From the start of an event to the agent's silence; None if it was not cut, or silent before."""
    whole: bool = False
    """True if the recogniser got an interruption from its first sample on."""

    @property
    def stopped(self) -> bool:
        """True if the agent stopped."""
        return self.interrupted or self.silent_s >= STOPPED_S

    @property
    def ignored(self) -> bool:
        """True if the agent went on with its answer, after a short silence at most, and said nothing else."""
        return not self.interrupted and not self.answered and self.silent_s < IGNORED_S

    @property
    def seam(self) -> bool:
        """True if the answer went on, with an audible trace."""
        return not self.interrupted and (self.silent_s >= SEAM_S or self.damaged)

    @property
    def cost_turn(self) -> bool:
        """True if the agent lost its turn: it was cut, or it also answered."""
        return self.interrupted or self.answered


def events(caller: Person, kinds: tuple[str, ...]) -> list[Disturbance]:
    """Return the events of a caller."""
    script, random = read_script(caller.which, caller.language), np.random.default_rng([caller.seed, 6])
    found = []
    if "sound" in kinds:
        found += [Disturbance("sound", name, make_sound(name, random)) for name in SOUNDS for _ in range(SOUND_ROUNDS)]
    groups = {"backchannel": script.backchannels, "interruption": script.interruptions, "aside": script.asides}
    for kind, texts in groups.items():
        if kind in kinds:
            gain_db = ASIDE_DB if kind == "aside" else -3.0 if kind == "backchannel" else 0.0
            made: list[tuple[str, SpokenPart]] = [(text, speech_of(text, caller.voice)) for text in texts]
            found += [Disturbance(kind, text, speech.samples, speech.words, gain_db) for text, speech in made]
    return [found[place] for place in random.permutation(len(found))]


async def play_events(
    caller: Person,
    kinds: tuple[str, ...],
    settings: EarSettings,
    condition: str,
    seed: int = 0,
    echo_db: float | None = None,
) -> list[EventResult]:
    """Return the outcome of a caller's events. The agent begins a long answer before each of them.

    With `echo_db` the agent's voice comes back into the microphone, by that much quieter (below 0).
    """
    texts, asked, number = MONOLOGUES[caller.language], False, 0

    def reply() -> str:
        nonlocal asked, number
        if not asked:
            return BRIEF[caller.language]
        asked, number = False, number + 1
        return texts[number % len(texts)]

    seed += caller.seed
    random = np.random.default_rng([seed, 7])
    room = Room(CONDITIONS[condition], caller.which, caller.language, caller.level_dbfs, seed)
    said = replace(MANNERS["plain"], errors=ERRORS_IN.get(condition, 0.0))
    found = []
    async with TurnCall(settings, room, said, caller.language, reply, seed=seed, echo_db=echo_db) as call:
        opening = spoken(caller.turns[0], caller.voice)  # the ear knows the caller's voice before
        await call.say(room.carried(opening.samples), opening.words)
        await call.until(call.now() + opening.end_s + 2.5)
        await call.quiet()
        for event in events(caller, kinds):
            asked, said_before = True, call.said
            call.voice.spoken.clear()
            await call.ask()
            if not await call.waits(lambda: call.session.floor.agent_speaking, 5.0):
                asked = False
                continue
            began = call.now()
            await call.until(began + random.uniform(*AT_S))
            start = await call.say(room.carried(event.samples, event.gain_db), event.words)
            length = len(event.samples) / RATE
            await call.until(start + length + AFTER_S)
            await call.quiet()
            found.append(
                _event_result(
                    call, caller.language, event, began, start, texts[number % len(texts)], call.said - said_before
                )
            )
            await call.until(call.now() + 0.7)
    return found


def _event_result(
    call: TurnCall, language: str, event: Disturbance, began: float, start: float, answer: str, messages: int
) -> EventResult:
    end = start + len(event.samples) / RATE
    cuts = [at for at in call.ends.interrupted if start <= at < end + AFTER_S]
    answered = messages > 1
    silent_s, damaged, yield_s = 0.0, False, None
    if cuts:
        loud = np.flatnonzero(call.audible(began, cuts[0] + 0.2))
        silent_at = began + float(loud[-1] + 1) * STEP_S if len(loud) else began
        yield_s = max(0.0, silent_at - start) if silent_at > start - STOPPED_S else None
    elif not answered:
        sentences = [pcm for text, pcm in call.voice.spoken.items() if text in answer]
        heard, meant = call.audible(began - 0.1, call.now()), audible(b"".join(sentences), RATE)
        silent_s = max(0.0, _span_s(heard) - _span_s(meant))
        damaged = _damage_s(heard, b"".join(sentences)) > DAMAGE_S
    first = next((text for begins, ends, text in call.stt.texts if begins <= start + 0.02 and ends > start), None)
    return EventResult(
        language=language,
        kind=event.kind,
        name=event.name,
        interrupted=bool(cuts),
        silent_s=silent_s,
        damaged=damaged,
        answered=answered,
        yield_s=yield_s,
        whole=first is not None,
    )


def _damage_s(heard: NDArray[np.bool_], meant: bytes) -> float:
    """Return the least seconds by which what was heard and what was meant differ in length.

    Speech near the limit of what is audible is loud in more or fewer steps, as they fall: several ways are tried.
    """
    step = round(RATE * STEP_S)
    found = (int(audible(bytes(2 * late) + meant, RATE).sum()) for late in range(0, step, step // PHASES))
    return min(abs(int(heard.sum()) - loud) for loud in found) * STEP_S


def _span_s(loud: NDArray[np.bool_]) -> float:
    places = np.flatnonzero(loud)
    return float(places[-1] + 1 - places[0]) * STEP_S if len(places) else 0.0
