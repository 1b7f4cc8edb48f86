"""`Judge`: one level of frustration out of all evidence, and its state, which does not flutter."""

from __future__ import annotations

from collections.abc import Mapping

from ...frames import FrustrationState

ENTERS = {"tense": 0.4, "frustrated": 0.7}
"""The levels at which a state is entered."""
LEAVES = {"tense": 0.25, "frustrated": 0.5}
"""The levels below which a state is left."""
STATES: tuple[FrustrationState, ...] = ("calm", "tense", "frustrated")
WEIGHTS = {
    "louder": 0.6,
    "higher": 0.4,
    "faster": 0.4,
    "says it again": 0.7,
    "said it before": 0.6,
    "wants a person": 0.65,
    "affect": 0.8,
}
"""The level to which each reason alone leads at its strongest."""
_CALMER = 0.5  # the part of the way down to a turn that shows less: one calm sentence ends no quarrel
_NAMED = 0.08  # the least share of a reason that is named


class Judge:
    """Gathers the evidence of one turn after the other. Each piece is from 0 to 1."""

    def __init__(self) -> None:
        self.level = 0.0
        """The frustration, from 0 to 1."""
        self.state: FrustrationState = "calm"
        self.reasons: tuple[str, ...] = ()
        """The reasons of the present state: those of the latest turn, the strongest first, then earlier ones."""
        self._before = 0.0
        self._reasons_before: tuple[str, ...] = ()
        self._parts: dict[str, float] = {}

    @property
    def shows(self) -> bool:
        """True if the present turn gives a reason."""
        return any(WEIGHTS[reason] * part >= _NAMED for reason, part in self._parts.items())

    @property
    def evidence(self) -> Mapping[str, float]:
        """The evidence of the present turn, by reason."""
        return self._parts

    def begin_turn(self) -> None:
        """The caller begins a turn: its evidence is gathered anew."""
        self._before, self._reasons_before, self._parts = self.level, self.reasons, {}

    def add(self, parts: Mapping[str, float]) -> bool:
        """Add evidence to the turn: the strongest of each reason counts. Returns True if the state has changed."""
        for reason, part in parts.items():
            self._parts[reason] = max(part, self._parts.get(reason, 0.0))
        calm = 1.0
        for reason, part in self._parts.items():
            calm *= 1.0 - WEIGHTS[reason] * part
        shown = 1.0 - calm
        self.level = shown if shown > self._before else self._before + _CALMER * (shown - self._before)
        named = [(WEIGHTS[reason] * part, reason) for reason, part in self._parts.items()]
        found = [reason for share, reason in sorted(named, reverse=True) if share >= _NAMED]
        state = self._next_state()
        changed, self.state = state != self.state, state
        earlier = self._reasons_before if state != "calm" else ()
        self.reasons = (*found, *(reason for reason in earlier if reason not in found))
        return changed

    def _next_state(self) -> FrustrationState:
        place = STATES.index(self.state)
        while place < 2 and self.level >= ENTERS[STATES[place + 1]]:
            place += 1
        while place > 0 and self.level < LEAVES[STATES[place]]:
            place -= 1
        return STATES[place]


def voice_evidence(above: Mapping[str, float]) -> dict[str, float]:
    """Return the evidence in a voice that is this many standard deviations above the usual."""
    return {reason: min(1.0, max(0.0, (deviations - 1.3) / 2.0)) for reason, deviations in above.items()}
