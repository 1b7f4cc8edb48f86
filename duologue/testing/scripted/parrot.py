"""`ScriptedParrot`: the server of a made-up vendor of speech-to-text and text-to-speech, on loopback, with faults."""

from __future__ import annotations

import asyncio
import base64
import http
import json
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio

from ...errors import IllegalState, MissingExtra
from ..parrot.options import IDLE_S, STT_RATE, TTS_RATE
from ..tones import tone
from .manners import UNKNOWN, Manners, Part, sleep
from .server import SPEECH_CHARACTERS_PER_S

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted server", "testing", str(error)) from error

RARELY = 0.1
"""The probability of an unknown message before a message."""
WORD_S = 0.3
"""Seconds of each word in a transcript without word times."""


@dataclass(kw_only=True)
class ParrotBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word or the recogniser's text; 0 for no interim."""
    answer_delay_s: float = 0.0
    """Seconds between `finish` and the text."""
    answers: int = 1
    """The number of answers to each `finish`."""
    split_answer: bool = False
    """True: the text is sent as one final segment for each word."""
    setup_delay_s: float = 0.0
    """Seconds before a connection is accepted."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next connections are refused."""
    chunk_bytes: int = 4_800
    """Bytes of audio in each message; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    late_audio: int = 0
    """The number of messages with audio that are sent after a context was cancelled."""
    never_done: bool = False
    """True: the end of a context is never announced."""
    silent: bool = False
    """True: no audio is sent."""
    with_words: bool = True
    """True: word times are sent with the audio."""


@dataclass(slots=True)
class ParrotGot:
    """The messages that the server has received on one connection. Kept after its end."""

    path: str
    query: dict[str, list[str]]
    audio: bytearray = field(default_factory=bytearray)
    """All audio, mono s16le."""
    utterances: list[bytes] = field(default_factory=list)
    """The audio of each utterance that was finished."""
    messages: list[dict[str, str]] = field(default_factory=list)
    closed: int | None = None
    """The close code, None while it is open."""

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.messages]


class ScriptedParrot:
    """Parrot's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    `behaviour` may be changed at any time. `got` has one entry for each connection since the start; `connections` has
    the open connections. `manners` are the faults that both services show.
    """

    def __init__(self, *, manners: Manners | None = None, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        self.manners = manners
        self.behaviour = ParrotBehaviour(**behaviour)
        self.got: list[ParrotGot] = []
        self.connections: list[ParrotConnection] = []
        self._tls = tls
        self._server: Server | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState before it was started."""
        if not self._url:
            raise IllegalState("the scripted server has no url: it was not started")
        return self._url

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            ssl=self._tls,
            process_request=self._admit,
            max_size=None,
            compression=None,
            ping_interval=None,
            close_timeout=1.0,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self._url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        for connection in list(self.connections):
            connection.drop()
        self._server.close()
        with anyio.CancelScope(shield=True):
            await self._server.wait_closed()

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        await anyio.sleep(self.behaviour.setup_delay_s)
        if self.behaviour.refuse:
            return _rejection(self.behaviour.refuse.pop(0), "overloaded")
        if request.headers.get("Authorization") != f"Parrot {self.behaviour.key}":
            return _rejection(401, "invalid_api_key")
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        url = urlsplit(socket.request.path)
        got = ParrotGot(url.path, parse_qs(url.query, keep_blank_values=True))
        kind = ListeningParrot if url.path == "/listen" else SpeakingParrot
        connection = kind(socket, got, self.behaviour, self.manners or Manners(faults=[]))
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code


class ParrotConnection:
    """An open connection."""

    part: Part

    def __init__(self, socket: ServerConnection, got: ParrotGot, behaviour: ParrotBehaviour, manners: Manners) -> None:
        self.manners = manners
        self.got = got
        self.behaviour = behaviour
        self._socket = socket
        self._frozen = False
        self._tasks: set[asyncio.Task[None]] = set()

    def drop(self, code: int = 0, reason: str = "") -> None:
        """Close the connection; a `code` of 0 breaks it off."""
        if code:
            self._start(self._socket.close(code, reason))
        else:
            self._socket.transport.abort()

    def go_half_open(self) -> None:
        """Stop reading and writing, and do not close."""
        self._frozen = True
        self._socket.transport.pause_reading()

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        if self._frozen:
            await anyio.sleep_forever()
        manners = self.manners
        if pause_s := manners.pause_s(self.part, f"before {kind}"):
            await anyio.sleep(pause_s)
        messages = [{"type": kind, **fields}]
        if manners.draw("nulls", self.part, kind):
            messages = [dict.fromkeys(("confidence", "left_s", "code", "message")) | messages[0]]
        if manners.draw("odd-types", self.part, kind):
            messages = [messages[0] | {"confidence": "high", "left_s": [1], "code": 7}]
        if manners.draw("unknown-events", self.part, f"before {kind}", RARELY):
            messages.insert(0, {"type": UNKNOWN, "high": []})
        with suppress(ConnectionClosed):
            for message in messages:
                await self._socket.send(json.dumps(message))

    async def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            while True:
                try:
                    async with asyncio.timeout(IDLE_S):
                        message = await self._socket.recv()
                except TimeoutError:
                    await self._socket.close(1011, "inactivity")
                    return
                if isinstance(message, bytes):
                    self.take_audio(message)
                else:
                    fields = json.loads(message)
                    self.got.messages.append(fields)
                    self.take(fields)
        except ConnectionClosed:
            pass
        finally:
            for task in self._tasks:
                task.cancel()

    def take_audio(self, pcm: bytes) -> None:
        """Take audio."""

    def take(self, message: dict[str, str]) -> None:
        """Take a message other than audio."""

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class ListeningParrot(ParrotConnection):
    """Speech-to-text: `finish` is answered with the utterance's text."""

    part = "listen"

    def __init__(self, socket: ServerConnection, got: ParrotGot, behaviour: ParrotBehaviour, manners: Manners) -> None:
        super().__init__(socket, got, behaviour, manners)
        self._from = 0
        self._interims = 0

    def take_audio(self, pcm: bytes) -> None:
        """Take audio, and send an interim text if one is due."""
        self.got.audio += pcm
        interim_s = self.behaviour.interim_s
        due = int((len(self.got.audio) - self._from) / (2 * STT_RATE) / interim_s + 1e-9) if interim_s else 0
        if due > self._interims:
            self._interims = due
            if text := self._so_far(due):
                self._start(self.send("text", text=self.manners.language.write(text)))

    def _so_far(self, words: int) -> str:
        transcripts = self.behaviour.transcripts
        if callable(transcripts):
            return transcripts(bytes(self.got.audio[self._from :]))
        return " ".join(transcripts[0].split()[:words]) if transcripts else ""

    def take(self, message: dict[str, str]) -> None:
        """Answer `finish`."""
        if message["type"] == "finish":
            pcm = bytes(self.got.audio[self._from :])
            began_s, self._from, self._interims = self._from / (2 * STT_RATE), len(self.got.audio), 0
            self.got.utterances.append(pcm)
            self._start(self._answer(self.manners.language.write(self._understood(pcm)), began_s))

    def _understood(self, pcm: bytes) -> str:
        transcripts = self.behaviour.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        if self.behaviour.answers:
            self.behaviour.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""

    async def _answer(self, text: str, began_s: float) -> None:
        await anyio.sleep(self.behaviour.answer_delay_s)
        manners, where = self.manners, f"answer {text!r}"
        if manners.draw("stall-before", self.part, where):
            await sleep(manners.stall_s())
        ends = not manners.draw("missing-end", self.part, where)
        split = self.behaviour.split_answer or manners.draw("odd-pieces", self.part, where)
        timed = [(w, began_s + n * WORD_S, began_s + (n + 1) * WORD_S) for n, w in enumerate(text.split())]
        for _ in range(self.behaviour.answers + manners.draw("repeated-end", self.part, where)):
            if split:
                for word in timed:
                    await self.send("text", text=word[0], final=True, words=[word])
                if ends:
                    await self.send("text", final=True, last=True)
            else:
                await self.send("text", text=text, final=True, last=ends, confidence=0.9, words=timed)
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self.send("text", text=text)


class SpeakingParrot(ParrotConnection):
    """Text-to-speech: each sentence is a tone whose length follows its characters."""

    part = "speak"

    def __init__(self, socket: ServerConnection, got: ParrotGot, behaviour: ParrotBehaviour, manners: Manners) -> None:
        super().__init__(socket, got, behaviour, manners)
        self._contexts: dict[str, asyncio.Queue[str | None]] = {}
        self._speaking: dict[str, asyncio.Task[None]] = {}
        self._speed = float(got.query.get("speed", ["1"])[0])

    def take(self, message: dict[str, str]) -> None:
        """Open, feed, end or cancel a context."""
        context = message.get("context", "")
        match message["type"]:
            case "open":
                self._contexts[context] = asyncio.Queue()
                self._speaking[context] = self._start(self._speak(context, self._contexts[context]))
            case "text":
                self._contexts[context].put_nowait(message["text"])
            case "end":
                self._contexts[context].put_nowait(None)
            case "cancel":
                self._speaking[context].cancel()
                self._start(self._late(context))

    async def _late(self, context: str) -> None:
        for _ in range(self.behaviour.late_audio):
            await anyio.sleep(0.01)
            await self._send_audio(context, bytes(self.behaviour.chunk_bytes), [])

    async def _speak(self, context: str, texts: asyncio.Queue[str | None]) -> None:
        manners, where = self.manners, f"context {context}"
        spoiled = manners.spoils(self.part, where)
        if spoiled == "stall-before":
            await sleep(manners.stall_s())
        elif spoiled == "rate-limit":
            code, message = manners.limit()
            await self.send("error", context=context, code=code, message=message)
            return
        stalls = manners.spoil("stall-in-the-middle", self.part, where)
        ends = not manners.spoil("missing-end", self.part, where)
        with_words = not manners.draw("audio-without-words", self.part, where)
        while (text := await texts.get()) is not None:
            if self.behaviour.silent or spoiled == "empty-answer":
                continue
            if spoiled == "words-without-audio":
                await self._send_audio(context, b"", [(word, 0.0, 0.0) for word in text.split()])
                continue
            await self._say(context, text, with_words=with_words, stalls=stalls)
        for _ in range(1 + manners.draw("repeated-end", self.part, where)):
            if ends and not self.behaviour.never_done:
                await self.send("done", context=context)
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self._send_audio(context, bytes(self.behaviour.chunk_bytes), [("late", 0.0, 0.1)])

    async def _say(self, context: str, text: str, *, with_words: bool, stalls: bool) -> None:
        rate = SPEECH_CHARACTERS_PER_S * self._speed
        pcm = tone(len(text) / rate, TTS_RATE)
        words, place = [], 0
        for word in text.split():
            at = text.index(word, place)
            place = at + len(word)
            words.append((word, at / rate, place / rate))
        sent_s = 0.0
        for start in range(0, len(pcm), self.behaviour.chunk_bytes):
            chunk = pcm[start : start + self.behaviour.chunk_bytes]
            begin_s, end_s = start / (2 * TTS_RATE), (start + len(chunk)) / (2 * TTS_RATE)
            timed = [(w, round(b - begin_s, 6), round(e - begin_s, 6)) for w, b, e in words if begin_s <= b < end_s]
            if stalls and start:
                await sleep(self.manners.stall_s())
                stalls = False
            first, *rest = self.manners.cut(chunk, self.part, f"context {context}")
            await self._send_audio(context, first, timed if with_words and self.behaviour.with_words else [])
            for piece in rest:
                await self._send_audio(context, piece, [])
            if self.behaviour.pace:
                await anyio.sleep((end_s - sent_s) / self.behaviour.pace)
            sent_s = end_s

    async def _send_audio(self, context: str, pcm: bytes, words: list[Any]) -> None:
        await self.send("audio", context=context, audio=base64.b64encode(pcm).decode(), words=words)


def _rejection(status: int, code: str) -> Response:
    body = json.dumps({"error": {"code": code}}).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
