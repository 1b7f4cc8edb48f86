"""`TurnSound`: the sound of the caller's turn in progress, and what a `TurnModel` says about it."""

from __future__ import annotations

import anyio

from ...audio.resample import MonoAt
from ...frames import UserAudio
from ..kernel.threads import TURN_MODELS
from .smart_turn import TurnModel
from .wording import Wait

DEADLINE_S = 0.5
"""Seconds after which a judgement comes too late: the turn goes by the words and the silence alone."""
COMPLETE = 0.5
"""The probability from which a turn counts as complete."""
PRE_ROLL_S = 0.5
"""Seconds from before the turn that the model hears."""


def weighed(words: Wait | None, complete: bool | None) -> Wait | None:
    """Return the verdict on the words and the sound of a turn. `complete` is None without a judgement of the sound.

    Words that go on outweigh every sound. A complete sentence that sounds as if it went on is given more time.
    """
    if complete is None or words == "patient":
        return words
    if complete:
        return "quick"
    return "usual" if words == "quick" else "patient"


class TurnSound:
    """Keeps the latest audio of the caller for a model, and asks it."""

    def __init__(self, model: TurnModel) -> None:
        self._model = model
        self._mono = MonoAt(model.sample_rate)
        self._kept = bytearray()
        self._most = 2 * round(model.heard_s * model.sample_rate)
        self._paused_at = -1.0  # audio time of the beginning of the latest pause
        self._complete: bool | None = None  # what the model said of it

    async def load(self) -> None:
        """Load the model before the first turn."""
        await TURN_MODELS.run(self._model.load, label="loading a turn model")

    def hear(self, frame: UserAudio) -> None:
        """Keep a piece of audio."""
        self._kept += self._mono.process(frame.audio, frame.sample_rate, frame.channels)
        if len(self._kept) > 2 * self._most:
            del self._kept[: -self._most]

    def paused(self, at: float) -> None:
        """Begin a pause at an audio time. Nothing is known of it yet."""
        self._paused_at, self._complete = at, None

    def complete(self, paused_at: float) -> bool | None:
        """Return what the model said of the pause that began at an audio time; None if it has said nothing."""
        return self._complete if paused_at == self._paused_at else None

    async def judge(self, turn_s: float) -> bool:
        """Judge the turn, whose audio is that of the last `turn_s` seconds. Returns True if the pause still lasts then.

        A judgement that takes longer than `DEADLINE_S` counts for nothing, and that of an earlier pause as well.
        Raises what the model raises.
        """
        paused_at = self._paused_at
        size = 2 * round((turn_s + PRE_ROLL_S) * self._model.sample_rate)
        pcm = bytes(self._kept[-min(size, self._most) :])
        with anyio.move_on_after(DEADLINE_S):
            probability = await TURN_MODELS.run(self._model.probability, pcm, label="judging a turn")
            if paused_at == self._paused_at:
                self._complete = probability >= COMPLETE
                return True
        return False
