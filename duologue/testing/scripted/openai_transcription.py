"""Transcription sessions of a `ScriptedOpenAI`: `TranscribingConnection`, its session, and its script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from websockets.asyncio.server import ServerConnection

from ...protocols.openai_realtime.backend import Backend
from ...protocols.openai_realtime.events import ClientEvent, given, read_event, read_object
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from .connection import ScriptedConnection
from .languages import words_before_space
from .manners import sleep
from .manners_openai import OpenAIManners
from .server import Got, ScriptedServer

EXPIRED = "Your session hit the maximum duration of 60 minutes."
_KIND = "conversation.item.input_audio_transcription"
_TAKEN = frozenset(
    (
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.delete",
        "conversation.item.retrieve",
    )
)
"""The client's events that a transcription session takes."""
_Language = Annotated[str, Meta(pattern="^[a-z]{2}$")]


@dataclass(kw_only=True)
class TranscriptionScript:
    """The behaviour of the server's transcription. May be changed at any time, with effect from the next item."""

    interim_s: float = 0.0
    """Seconds of audio between two deltas while the caller speaks, each with one more word; 0 for none."""
    interim: Callable[[bytes], str] | None = None
    """The recogniser of an item in progress, if the server's transcripts come from a recogniser. Deltas cannot be taken
    back: it returns "" until it is sure."""
    deltas: bool = True
    """True: the text comes word by word before it is complete."""
    answers: int = 1
    """The number of times that a complete text is sent."""
    fail: list[str] = field(default_factory=list)
    """Error codes with which the next items fail."""
    languages: tuple[str, ...] = ()
    """The languages that the model sends with a text."""
    refuse_languages: frozenset[str] = frozenset()
    """Languages that the model does not have."""


class _Strict(ClientEvent, frozen=True, forbid_unknown_fields=True):
    pass


class _Pcm(_Strict, frozen=True, tag="audio/pcm"):
    rate: Literal[24_000] = 24_000


class _Pcmu(_Strict, frozen=True, tag="audio/pcmu"):
    pass


class _Pcma(_Strict, frozen=True, tag="audio/pcma"):
    pass


class _Transcription(_Strict, frozen=True):
    model: str | None = None
    language: _Language | None = None
    languages: list[_Language] | None = None
    prompt: str | None = None
    keywords: list[str] | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class _Noise(_Strict, frozen=True):
    type: Literal["near_field", "far_field"]
    strength: float | None = None


class _Input(_Strict, frozen=True):
    format: _Pcm | _Pcmu | _Pcma | None = None
    transcription: _Transcription | UnsetType | None = UNSET
    noise_reduction: _Noise | UnsetType | None = UNSET
    turn_detection: UnsetType | None = UNSET


class _Audio(_Strict, frozen=True):
    input: _Input | None = None


class _Session(_Strict, frozen=True):
    type: Literal["transcription"]
    audio: _Audio | None = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None


class _Update(ClientEvent, frozen=True):
    session: dict[str, Any]


class TranscriptionSession(RealtimeServerSession):
    """The server's side of a transcription session. It has no responses, and the client ends the turns.

    Unlike a session of speech, it refuses settings that the API does not have.
    """

    def __init__(self, send: Any, backend: Backend, *, tag: str, expires_at: int) -> None:
        super().__init__(send, backend, model="", tag=tag, expires_at=expires_at)
        heard = self.config["audio"]["input"] | {"turn_detection": None}
        self.config = {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": self.config["id"],
            "expires_at": expires_at,
            "audio": {"input": heard},
            "include": None,
        }

    def receive(self, message: str | bytes) -> None:
        """Carry out one message of the client, or answer it with an `error` event."""
        about: Any = None
        try:
            event = read_event(message)
            about, kind = event.get("event_id"), event.get("type")
            if kind == "session.update":
                self._change(read_object(event, _Update).session)
                return
            if isinstance(kind, str) and kind not in _TAKEN:
                raise Refusal("invalid_value", f"{kind} is not an event of a transcription session.", "type")
        except Refusal as error:
            self.error(error.code, str(error), param=error.param, about=about if isinstance(about, str) else None)
            return
        super().receive(message)

    def _change(self, change: dict[str, Any]) -> None:
        wanted = given(read_object(change, _Session, "session"))
        self._backend.configure(wanted, wanted.keys())
        heard = {**self.config["audio"]["input"], **wanted.get("audio", {}).get("input", {})}
        self.config = {**self.config, **wanted, "audio": {"input": heard}}
        self.emit("session.updated", session=self.config)


class TranscribingConnection(ScriptedConnection):
    """An open connection. `session` is the protocol's state."""

    def __init__(
        self, server: ScriptedServer[Any], socket: ServerConnection, got: Got, script: TranscriptionScript, ends_at: int
    ) -> None:
        super().__init__(server, socket, got)
        self.script = script
        self.session = TranscriptionSession(self._emit, self, tag=str(got.number), expires_at=ends_at)
        self._begin = 0  # the byte of `got.audio` at which the item in progress begins
        self._next_item = ""  # the item in progress, once a delta has named it
        self._told = ""  # the text of its deltas
        self._steps = 0  # the times at which a delta was due

    def mannered(self) -> OpenAIManners | None:
        """Return the filter that shows the server's faults on this connection, None without any."""
        manners = self.server.manners
        return None if manners is None else OpenAIManners(manners, self.send_late)

    async def serve(self) -> None:
        """Open the session, and take the client's messages."""
        await self.set_up_delay()
        self.later(self.server.behaviour.session_limit_s, lambda: self.close(1001, EXPIRED))
        self.session.open()
        async for message in self.socket:
            if self.over:
                break
            event = read_event(message)
            if event.get("type") != "input_audio_buffer.append":
                self.got.messages.append(event)
            self.session.receive(message)

    def _emit(self, event: dict[str, Any]) -> None:
        self.send(event)

    # -- the backend -----------------------------------------------------------------------------------------------

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Refuse a model or a language that the server does not have."""
        if getattr(self.server, "refuse_updates", False):
            raise Refusal("invalid_value", "This change cannot be made now.", "session")
        wanted = session.get("audio", {}).get("input", {}).get("transcription") or {}
        models = self.server.behaviour.models
        if models and wanted.get("model") not in models:
            raise Refusal("model_not_found", f"The model `{wanted.get('model')}` does not exist.", "session")
        if wanted.get("language") in self.script.refuse_languages:
            raise Refusal("invalid_value", f"The model has no language {wanted['language']!r}.", "session")

    def audio(self, pcm: bytes, rate: int) -> None:
        """Record audio, and send the words until now if they are due."""
        self.got.audio += pcm
        if not self.script.interim_s:
            return
        seconds = (len(self.got.audio) - self._begin) / (2 * rate)
        words = int(seconds / self.script.interim_s + 1e-9)
        if words == self._steps:
            return
        self._steps = words
        text = self._so_far(bytes(self.got.audio[self._begin :]), words)
        if text.startswith(self._told) and text != self._told:
            self._next_item = self._next_item or self.session.new_id("item")
            delta, self._told = text[len(self._told) :], text
            self.session.emit(f"{_KIND}.delta", item_id=self._next_item, content_index=0, delta=delta)

    def _so_far(self, heard: bytes, words: int) -> str:
        transcripts = self.server.behaviour.transcripts
        if callable(transcripts):
            return self.script.interim(heard) if self.script.interim is not None else ""
        return "".join(words_before_space(transcripts[0])[:words]) if transcripts else ""

    def cleared(self) -> None:
        """Forget the item in progress."""
        self._begin, self._next_item, self._told = len(self.got.audio), "", ""
        self._steps = 0

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Transcribe the item."""
        samples = self.session.input_rate / 1000
        start, end = round(start_ms * samples), round(end_ms * samples)
        self.got.turns.append((start, end))
        item.wire["id"] = self._next_item or item.wire["id"]
        told = self._told
        self.cleared()
        if self.script.fail:
            self.start(self._fail(item, self.script.fail.pop(0)))
        else:
            text = self.server.understand(bytes(self.got.audio[2 * start : 2 * end]))
            self.start(self._answer(item, text, told, (end_ms - start_ms) / 1000))

    async def _fail(self, item: ServerItem, code: str) -> None:
        await asyncio.sleep(self.server.behaviour.transcript_delay_s)
        error = {"type": "server_error", "code": code, "message": "The transcription has failed.", "param": None}
        self.session.emit(f"{_KIND}.failed", item_id=item.id, content_index=0, error=error)

    async def _answer(self, item: ServerItem, text: str, told: str, seconds: float) -> None:
        await asyncio.sleep(self.server.behaviour.transcript_delay_s)
        manners, script = self.server.manners, self.script
        if manners is not None and manners.draw("stall-before", "openai", f"transcript {text!r}"):
            await sleep(manners.stall_s())
        where: dict[str, Any] = {"item_id": item.id, "content_index": 0}
        if script.deltas and text.startswith(told):
            for word in words_before_space(text[len(told) :]):
                self.session.emit(f"{_KIND}.delta", delta=word, **where)
        complete: dict[str, Any] = {"transcript": text, "usage": {"type": "duration", "seconds": seconds}}
        if script.languages:
            complete["languages"] = [{"code": code} for code in script.languages]
        for _ in range(script.answers):
            self.session.emit(f"{_KIND}.completed", **complete, **where)

    def created(self, item: ServerItem, place: int) -> None:
        """Do nothing: clients create no items here."""

    def deleted(self, item: ServerItem) -> None:
        """Do nothing: no data is kept for an item."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Do nothing: there is no speech of the model."""

    def check_response(self, asked: dict[str, Any]) -> None:
        """Refuse a response."""
        raise Refusal("invalid_value", "A transcription session has no responses.")

    def respond(self, response: ServerResponse) -> None:
        """Do nothing: there are no responses."""

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """Return None: there are no responses."""
        return None
