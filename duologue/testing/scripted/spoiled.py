"""`spoiled`: an answer of a scripted model under a plan of faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from .languages import Language
from .manners import Manners, Part
from .server import SPEECH_CHARACTERS_PER_S, Act, Asked, Fail, Model, Speak, Wait

WORDS = "Um, one moment."
"""The words of an answer without audio: no script has them."""
HUGE_MS = 8_000
"""Milliseconds of audio in a huge piece."""
HUGE_OFTEN = 0.2
"""The probability of a huge piece, if the plan has odd pieces."""


def spoiled(manners: Manners | None, part: Part, model: Model, asked: Asked) -> Sequence[Act]:
    """Return the acts for an answer. The model is not asked for one that is spoiled before its first word."""
    if manners is None:
        return model(asked)
    match manners.spoils(part, f"answer to {asked.said!r}"):
        case "empty-answer":
            manners.silences += asked.spoken
            return []
        case "words-without-audio":
            return [Speak(WORDS, seconds=0.0)]
        case "stall-before":
            stall_s = manners.stall_s()
            wait = [Wait(stall_s)]
            return wait if math.isinf(stall_s) else [*wait, *_said(manners, part, model, asked)]
        case "rate-limit":
            return [Fail(*manners.limit())]
    acts = _said(manners, part, model, asked)
    pause_s = manners.pause_s(part, "before the answer")
    return [Wait(pause_s), *acts] if pause_s else acts


def _said(manners: Manners, part: Part, model: Model, asked: Asked) -> list[Act]:
    """Ask the model in English. Returns its acts with the words in the vendor's language."""
    acts = model(_in_english(asked, manners.language))
    return [_as_said(manners, part, act) if isinstance(act, Speak) else act for act in acts]


def _as_said(manners: Manners, part: Part, act: Speak) -> Speak:
    huge = not act.pace and manners.draw("odd-pieces", part, "one huge piece", HUGE_OFTEN)
    seconds = act.seconds
    if seconds is None and not act.audio:
        seconds = len(act.text) / SPEECH_CHARACTERS_PER_S
    text = manners.language.write(act.text)
    return replace(act, text=text, seconds=seconds, chunk_ms=HUGE_MS if huge else act.chunk_ms)


def _in_english(asked: Asked, language: Language) -> Asked:
    history = tuple(msgspec.structs.replace(one, text=language.read(one.text)) for one in asked.history)
    return replace(
        asked, said=language.read(asked.said), instructions=language.read(asked.instructions), history=history
    )
