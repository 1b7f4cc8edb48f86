"""`ElevenLabsTTS`: ElevenLabs' text-to-speech over one connection, with a context for each response."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from ...errors import check_installed
from ..remote import (
    ConnectionSettings,
    ContextAudio,
    ContextDone,
    Event,
    Refused,
    RemoteTTS,
    Setup,
    TTSDialect,
    Wire,
    WireMessage,
    fatal,
)
from ..remote.keyed import checked_key
from ..remote.lenient import audio_of, message_reader
from .alignment import Alignment, SpokenWords
from .tts_options import MAX_CONTEXTS, ElevenLabsTTSOptions, check_voice_id
from .wire import checked_url, open_elevenlabs


class SpeechMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message of the multi-context WebSocket: speech, the end of a context, or an error."""

    audio: str | None = None
    """Audio in base64."""
    is_final: bool | None = None
    context_id: str | None = None
    snake_context_id: str | None = msgspec.field(default=None, name="context_id")
    """The context's id, as some servers spell it."""
    alignment: Alignment | None = None
    """The characters as they were sent."""
    normalized_alignment: Alignment | None = None
    """The characters as they are spoken: with numbers, and words of dictionaries, as they are read."""
    error: str | None = None
    message: str | None = None


decode_speech = message_reader(SpeechMessage, "ElevenLabs")


class ElevenLabsTTSDialect(TTSDialect):
    """Translates for one connection."""

    times_from = "context"

    def __init__(self, options: ElevenLabsTTSOptions) -> None:
        self.idle_s = options.inactivity_timeout_s / 3
        self._options = options
        self._contexts: dict[str, SpokenWords | None] = {}  # without an end from ElevenLabs; None for a cancelled one
        self._closed: set[str] = set()
        self._latest = ""

    def is_worn(self) -> bool:
        """Return True if the connection is full: a closed context counts until ElevenLabs has ended it."""
        return len(self._contexts) >= MAX_CONTEXTS

    def open(self, context: str, voice: str, language: str) -> Sequence[WireMessage]:
        """Return the message that opens a context. The voice and the language are those of the connection."""
        options, self._latest = self._options, context
        self._contexts[context] = SpokenWords()
        fields: dict[str, Any] = {}
        if settings := options.voice_settings.given():
            fields["voice_settings"] = settings
        if options.chunk_length_schedule:
            fields["generation_config"] = {"chunk_length_schedule": options.chunk_length_schedule}
        if options.dictionaries:
            fields["pronunciation_dictionary_locators"] = [asdict(one) for one in options.dictionaries]
        return (_context_message(context, text=" ", **fields),)

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the message with a text, which must end with a space."""
        if words := self._contexts.get(context):
            words.sent(text)
        return (_context_message(context, text=f"{text.rstrip()} "),)

    def flush(self, context: str) -> Sequence[WireMessage]:
        """Return the message that makes ElevenLabs speak the sentence now."""
        return (_context_message(context, flush=True),)

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the message that closes the context after its speech."""
        self._closed.add(context)
        return (_context_message(context, close_context=True),)

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the message that closes the context. ElevenLabs may still send audio that it has begun."""
        if context in self._contexts:
            self._contexts[context] = None
        return () if context in self._closed else self.end(context)

    def idle(self) -> Sequence[WireMessage]:
        """Return the message that keeps the connection open, and the context that waits for more text."""
        waits = self._latest in self._contexts and self._latest not in self._closed
        return (_context_message(self._latest if waits else "", text=""),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_speech(message)
        context = got.context_id or got.snake_context_id or self._latest
        if got.error or got.message:
            about = got.context_id or got.snake_context_id or ""
            return (self._refused(got.error or "error", got.message or "", about),)
        if context not in self._contexts:
            return ()  # it has ended
        pcm, words = audio_of(got.audio or "", "ElevenLabs"), self._contexts[context]
        events: list[Event] = []
        if words is None:
            events += [ContextAudio(context=context, pcm=pcm)] if pcm else []
        else:
            timed = words.take(self._characters(got), len(pcm) / (2 * self._options.sample_rate))
            timed += words.rest() if got.is_final else ()
            events += [ContextAudio(context=context, pcm=pcm, words=timed)] if pcm or timed else []
        if got.is_final:
            del self._contexts[context]
            self._closed.discard(context)
            events.append(ContextDone(context=context))
        return events

    def _characters(self, got: SpeechMessage) -> list[tuple[str, float, float]]:
        """Return the characters with their times.

        With dictionaries, `alignment` repeats characters that it had before.
        """
        alignments = [got.alignment, got.normalized_alignment]
        if self._options.dictionaries:
            alignments.reverse()
        return next((alignment.timed() for alignment in alignments if alignment is not None), [])

    def _refused(self, code: str, message: str, context: str) -> Refused:
        if context:
            self._contexts.pop(context, None)
            self._closed.discard(context)
        return Refused(code=code, message=message, about=context, fatal=fatal(reason=code))


class ElevenLabsTTS(RemoteTTS):
    """ElevenLabs' text-to-speech over the multi-context WebSocket, with word times.

    `ElevenLabsTTSOptions.feeding` sends a sentence while it is still being written. A connection has one voice and one
    language; another voice takes another connection, which is opened when the
    response begins. `base_url` is the address of the API, for example that of another region.

    Raises ConfigurationError without a key or for an option that ElevenLabs would refuse, MissingExtra without the
    extra `elevenlabs`.
    """

    voices = "elevenlabs"
    extra = "elevenlabs"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: ElevenLabsTTSOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        check_installed("elevenlabs", "websockets")
        super().__init__(connection=connection)
        self.options = options or ElevenLabsTTSOptions()
        self.model, self.sample_rate = self.options.model, self.options.sample_rate
        self._key, self._base_url = checked_key("ElevenLabs", api_key), checked_url(base_url)
        self._ssl_context = ssl_context
        self.feeding = self.options.feeding

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a text that cannot be a voice id."""
        if voice:
            check_voice_id(voice)

    def setup(self, voice: str, language: str) -> Setup:
        """Return the voice and the language."""
        return voice or self.options.voice, self.options.language_code(language)

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a voice and a language."""
        (voice, language), options = setup, self.options
        query = [
            ("model_id", options.model),
            ("output_format", f"pcm_{options.sample_rate}"),
            ("inactivity_timeout", str(options.inactivity_timeout_s)),
            ("sync_alignment", "true"),
            ("auto_mode", str(options.auto_mode).lower()),
            ("apply_text_normalization", options.text_normalization),
            ("enable_logging", str(options.store).lower()),
        ]
        query += [("language_code", language)] if language else []
        query += [("seed", str(options.seed))] if options.seed is not None else []
        path = ("text-to-speech", voice, "multi-stream-input")
        return await open_elevenlabs(self._base_url, path, self._key, query, self._ssl_context)

    def dialect(self, setup: Setup) -> ElevenLabsTTSDialect:
        """Return a translator for one connection."""
        return ElevenLabsTTSDialect(self.options)


def _context_message(context: str, **fields: Any) -> str:
    """Return a message to ElevenLabs."""
    return msgspec.json.encode({**fields, "context_id": context} if context else fields).decode()
