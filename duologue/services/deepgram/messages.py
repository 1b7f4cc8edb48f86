"""Deepgram's messages to a listener as structs. Fields without a meaning for a service are left out."""

from __future__ import annotations

import msgspec

from ...frames import Word
from ..remote.lenient import message_reader


class _NovaWord(msgspec.Struct, frozen=True, kw_only=True):
    word: str
    start: float
    end: float
    confidence: float = 1.0
    punctuated_word: str = ""

    def timed(self) -> Word:
        """Return the word with its times and the space after it."""
        return Word(f"{self.punctuated_word or self.word} ", self.start, self.end)


class _Alternative(msgspec.Struct, frozen=True, kw_only=True):
    transcript: str = ""
    confidence: float = 1.0
    languages: tuple[str, ...] | None = None
    words: tuple[_NovaWord, ...] | None = None


class NovaChannel(msgspec.Struct, frozen=True, kw_only=True):
    alternatives: tuple[_Alternative, ...] = ()


class ListenMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of `/v1/listen`. `type` determines which fields have a meaning."""

    type: str
    start: float = 0.0
    duration: float = 0.0
    is_final: bool | None = None
    from_finalize: bool | None = None
    channel: NovaChannel | tuple[int, ...] | None = None
    """The texts in `Results`; the channel's numbers in other messages."""
    code: str | None = None
    variant: str | None = None
    description: str | None = None
    message: str | None = None


decode_listen = message_reader(ListenMessage, "Deepgram")


class _FluxWord(msgspec.Struct, frozen=True, kw_only=True):
    word: str
    confidence: float = 1.0
    start: float | None = None
    end: float | None = None


class FluxMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of `/v2/listen`. `type` determines which fields have a meaning, and `event` that of a `TurnInfo`."""

    type: str
    request_id: str = ""
    event: str = ""
    turn_index: int = 0
    audio_window_end: float = 0.0
    transcript: str = ""
    words: tuple[_FluxWord, ...] = ()
    end_of_turn_confidence: float = 1.0
    languages: tuple[str, ...] | None = None
    code: str | None = None
    description: str | None = None


decode_flux = message_reader(FluxMessage, "Deepgram")
