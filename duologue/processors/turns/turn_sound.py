"""`TurnSound`: the sound of the caller's turn in progress, and what a `TurnModel` says about it."""

from __future__ import annotations

import anyio

from ...audio.resample import MonoAt
from ...frames import UserAudio
from ..kernel.threads import TURN_MODELS
from .smart_turn import TurnModel

DEADLINE_S = 0.5
"""Seconds after which a judgement comes too late: the silence alone decides."""
COMPLETE = 0.5
"""The probability from which a turn counts as complete."""
PRE_ROLL_S = 0.5
"""Seconds from before the turn that the model hears."""


class TurnSound:
    """Keeps the latest audio of the caller for a model, and asks it."""

    def __init__(self, model: TurnModel) -> None:
        self._model = model
        self._mono = MonoAt(model.sample_rate)
        self._kept = bytearray()
        self._most = 2 * round(model.heard_s * model.sample_rate)
        self._judged: tuple[float, float] | None = None  # the beginning of the latest pause, and the verdict on it

    async def load(self) -> None:
        """Load the model before the first turn."""
        await TURN_MODELS.run(self._model.load, label="loading a turn model")

    def hear(self, frame: UserAudio) -> None:
        """Keep a piece of audio."""
        self._kept += self._mono.process(frame.audio, frame.sample_rate, frame.channels)
        if len(self._kept) > 2 * self._most:
            del self._kept[: -self._most]

    def patience(self, paused_at: float) -> float | None:
        """Return the verdict on the pause that began at an audio time, as `Ending.patience`; None if there is none."""
        return self._judged[1] if self._judged is not None and self._judged[0] == paused_at else None

    async def judge(self, paused_at: float, turn_s: float) -> bool:
        """Judge the turn, whose audio is that of the last `turn_s` seconds. Returns True if there is a verdict.

        A judgement that takes longer than `DEADLINE_S` counts for nothing. Raises what the model raises.
        """
        size = 2 * round((turn_s + PRE_ROLL_S) * self._model.sample_rate)
        pcm = bytes(self._kept[-min(size, self._most) :])
        with anyio.move_on_after(DEADLINE_S):
            probability = await TURN_MODELS.run(self._model.probability, pcm, label="judging a turn")
            self._judged = paused_at, -1.0 if probability >= COMPLETE else 1.0
            return True
        return False
