"""`Rig`: starts an engine for the suite. `FarEnd`: the provider's side, which the suite observes and disturbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from ...agents.engine import Capabilities, Engine
from ...errors import ConfigurationError
from ...frames import Configure
from ...processors.processor import Processor
from ...services.context import Message
from ...services.remote.connection import ConnectionSettings
from ..scripted.languages import Language
from ..scripted.manners import Manners, Part
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
    "unfinished",
]
"""The faults that a far end can produce. An engine without a connection has none of them.

`unfinished`: a response stops without an end, is empty, or has words and no audio.
"""


class FarEnd(ABC):
    """An engine that a rig has started, and the record of its far end.

    A rig for your own engine records `asked` by wrapping the model with `note`. It implements the properties, and the
    faults that its `Rig.faults` names.
    """

    def __init__(self, model: Model | Sequence[Sequence[Act]], manners: Manners | None = None) -> None:
        self.asked: list[Asked] = []
        """The requests for a response that the model has received, in English."""
        self.language = Language() if manners is None else manners.language
        """The language of the words on the wire."""
        self._model = model if callable(model) else scripted(model)

    def note(self, asked: Asked) -> Sequence[Act]:
        """Ask the scenario's model, and record the request."""
        self.asked.append(asked)
        return self._model(asked)

    @property
    @abstractmethod
    def engine(self) -> Processor:
        """The engine: a processor that keeps the engine contract. It belongs to one session."""

    @property
    def contract(self) -> Engine:
        """The same engine, typed as the contract has it. Raises ConfigurationError if it is not an `Engine`."""
        engine = self.engine
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"{engine.name} is not an engine: it lacks a part of the contract")
        return engine

    @property
    def capabilities(self) -> Capabilities:
        """The engine's capabilities."""
        return self.contract.capabilities

    # -- the far end's record --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def history(self) -> tuple[Message, ...]:
        """The conversation as the far end remembers it now, in its latest session."""

    @property
    @abstractmethod
    def results(self) -> list[tuple[str, Any]]:
        """Call id and result, as plain JSON data, of each message with a tool's result, in order."""

    @property
    @abstractmethod
    def instructions(self) -> str:
        """The instructions in force."""

    @property
    @abstractmethod
    def voice(self) -> str:
        """The agent's voice at present."""

    @property
    @abstractmethod
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model may use at present."""

    @property
    @abstractmethod
    def audio(self) -> list[bytes]:
        """The caller's audio of each connection, at the engine's input rate; one entry without connections."""

    @property
    def connections(self) -> int:
        """The number of connections that were made."""
        return 0

    @property
    def open_connections(self) -> int:
        """The number of connections that are open."""
        return 0

    @property
    def handles(self) -> list[str]:
        """The handle with which each connection resumed, "" without one."""
        return []

    @property
    def option(self) -> Any:
        """The present value of the option that `Rig.option` names."""
        raise NotImplementedError

    @property
    def images(self) -> list[bytes]:
        """The caller's images that came outside the history."""
        return []

    # -- faults ----------------------------------------------------------------------------------------------------

    async def drop(self, code: int = 0) -> None:
        """Break the connection off, or close it with a code."""
        raise NotImplementedError

    async def go_half_open(self) -> None:
        """Stop reading from the connection and writing to it, without closing it."""
        raise NotImplementedError

    def refuse(self, connections: int) -> None:
        """Refuse the next `connections` attempts to connect."""
        raise NotImplementedError

    async def go_away(self, left_s: float) -> None:
        """Announce that the connection closes in `left_s` seconds, and close it then."""
        raise NotImplementedError

    async def send(self, kind: Literal["unknown", "malformed", "deep", "oversize"]) -> None:
        """Send a message of an unknown type, a malformed one, one of too many levels, or one far too large."""
        raise NotImplementedError

    def refuse_handles(self) -> None:  # noqa: B027  engines without handles do nothing
        """Refuse all handles from now on. Does nothing for engines without handles."""

    def refuse_changes(self, refuse: bool) -> None:
        """Refuse the change `Rig.refusable` from now on, or accept it again."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions of a scenario for engines with connections. Other engines ignore them."""

    connection: ConnectionSettings | None = None
    """The limits of the engine's connection; None for the engine's own."""
    setup_delay_s: float = 0.0
    """Seconds before the far end sets a session up."""
    transcript_delay_s: float = 0.0
    """Seconds by which transcripts of the caller's words come later: the fault `late_transcript`."""
    session_limit_s: float = 3600.0
    """Seconds after which the far end closes a session: the fault `expiry`."""


NORMAL = Conditions()


class Rig(ABC):
    """Starts one engine for a scenario. A rig is data and one method."""

    name: str = ""
    faults: frozenset[Fault] = frozenset()
    """The faults that the far end can produce."""
    parts: tuple[Part, ...] = ()
    """The names of its far ends in a plan of faults; none if these have no manners."""
    unseen: frozenset[str] = frozenset()
    """Faults of these far ends that the engine's vendors cannot show: a voice without word times cannot omit them."""
    manners: Manners | None = None
    """The faults that the far ends show in the calls that are started next."""
    may_be_silent: bool = False
    """True if the model may end a spoken turn of the caller without an answer (Gemini's proactive audio)."""
    detects_turns: bool = False
    """True if the engine finds the caller's turns, False if `Vad`, `Endpointing` and `Interruption` do."""
    interim: bool = False
    """True if the engine gives interim transcripts."""
    voices: tuple[str, str] = ("", "")
    """Two voices of the engine."""
    option: tuple[str, Any] = ("", None)
    """The name of an option of the engine, and a value that is not the default."""
    refused: Sequence[tuple[Configure, str]] = ()
    """Changes that the engine must refuse, each with a text that the reason must contain."""
    refusable: Configure | None = None
    """A valid change, for the far end to refuse."""

    @abstractmethod
    def start(
        self,
        model: Model | Sequence[Sequence[Act]],
        conditions: Conditions = NORMAL,
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a new engine, and a far end with this model. The far end understands the suite's phrases."""
