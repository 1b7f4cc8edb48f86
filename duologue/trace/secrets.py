"""`without_secrets`: a provider's message without the keys and tokens in it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec

SECRET = "(secret)"
_KEYS = re.compile(r"(api_?key|authorization|client_?secret|(access|refresh|auth)_?token|password|cookie)$")
_TOKEN = re.compile(r"\S{16,}")
"""The value of a `token` that is a secret: those of a language model are short."""
_HANDLES = frozenset({"handle", "newhandle", "new_handle"})
_IN_URL = re.compile(r"""([?&](?:[\w-]*key|[\w-]*token|signature|password)=)[^&#\s"\\]+""", re.IGNORECASE)
_ENDS = (b"key", b"authorization", b"secret", b"token", b"password", b"cookie")
"""The ends of the names of secrets."""
_MAX_DEPTH = 50


def without_secrets(part: bytes, *, handles: bool) -> bytes:
    """Return a provider's message, as JSON, without the values of keys and tokens, nor of `handles` unless they stay.

    JSON in texts and the parameters of URLs are looked through as well. A message without secrets stays as it is.
    """
    if not _may_have_secrets(part, (*_ENDS, b"handle") if not handles else _ENDS):
        return part
    with suppress(msgspec.MsgspecError, RecursionError, ValueError):
        data = msgspec.json.decode(part)
        cleaned = _cleaned(data, handles, 0)
        return part if cleaned is data else msgspec.json.encode(cleaned)
    return part


def _may_have_secrets(part: bytes, ends: tuple[bytes, ...]) -> bool:
    """Return False for nearly all messages, quickly: one of audio is a long text in base64 without quotes."""
    if b"=" in part and (b"?" in part or b"&" in part):
        return True
    return any(piece[-16:].rstrip(b"\\").lower().endswith(ends) for piece in part.split(b'"'))


def _cleaned(data: Any, handles: bool, depth: int) -> Any:
    """Return data without secrets: the same object if it has none."""
    if isinstance(data, str):
        return _cleaned_text(data, handles, depth)
    if depth > _MAX_DEPTH:
        return data
    if isinstance(data, dict):
        cleaned = {name: _cleaned_value(name, value, handles, depth) for name, value in data.items()}
        return cleaned if any(cleaned[name] is not value for name, value in data.items()) else data
    if isinstance(data, list):
        if len(data) == 2 and isinstance(data[0], str) and _is_secret(data[0], data[1], handles):  # a header
            return [data[0], _hidden(data[1])]
        parts = [_cleaned(value, handles, depth + 1) for value in data]
        return parts if any(new is not old for new, old in zip(parts, data, strict=True)) else data
    return data


def _cleaned_text(text: str, handles: bool, depth: int) -> str:
    if text[:1] in ("{", "[") and depth < _MAX_DEPTH:
        with suppress(msgspec.MsgspecError, RecursionError, ValueError):
            inner = msgspec.json.decode(text)
            cleaned = _cleaned(inner, handles, depth + 1)
            return text if cleaned is inner else msgspec.json.encode(cleaned).decode()
    return _IN_URL.sub(rf"\1{SECRET}", text) if "=" in text else text


def _cleaned_value(name: str, value: Any, handles: bool, depth: int) -> Any:
    return _hidden(value) if _is_secret(name, value, handles) else _cleaned(value, handles, depth + 1)


def _is_secret(name: str, value: Any, handles: bool) -> bool:
    name = name.lower().replace("-", "_")
    if name == "token":
        return isinstance(value, str) and _TOKEN.fullmatch(value) is not None
    return _KEYS.search(name) is not None or (not handles and name in _HANDLES)


def _hidden(value: Any) -> Any:
    """Return a value of the same shape without its texts."""
    if isinstance(value, str):
        return SECRET if value else value
    if isinstance(value, dict):
        return {name: _hidden(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_hidden(part) for part in value]
    return value
