"""`ScriptedServer`: the base of scripted vendors, with the script of a model, faults, and a record of each connection.

A scripted server speaks a vendor's real wire on loopback, for the official SDK to talk to. The script lists the acts of
the model and their times; faults are acts like any other.

    server = ScriptedOpenAI([[Speak("Hello.")], [CallTool("weather", {"city": "Paris"})], [Speak("It is sunny.")]])
    async with server:
        engine = OpenAIRealtime(api_key="test", base_url=server.url)
"""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from ...errors import IllegalState, MissingExtra
from ...services.context import Message
from ..tls import HOST
from .manners import Manners

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted server", "testing", str(error)) from error

SPEECH_CHARACTERS_PER_S = 15.0
"""Characters a second in a scripted model's speech, for a `Speak` without `seconds`."""
SCRIPTED_RATE = 24_000
"""The sample rate of a scripted model's audio in Hz."""
CLOSE_TIMEOUT_S = 1.0
"""Seconds that a closing connection waits for the far end."""


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


class Served(Protocol):
    """A connection as its server sees it."""

    async def run(self) -> None:
        """Serve the connection until it ends."""

    def end(self) -> None:
        """Break the connection off, because the server ends."""


ConnectionType = TypeVar("ConnectionType", bound=Served)


class ScriptedServer(Generic[ConnectionType]):
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
        self.model = model if callable(model) else scripted(model)
        self.manners = manners
        self.behaviour = Behaviour(**behaviour)
        self.got: list[Got] = []
        """The record of each connection, in the order of their acceptance."""
        self.connections: list[ConnectionType] = []
        """The open connections."""
        self.failures: list[Exception] = []
        """Errors of the script."""
        self._tls = tls
        self._server: Server | None = None

    @property
    def address(self) -> str:
        """`host:port`. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState(f"a {type(self).__name__} has an address only inside its `async with`")
        return f"{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._accept,
            HOST,
            0,
            ssl=self._tls,
            process_request=self.admit,
            process_response=self._tell_time,
            compression=None,
            ping_interval=None,
            max_size=None,
            close_timeout=CLOSE_TIMEOUT_S,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in self.connections:
            connection.end()
        server.close()
        await server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    def ask(self, asked: Asked) -> Sequence[Act]:
        """Return the model's acts for a response."""
        return self.model(asked)

    def understand(self, pcm: bytes) -> str:
        """Return the transcript of a turn of the caller, in the vendor's language."""
        text = self.behaviour.understand(pcm)
        return text if self.manners is None else self.manners.language.write(text)

    @abstractmethod
    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Return the response that refuses a connection, None to accept it."""

    @abstractmethod
    def connect(self, socket: ServerConnection, got: Got) -> ConnectionType:
        """Return the connection over an accepted socket."""

    def _tell_time(self, socket: ServerConnection, request: Request, response: Response) -> None:
        """Tell the time of the vendor's clock."""
        if self.manners is not None and self.manners.clock_s and "Date" in response.headers:
            now = parsedate_to_datetime(response.headers.pop("Date")).timestamp()
            response.headers["Date"] = formatdate(now + self.manners.clock_s, usegmt=True)

    async def _accept(self, socket: ServerConnection) -> None:
        got = Got(number=len(self.got) + 1)
        connection = self.connect(socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code
