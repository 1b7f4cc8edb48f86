"""Cartesia's address and messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...frames import Word
from ..remote.dialect import Refused, Wire
from ..remote.errors import fatal
from ..remote.keyed import Keyed, O
from ..remote.lenient import message_reader

VERSION = "2026-03-01"
"""The version of the API."""
FINAL_STATUSES = (401, 402, 403)
"""Statuses of errors that other contexts would have, too: the key, the credit, a permission."""


class CartesiaService(Keyed[O]):
    """The base of Cartesia's services."""

    vendor, address = "Cartesia", "wss://api.cartesia.ai"

    async def open_cartesia(self, path: str, query: Mapping[str, str]) -> Wire:
        """Open a connection to a path of the API. Raises ConnectionLost."""
        headers = {"X-API-Key": self.key, "Cartesia-Version": VERSION}
        return await self.open_path(path, {**query, "cartesia_version": VERSION}, headers)


class HeardMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the speech-to-text. `type` determines which fields have a meaning."""

    type: str
    text: str | None = None
    is_final: bool | None = None
    language: str | None = None
    status_code: int | None = None
    error_code: str | None = None
    message: str | None = None


decode_heard = message_reader(HeardMessage, "Cartesia")


class WordTimestamps(msgspec.Struct, frozen=True, kw_only=True):
    """Words, with their starts and ends in seconds of the audio of their context."""

    words: tuple[str, ...] = ()
    start: tuple[float, ...] = ()
    end: tuple[float, ...] = ()

    def timed(self, begin_s: float) -> tuple[Word, ...]:
        """Return the words, for a context whose audio begins at `begin_s`. Returns () if the lists differ in length."""
        if not len(self.words) == len(self.start) == len(self.end):
            return ()
        triples = zip(self.words, self.start, self.end, strict=True)
        return tuple(Word(word, begin_s + start, begin_s + end) for word, start, end in triples)


class SonicMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message about a context. `type` determines which fields have a meaning."""

    type: str
    context_id: str | None = None
    data: str | None = None
    """Audio in base64."""
    word_timestamps: WordTimestamps | None = None
    status_code: int | None = None
    error_code: str | None = None
    title: str | None = None
    message: str | None = None

    def refused(self, about: str) -> Refused:
        """Return the refusal in an error about a context, "" for an error of the connection."""
        code, status = self.error_code or str(self.status_code or "error"), self.status_code or 0
        final = fatal(reason=code) or status in FINAL_STATUSES
        return Refused(code=code, message=self.message or self.title or "", about=about, fatal=final)


decode_speech = message_reader(SonicMessage, "Cartesia")


def cartesia_message(**fields: Any) -> str:
    """Return a message to Cartesia."""
    return msgspec.json.encode(fields).decode()
