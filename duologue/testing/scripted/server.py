"""`ScriptedServer`: the base of scripted vendors, with the script of a model, faults, and a record of each connection.

A scripted server speaks a vendor's real wire on loopback, for the official SDK to talk to. The script lists the acts of
the model and their times; faults are acts like any other.

    server = ScriptedOpenAI([[Speak("Hello.")], [CallTool("weather", {"city": "Paris"})], [Speak("It is sunny.")]])
    async with server:
        engine = OpenAIRealtime(api_key="test", base_url=server.url)
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from websockets.http11 import Request

from ...services.context import Message
from .manners import Manners
from .serving import ConnectionType, WebSocketServer

SPEECH_CHARACTERS_PER_S = 15.0
"""Characters a second in a scripted model's speech, for a `Speak` without `seconds`."""
SCRIPTED_RATE = 24_000
"""The sample rate of a scripted model's audio in Hz."""


@dataclass(frozen=True, slots=True)
class Speak:
    """The model says `text`. Its audio is `audio` (mono s16le at 24 kHz), or a tone of `seconds`.

    The audio is sent in pieces of `chunk_ms`, `pace` times as fast as real time; a `pace` of 0 sends all at once.
    """

    text: str
    seconds: float | None = None
    audio: bytes = b""
    pace: float = 0.0
    chunk_ms: int = 100


@dataclass(frozen=True, slots=True)
class CallTool:
    """The model calls a tool. Without a `call_id` the server makes one."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """The model does nothing for some seconds; `inf` means for ever."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The response fails."""

    code: str = "server_error"
    message: str = "The model has failed."


@dataclass(frozen=True, slots=True)
class Close:
    """The server closes the connection with `code`; a `code` of 0 or 1006 breaks it off."""

    code: int = 1011
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """The server stops reading from this connection and writing to it, and does not close it."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server announces that it closes the connection in `left_s` seconds, and closes it. Some wires lack this."""

    left_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Raw:
    """The server sends `message` unchanged, for example one of an unknown type or one that is not JSON."""

    message: dict[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class Twice:
    """The server sends its next message twice."""


Act: TypeAlias = Speak | CallTool | Wait | Fail | Close | HalfOpen | GoAway | Raw | Twice


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the model. `said` is the transcript of the turn to answer, "" without one."""

    connection: int
    """The number of the connection, counted from 1."""
    instructions: str
    """The instructions of the session, and after an empty line those of this response."""
    voice: str
    tools: tuple[dict[str, Any], ...]
    history: tuple[Message, ...]
    """The session's memory, including the turn to answer, without truncated words."""
    said: str = ""
    spoken: bool = False
    """True if the provider has found the turn to answer in the caller's audio."""


Model: TypeAlias = Callable[[Asked], Sequence[Act]]


def scripted(answers: Sequence[Sequence[Act]]) -> Model:
    """Return a model that gives one answer after the other, and "Yes." after the last."""
    waiting = list(answers)
    return lambda asked: waiting.pop(0) if waiting else [Speak("Yes.")]


@dataclass(slots=True)
class Got:
    """The record of one connection. The server keeps it after the end of the connection."""

    number: int
    """The number of the connection, counted from 1 in the order of acceptance."""
    handle: str = ""
    """The handle with which the client resumed, "" without one."""
    audio: bytearray = field(default_factory=bytearray)
    """All audio of the caller in order: mono s16le at the provider's input rate."""
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Start and end in `audio`, in samples, of the turns that the model was to answer."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages except audio, unchanged."""
    instructions: str = ""
    voice: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    history: list[Message] = field(default_factory=list)
    """The conversation as the session remembers it now."""
    truncated: list[tuple[str, int]] = field(default_factory=list)
    """The item and the milliseconds of each truncation."""
    results: list[tuple[str, str]] = field(default_factory=list)
    """The call id and the result of each tool result."""
    closed: int | None = None
    """The close code, None while the connection is open."""


@dataclass(kw_only=True)
class Behaviour:
    """The behaviour of a scripted server apart from the model. May be changed at any time."""

    key: str = "test"
    """The accepted key. Others are refused as the provider refuses them."""
    models: frozenset[str] = frozenset()
    """The accepted models, empty for any."""
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The transcripts of the caller's turns, one after the other, or a recogniser of their audio."""
    transcript_delay_s: float = 0.0
    setup_delay_s: float = 0.0
    """Seconds before a session is set up; `inf` means never."""
    refuse: int = 0
    """The number of connections to refuse from now on, as an overloaded server does."""
    refuse_handles: bool = False
    delay_s: float = 0.0
    """Seconds before each message."""
    session_limit_s: float = 3600.0
    turn_detection: Literal["energy", "told"] = "energy"
    """The server's turn detection: by the level of the audio, or by calls of `begin_turn` and `end_turn`."""

    def understand(self, pcm: bytes) -> str:
        """Return the transcript of a turn of the caller."""
        transcripts = self.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        self.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""


class ScriptedServer(WebSocketServer[Got, ConnectionType]):
    """A vendor's API on loopback, open inside its `async with`.

    `model` is a function of an `Asked`, or a sequence of answers. `manners` are the faults that the vendor shows, none
    by default. `behaviour` has the other arguments as fields. An error in the script, for example of a model that
    raises, is raised at the end of the `async with`.
    """

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]] = (),
        *,
        manners: Manners | None = None,
        tls: ssl.SSLContext | None = None,
        **behaviour: Any,
    ) -> None:
        super().__init__(manners, tls)
        self.model = model if callable(model) else scripted(model)
        self.behaviour = Behaviour(**behaviour)

    def ask(self, asked: Asked) -> Sequence[Act]:
        """Return the model's acts for a response."""
        return self.model(asked)

    def understand(self, pcm: bytes) -> str:
        """Return the transcript of a turn of the caller, in the vendor's language."""
        text = self.behaviour.understand(pcm)
        return text if self.manners is None else self.manners.language.write(text)

    def record(self, request: Request) -> Got:
        """Return the record of a new connection."""
        return Got(number=len(self.got) + 1)
