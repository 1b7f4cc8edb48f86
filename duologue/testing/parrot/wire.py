"""Parrot's wire: the address, the key, and the messages as structs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from ...errors import ConfigurationError
from ...frames import Word
from ...services.remote import Wire, open_websocket
from ...services.remote.lenient import message_reader


class ParrotMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message from Parrot. `type` determines which fields have a meaning."""

    type: str
    text: str = ""
    final: bool = False
    last: bool = False
    confidence: float = 1.0
    words: tuple[tuple[str, float, float], ...] = ()
    context: str = ""
    audio: bytes = b""
    """The audio (base64 on the wire)."""
    left_s: float = 0.0
    code: str = ""
    message: str = ""

    def timed(self) -> tuple[Word, ...]:
        """Return the words with their times, each with the space after it."""
        return tuple(Word(f"{text} ", start_s, end_s) for text, start_s, end_s in self.words)


decode_parrot = message_reader(ParrotMessage, "Parrot")


def outgoing(kind: str, **fields: str) -> str:
    """Return a message to Parrot."""
    return msgspec.json.encode({"type": kind, **fields}).decode()


def checked_key(api_key: str) -> str:
    """Return the key, by default PARROT_API_KEY. Raises ConfigurationError without one."""
    key = api_key or os.environ.get("PARROT_API_KEY", "")
    if not key.strip():
        raise ConfigurationError("Parrot needs an API key: set PARROT_API_KEY or give api_key")
    return key


async def open_parrot(
    base_url: str, path: str, key: str, query: Sequence[tuple[str, str]], ssl_context: ssl.SSLContext | None
) -> Wire:
    """Open a connection. Raises ConnectionLost."""
    headers = {"Authorization": f"Parrot {key}"}
    return await open_websocket(f"{base_url}{path}?{urlencode(query)}", headers=headers, ssl_context=ssl_context)
