"""ElevenLabs' address, key and refusals.

The connections are plain WebSockets, not the SDK's: it has no asynchronous text-to-speech over a WebSocket, and its
speech-to-text calls functions from a task of its own, which reads faster than they act, and drops unknown messages.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ...errors import ConfigurationError, public_address
from ...frames.text import from_json
from ..remote import ConnectionLost, Wire, fatal, open_websocket

BASE_URL = "https://api.elevenlabs.io"
Query = Sequence[tuple[str, str]]


def checked_url(base_url: str) -> str:
    """Return the address without a slash at its end. Raises ConfigurationError unless it is one of HTTP."""
    url = (base_url or BASE_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"base_url is {public_address(url)!r}: it begins with http:// or https://")
    return url


async def open_elevenlabs(
    base_url: str, path: Sequence[str], key: str, query: Query, ssl_context: ssl.SSLContext | None
) -> Wire:
    """Open a connection. Raises ConnectionLost, with ElevenLabs' reason."""
    segments = "/".join(quote(segment, safe="") for segment in path)
    address = f"ws{base_url.removeprefix('http')}/v1/{segments}?{urlencode(query, quote_via=quote)}"
    try:
        return await open_websocket(address, headers={"xi-api-key": key}, ssl_context=ssl_context, extra="elevenlabs")
    except ConnectionLost as error:
        response = getattr(error.__cause__, "response", None)
        if response is None:
            raise
        raise http_refusal(response.status_code, bytes(response.body or b""), error.retry_after_s) from error.__cause__


def http_refusal(status: int, body: Any, retry_after_s: float | None = None) -> ConnectionLost:
    """Return the ConnectionLost for an HTTP status and its body: JSON, or the value that was read from it."""
    code, message = _code_and_message(body)
    told = ": ".join(part for part in (code, message) if part)
    text = f"ElevenLabs refused: HTTP {status} {told}".rstrip()
    return ConnectionLost(text, code=status, fatal=fatal(status=status, reason=code), retry_after_s=retry_after_s)


def _code_and_message(body: Any) -> tuple[str, str]:
    """Return the code and the message of a refusal, "" for a part that it lacks."""
    if isinstance(body, bytes | str):
        try:
            body = from_json(body)
        except msgspec.DecodeError:
            return "", ""
    detail = body.get("detail", body) if isinstance(body, dict) else body
    if isinstance(detail, list) and detail:  # a value that does not fit its type
        first = detail[0] if isinstance(detail[0], dict) else {}
        place = ".".join(map(str, first.get("loc") or ()))
        return "validation_error", f"{place}: {first.get('msg', '')}"[:200]
    if not isinstance(detail, dict):
        return "", str(detail or "")[:200]
    code = detail.get("code") or detail.get("status") or detail.get("type") or ""
    return str(code)[:100], str(detail.get("message") or "")[:200]
