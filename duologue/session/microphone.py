"""`CallMode`: the mode of a call, the gate of the caller's microphone, and the state that follows from both."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from ..agents.engine import Engine
from ..errors import ConfigurationError, IllegalState
from ..processors.kernel.groups import members
from ..processors.kernel.node import Node
from .gate import GatedSession, Taker
from .life import State
from .one_turn import OneTurn
from .push_to_talk import TalkGate

_NONE_REFRESH: frozenset[str] = frozenset()  # one for all sessions: an empty set takes 216 bytes

Mode = Literal["continuous", "one_turn", "push_to_talk"]
"""When the caller is heard: always; until they have heard an answer, and then after `Session.arm`; while they press a
button."""


class CallSession(GatedSession, Protocol):
    """The part of a session that its microphone uses."""

    @property
    def pipeline(self) -> Node: ...


class CallMode:
    """Says when the caller is heard. In the mode "continuous" there is no gate.

    Raises ConfigurationError for an unknown mode.
    """

    __slots__ = ("_session", "_turns", "gate", "mode", "refreshing")

    def __init__(self, session: CallSession, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise ConfigurationError(f"a mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.mode: Mode = mode
        self.gate: OneTurn | TalkGate | None = None
        self.refreshing = _NONE_REFRESH
        """The engines whose connection is being replaced."""
        self._session = session

    def begin(self) -> None:
        """Put the gate in its place, once the pipeline has been checked.

        Raises ConfigurationError for an engine that cannot leave the turns to the caller.
        """
        session = self._session
        if self.mode != "continuous":
            session.host.life.wanted = self.state
        if self.mode == "one_turn":
            self.gate = OneTurn(session)
        elif self.mode == "push_to_talk":
            nodes = members(session.pipeline)
            for node in nodes:
                if isinstance(node, Engine) and not node.capabilities.manual_turns:
                    raise ConfigurationError(
                        f"{node} finds the caller's turns itself: it cannot be used by push_to_talk"
                    )
            takers = [node for node in nodes if isinstance(node, Taker)]
            if all(taker.takes_marks for taker in takers):
                for node in nodes:
                    if node.judges_speech:
                        node.stand_aside()
                session.host.reroute()
                self.gate = TalkGate(session)

    @property
    def open(self) -> bool:
        """True while the caller is heard, apart from their access."""
        return self.gate is None or self.gate.open

    @property
    def dropped_s(self) -> float:
        """Seconds of the caller's audio that were dropped because the microphone was closed."""
        return self.gate.dropped_s if self.gate is not None else 0.0

    def state(self) -> State:
        """Return the state that an open session should have."""
        if isinstance(self.gate, OneTurn) and self.gate.connecting:
            return State.CONNECTING
        if self.refreshing:
            return State.REFRESHING
        return State.ACTIVE if self.open else State.ARMED

    def refreshes(self, engine: str, refreshing: bool, reason: str) -> None:
        """Note that the connection of an engine is being replaced, or no longer."""
        if refreshing is not (engine in self.refreshing):
            self.refreshing ^= {engine}
            self._session.host.life.wanted = self.state
            self._session.host.life.settle(reason)

    def talk(self, talking: bool) -> bool:
        """See `Session.talk`."""
        if not isinstance(self.gate, TalkGate):
            theirs = (
                "the client commits its turns itself" if self.mode == "push_to_talk" else f"the mode is {self.mode}"
            )
            raise IllegalState(f"talk() is for the mode push_to_talk: {theirs}")
        return self.gate.talk(talking)

    async def arm(self) -> None:
        """See `Session.arm`."""
        if not isinstance(self.gate, OneTurn):
            raise IllegalState(f"arm() is for the mode one_turn: the mode is {self.mode}")
        await self.gate.arm()
