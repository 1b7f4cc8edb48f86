"""`Ear`: turn-taking as one part of a pipeline."""

from __future__ import annotations

from ...audio.vad import Detector
from ..pipeline import Pipeline
from .endpointing import Endpointing
from .interruption import Interruption
from .policy import TurnPolicy
from .smart_turn import TurnModel
from .vad import Vad


class Ear(Pipeline):
    """`Vad`, `Endpointing` and `Interruption` in a row, with the settings of one policy.

    `detector` is that of `Vad`, `turn_model` that of `Endpointing`. Raises ConfigurationError for a setting out of
    range.
    """

    def __init__(
        self,
        policy: TurnPolicy | None = None,
        *,
        detector: Detector | None = None,
        turn_model: TurnModel | None = None,
    ) -> None:
        self.policy = policy or TurnPolicy()
        """The settings. They hold for the life of the ear."""
        vad = self.policy.vad
        super().__init__(
            [
                Vad(detector, start_ms=vad.start_ms, stop_ms=vad.stop_ms, threshold=vad.threshold),
                Endpointing(self.policy.endpointing, turn_model=turn_model),
                Interruption(self.policy.interruption),
            ]
        )
