"""`ElevenLabsConnection`: one connection to a scripted ElevenLabs, its behaviour and its record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import unquote

import anyio

from ...errors import BadInput, MissingExtra
from .manners import UNKNOWN, Manners, Part

try:
    from websockets.asyncio.server import ServerConnection
    from websockets.exceptions import ConnectionClosed
except ImportError as error:
    raise MissingExtra("a scripted server", "testing", str(error)) from error

RARELY = 0.1
"""The probability of an unknown message before a message."""


@dataclass(kw_only=True)
class ElevenLabsBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    setup_delay_s: float = 0.0
    """Seconds before a connection is accepted."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next connections and requests are refused."""
    # Text-to-speech.
    first_audio_s: float = 0.0
    """Seconds between a context's first text and its first audio."""
    chunk_bytes: int = 4_800
    """Bytes of audio in each message; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    alignment: Literal["message", "sentence", "none"] = "message"
    """The characters of each message's own audio, those of a sentence in its first message, or null."""
    late_audio: int = 0
    """The number of messages with audio that are sent after the end of each context."""
    finals: int = 1
    """The number of messages about the end of a context; 0 for none."""
    silent: bool = False
    """True: no audio is sent."""
    spoil_base64: int = 0
    """The number of messages whose audio will not be base64."""
    # Speech-to-text.
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between partial transcripts, each with one more word or the recogniser's text; 0 for none."""
    answer_delay_s: float = 0.0
    """Seconds between a commit and its transcript."""
    answers: int = 1
    """The number of answers to each commit."""
    refuse_session: str = ""
    """The type of the error with which a session of speech-to-text is refused instead of started, "" for none."""
    end_session: str = ""
    """The type of the error with which a session of speech-to-text is ended right after its start, "" for none."""
    session_limit_s: float = 5_400.0
    """Seconds after which a session of speech-to-text is ended."""


@dataclass(slots=True)
class ElevenLabsGot:
    """The record of one connection. Kept after its end."""

    path: str
    query: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages, unchanged; those of speech-to-text without their audio."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    """All messages of the server."""
    texts: dict[str, str] = field(default_factory=dict)
    """The text of each context."""
    closed_contexts: list[str] = field(default_factory=list)
    """The contexts that the client has closed, in order."""
    audio: bytearray = field(default_factory=bytearray)
    """All audio of the caller: mono s16le."""
    utterances: list[bytes] = field(default_factory=list)
    """The audio up to each commit."""
    closed: int | None = None
    """The close code, None while it is open."""

    @property
    def voice(self) -> str:
        """The voice of a connection of text-to-speech."""
        return unquote(self.path.split("/")[3])


class ElevenLabsEnd(Protocol):
    """The server as its connections see it."""

    behaviour: ElevenLabsBehaviour
    manners: Manners
    failures: list[Exception]


class ElevenLabsConnection:
    """An open connection."""

    part: Part

    def __init__(self, server: ElevenLabsEnd, socket: ServerConnection, got: ElevenLabsGot) -> None:
        self.server, self.got = server, got
        self._socket = socket
        self._frozen = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard = asyncio.Event()

    @property
    def behaviour(self) -> ElevenLabsBehaviour:
        """The server's behaviour."""
        return self.server.behaviour

    @property
    def manners(self) -> Manners:
        """The server's faults."""
        return self.server.manners

    # -- for tests -------------------------------------------------------------------------------------------------

    def drop(self, code: int = 0, reason: str = "") -> None:
        """Close the connection; a `code` of 0 breaks it off."""
        if code:
            self.start(self._socket.close(code, reason))
        else:
            self._socket.transport.abort()

    def go_half_open(self) -> None:
        """Stop reading and writing, and do not close."""
        self._frozen = True
        self._socket.transport.pause_reading()

    async def send_raw(self, message: str | bytes) -> None:
        """Send a message unchanged."""
        with suppress(ConnectionClosed):
            await self._socket.send(message)

    async def send(self, message: dict[str, Any], *, name: str, optional: Sequence[str] = ()) -> None:
        """Send a message with the faults of the plan. `optional` are fields that may be null or of another type."""
        if self._frozen:
            await anyio.sleep_forever()
        manners, messages = self.manners, [message]
        if pause_s := manners.pause_s(self.part, f"before {name}"):
            await anyio.sleep(pause_s)
        if optional and manners.draw("nulls", self.part, name):
            messages = [dict.fromkeys(optional) | message]
        if optional and manners.draw("odd-types", self.part, name):
            messages = [{field: [{}] for field in optional} | message]
        if manners.draw("unknown-events", self.part, f"before {name}", RARELY):
            messages.insert(0, {"message_type": UNKNOWN, "high": []})
        for one in messages:
            self.got.sent.append(one)
            await self.send_raw(json.dumps(one))

    # -- life ------------------------------------------------------------------------------------------------------

    idle_s = 20.0
    """Seconds without a message after which the server closes the connection."""

    async def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            await self.begin()
            while True:
                try:
                    async with asyncio.timeout(self.idle_s):
                        message = await self._socket.recv()
                except TimeoutError:
                    await self.idle()
                    return
                try:
                    self.take(message)
                except BadInput as error:
                    self.server.failures.append(error)
                    await self.refuse("invalid_message", str(error))
        except ConnectionClosed:
            pass
        finally:
            for task in self._tasks:
                task.cancel()

    async def begin(self) -> None:
        """Begin the session."""

    def take(self, message: str | bytes) -> None:
        """Take a message. Raises BadInput for one that ElevenLabs refuses."""
        raise NotImplementedError

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing."""
        raise NotImplementedError

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error, and close the connection."""
        raise NotImplementedError

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the connection."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
