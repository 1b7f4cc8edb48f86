"""A rig: how the suite starts an engine, and how it sees and disturbs the far end that the engine speaks to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from ...agents.engine import Capabilities, Engine
from ...errors import ConfigurationError
from ...frames import Configure
from ...processors.processor import Processor
from ...services.context import Message
from ...services.remote.connection import ConnectionSettings
from ..scripted.server import Act, Asked, Model, scripted

Fault = Literal[
    "drop",
    "half_open",
    "refuse",
    "go_away",
    "expiry",
    "unknown",
    "malformed",
    "oversize",
    "duplicate",
    "late_transcript",
    "refuse_change",
    "cancel_calls",
]
"""What may go wrong at the far end. An engine without a connection has none of these."""


class FarEnd(ABC):
    """An engine that a rig has started, and what its far end knows.

    A rig for an engine of your own fills `asked`, by wrapping the model with `note`, and implements the properties;
    of the faults only those that its `Rig.faults` names.
    """

    def __init__(self, model: Model | Sequence[Sequence[Act]]) -> None:
        self.asked: list[Asked] = []
        """Every response that was asked of the model."""
        self._model = model if callable(model) else scripted(model)

    def note(self, asked: Asked) -> Sequence[Act]:
        """The scenario's model; keeps what it is asked."""
        self.asked.append(asked)
        return self._model(asked)

    @property
    @abstractmethod
    def engine(self) -> Processor:
        """The engine: a processor that obeys the engine contract. It belongs to one session."""

    @property
    def contract(self) -> Engine:
        """The same engine, as what the contract says of it. Raises ConfigurationError if it is none."""
        engine = self.engine
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"{engine.name} is no engine: it lacks a part of the contract")
        return engine

    @property
    def capabilities(self) -> Capabilities:
        """What the engine says it can do."""
        return self.contract.capabilities

    # -- what the far end got --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def history(self) -> tuple[Message, ...]:
        """What the far end remembers of the conversation now, in its latest session."""

    @property
    @abstractmethod
    def results(self) -> list[tuple[str, Any]]:
        """Call id and result, as plain JSON data, of every tool result that came as one; in order."""

    @property
    @abstractmethod
    def instructions(self) -> str:
        """The instructions that hold now."""

    @property
    @abstractmethod
    def voice(self) -> str:
        """The voice that the agent speaks in now."""

    @property
    @abstractmethod
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model may use now."""

    @property
    @abstractmethod
    def audio(self) -> list[bytes]:
        """The caller's audio, at the engine's input rate, of each connection; of one without connections in one."""

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return 0

    @property
    def open_connections(self) -> int:
        """How many of them are open."""
        return 0

    @property
    def handles(self) -> list[str]:
        """What each connection wanted resumed, "" for nothing."""
        return []

    @property
    def option(self) -> Any:
        """The value that holds now of the option that `Rig.option` names."""
        raise NotImplementedError

    @property
    def images(self) -> list[bytes]:
        """The caller's images that came other than in the history."""
        return []

    # -- faults ----------------------------------------------------------------------------------------------------

    async def drop(self, code: int = 0) -> None:
        """The connection breaks off, or is closed with a code."""
        raise NotImplementedError

    async def go_half_open(self) -> None:
        """The far end neither reads nor writes on the connection, and does not close it."""
        raise NotImplementedError

    def refuse(self, connections: int) -> None:
        """So many attempts to connect from now on fail."""
        raise NotImplementedError

    async def go_away(self, left_s: float) -> None:
        """The far end tells that it will close the connection in so many seconds, and does so."""
        raise NotImplementedError

    async def send(self, kind: Literal["unknown", "malformed", "oversize"]) -> None:
        """The far end sends a message of an unknown type, one that is broken, or one that is far too large."""
        raise NotImplementedError

    def refuse_handles(self) -> None:  # noqa: B027  there need be none
        """From now on no session can be resumed. Nothing where there are no handles."""

    def refuse_changes(self, refuse: bool) -> None:
        """The far end refuses, or again takes, `Rig.refusable`."""
        raise NotImplementedError


class Rig(ABC):
    """How to start one engine for a scenario, as data and one method."""

    name: str = ""
    faults: frozenset[Fault] = frozenset()
    """What can be made to go wrong at the far end."""
    detects_turns: bool = False
    """The engine finds the caller's turns; else a `VadProcessor`, `Endpointing` and `Interruption` stand before it."""
    interim: bool = False
    """The engine gives transcripts of what is still being said, or of which not all is told."""
    voices: tuple[str, str] = ("", "")
    """Two that the engine has."""
    option: tuple[str, Any] = ("", None)
    """An option that the engine takes, and a value that is not its default."""
    refused: Sequence[tuple[Configure, str]] = ()
    """Changes that the engine must refuse, each with what the reason must name."""
    refusable: Configure | None = None
    """A change that is right, for the far end to refuse."""

    @abstractmethod
    def start(
        self,
        model: Model | Sequence[Sequence[Act]],
        *,
        connection: ConnectionSettings | None = None,
        setup_delay_s: float = 0.0,
        transcript_delay_s: float = 0.0,
        session_limit_s: float = 3600.0,
    ) -> AbstractAsyncContextManager[FarEnd]:
        """A fresh engine, and a far end with this model behind it. The far end understands the suite's phrases.

        `connection`, `setup_delay_s` (before a session is set up), `transcript_delay_s` (late_transcript) and
        `session_limit_s` (expiry) are for engines that have such things.
        """
