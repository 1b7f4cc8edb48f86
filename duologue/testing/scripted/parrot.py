"""`ScriptedParrot`: the server of a made-up vendor of speech-to-text and text-to-speech, on loopback, with faults."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ..parrot.options import IDLE_S, STT_RATE, TTS_RATE
from ..tones import tone
from .hearing import HearingBehaviour, HearingConnection, Utterance, timed
from .server import SPEECH_CHARACTERS_PER_S
from .speaking import SpeakingBehaviour, SpeakingConnection, spoken_words
from .vendor import VendorConnection, VendorGot, VendorServer, asked, refusal


@dataclass(kw_only=True)
class ParrotBehaviour(HearingBehaviour, SpeakingBehaviour):
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    split_answer: bool = False
    """True: the text is sent as one final segment for each word."""
    never_done: bool = False
    """True: the end of a context is never announced."""
    with_words: bool = True
    """True: word times are sent with the audio."""


@dataclass(slots=True)
class ParrotGot(VendorGot):
    """The messages that the server has received on one connection. Kept after its end."""

    path: str
    query: dict[str, list[str]]
    messages: list[dict[str, str]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.messages]


class ParrotConnection(VendorConnection[ParrotBehaviour, ParrotGot]):
    """An open connection."""

    def idle_limit_s(self) -> float | None:
        """Return the seconds without a message after which the connection ends."""
        return IDLE_S

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing."""
        await self.close(1011, "inactivity")

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        optional = (
            ("confidence", "left_s", "code") if "message" in fields else ("confidence", "left_s", "code", "message")
        )
        await self.deliver({"type": kind, **fields}, kind, optional)

    async def receive(self, message: str | bytes) -> None:
        """Take a message."""
        if isinstance(message, bytes):
            self.take_audio(message)
        else:
            fields = json.loads(message)
            self.got.messages.append(fields)
            self.take(fields)

    def take_audio(self, pcm: bytes) -> None:
        """Take audio."""

    def take(self, message: dict[str, str]) -> None:
        """Take a message other than audio."""


class ListeningParrot(ParrotConnection, HearingConnection[ParrotBehaviour, ParrotGot]):
    """Speech-to-text: `finish` is answered with the utterance's text."""

    rate = STT_RATE
    splits = True

    def take_audio(self, pcm: bytes) -> None:
        """Take audio, and send an interim text if one is due."""
        self.hear(pcm)

    def take(self, message: dict[str, str]) -> None:
        """Answer `finish`."""
        if message["type"] == "finish":
            self.start(self.answer(self.ended()))

    async def tell_interim(self, text: str) -> None:
        """Send a text that another one will replace."""
        await self.send("text", text=text)

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send the text of an utterance, in one final segment for each word if it is `split`."""
        words = timed(said.text, said.start_s)
        if split or self.behaviour.split_answer:
            for word in words:
                await self.send("text", text=word[0], final=True, words=[word])
            if ends:
                await self.send("text", final=True, last=True)
        else:
            await self.send("text", text=said.text, final=True, last=ends, confidence=0.9, words=words)


class SpeakingParrot(ParrotConnection, SpeakingConnection[ParrotBehaviour, ParrotGot]):
    """Text-to-speech: each sentence is a tone whose length follows its characters."""

    rate = TTS_RATE

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._contexts: dict[str, asyncio.Queue[str | None]] = {}
        self._speaking: dict[str, asyncio.Task[None]] = {}
        self._per_s = SPEECH_CHARACTERS_PER_S * float(self.got.query.get("speed", ["1"])[0])

    def take(self, message: dict[str, str]) -> None:
        """Open, feed, end or cancel a context. A context that was not opened is ignored."""
        context = message.get("context", "")
        match message["type"]:
            case "open":
                self._contexts[context] = asyncio.Queue()
                self._speaking[context] = self.start(self.speak(context, self._contexts[context]))
            case "text" if context in self._contexts:
                self._contexts[context].put_nowait(message["text"])
            case "end" if context in self._contexts:
                self._contexts[context].put_nowait(None)
            case "cancel" if context in self._speaking:
                self._speaking[context].cancel()
                self.start(self.send_late(context))

    def ends(self) -> int:
        """Return the number of messages about the end of a context."""
        return 0 if self.behaviour.never_done else 1

    async def tell_limit(self, context: str, code: str, message: str) -> None:
        """Refuse a context, because of a rate limit."""
        await self.send("error", context=context, code=code, message=message)

    async def tell_audio(self, context: str, pcm: bytes, times: Any = None) -> None:
        """Send audio, and the words that begin in it with times from its start."""
        await self.send("audio", context=context, audio=base64.b64encode(pcm).decode(), words=times or [])

    async def tell_end(self, context: str) -> None:
        """Send the end of a context."""
        await self.send("done", context=context)

    def times(self, context: str, text: str) -> list[tuple[str, float, float]]:
        """Return the words of a text without audio."""
        return [(word, 0.0, 0.1) for word in text.split()]

    def pieces(self, context: str, text: str) -> Iterator[tuple[int, bytes, list[tuple[str, float, float]]]]:
        """Yield the place in bytes, the audio, and the words that begin in it."""
        pcm, words, size = (
            tone(len(text) / self._per_s, self.rate),
            spoken_words(text, self._per_s),
            self.behaviour.chunk_bytes,
        )
        for start in range(0, len(pcm), size):
            begin_s, end_s = start / (2 * self.rate), (start + len(pcm[start : start + size])) / (2 * self.rate)
            own = [(w, round(b - begin_s, 6), round(e - begin_s, 6)) for w, b, e in words if begin_s <= b < end_s]
            yield start, pcm[start : start + size], own if self.behaviour.with_words else []


class ScriptedParrot(VendorServer[ParrotBehaviour, ParrotGot, ParrotConnection]):
    """Parrot's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    `behaviour` may be changed at any time. `got` has one entry for each connection since the start; `connections` has
    the open connections. `manners` are the faults that both services show.
    """

    kind = ParrotBehaviour

    def rejection(self, status: int, code: str = "overloaded") -> Response:
        """Return the response to a connection that is refused."""
        return refusal(status, {"error": {"code": code}})

    def check(self, request: Request) -> Response | None:
        """Return the response that refuses a request with another key, None to accept it."""
        if request.headers.get("Authorization") == f"Parrot {self.behaviour.key}":
            return None
        return self.rejection(401, "invalid_api_key")

    def record(self, request: Request) -> ParrotGot:
        """Return the record of a new connection."""
        return ParrotGot(*asked(request))

    def connect(self, socket: ServerConnection, got: ParrotGot) -> ParrotConnection:
        """Return the connection over an accepted socket."""
        kind = ListeningParrot if got.path == "/listen" else SpeakingParrot
        return kind(self, socket, got)
