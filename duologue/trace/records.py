"""`Record`: one record of a trace, and its line in the file."""

from __future__ import annotations

from base64 import b64decode
from contextlib import suppress
from typing import Any

import msgspec

from ..errors import BadInput

VERSION = 1
"""The version of the format. Another version is refused."""
MAX_CONTENT = 4 * 1024 * 1024
"""Bytes of one part of a record. A larger part is left out, and its size recorded."""
MAX_LINE = 2 * MAX_CONTENT + 64 * 1024
"""Bytes of a line. A file with a longer one is not a trace."""
PRIVATE = frozenset({"data", "handle", "hook", "input", "tool", "wire"})
"""The kinds of records whose data are private as a whole."""

NOTHING = msgspec.Raw()
"""Stands for a part that a record does not have."""
_BYTES = "$bytes"


class BadTrace(BadInput):
    """A file is not a trace, or not one that can be read. The message names the file, the line and the reason."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One record of a trace. `at` is session time in seconds, `call` the call's mark, the same in all its records.

    `data` and `words` are JSON as it was written; `facts` and `content` have it decoded. Each has a salted digest,
    which stays when the part is redacted. `hash` covers all but the parts themselves, and the hash before it.
    """

    seq: int
    call: str
    at: float
    kind: str
    source: str = ""
    data: msgspec.Raw = NOTHING
    salt: str = ""
    digest: str = ""
    words: msgspec.Raw = NOTHING
    words_salt: str = ""
    words_digest: str = ""
    hash: str

    @property
    def facts(self) -> Any:
        """The facts, decoded; None without them."""
        return _part_of(self.data)

    @property
    def private(self) -> Any:
        """The private part, decoded; None without it."""
        return _part_of(self.words)

    @property
    def content(self) -> Any:
        """Facts and private part together: one dictionary, or the part that is there. `bytes` if it was bytes."""
        facts, private = self.facts, self.private
        if isinstance(facts, dict) and isinstance(private, dict):
            return {**facts, **private}
        return private if facts is None else facts

    @property
    def redacted(self) -> bool:
        """True if a part was removed."""
        return bool(self.digest and not self.salt) or bool(self.words_digest and not self.words_salt)


def _part_of(part: msgspec.Raw) -> Any:
    if not bytes(part):
        return None
    data = msgspec.json.decode(part)
    if isinstance(data, dict) and data.keys() == {_BYTES}:
        with suppress(ValueError, TypeError):  # it was not made by `encode_part`
            return b64decode(data[_BYTES])
    return data


_MAX_DEPTH = 50
_RESERVED = frozenset({"begin", "end", "gap", "redaction", "seal"})
_encoder = msgspec.json.Encoder(enc_hook=lambda value: _repr_of(value))
_decoder = msgspec.json.Decoder(Record)


def _repr_of(value: object) -> str:
    try:
        return repr(value)[:1_000]
    except BaseException:  # of the application's object
        return type(value).__name__


def safe_name(name: object) -> str:
    """Return a kind or a source as a record can have it: a text that can be encoded, of at most 200 characters."""
    text = name if isinstance(name, str) else _repr_of(name)
    return text[:200] if text.isascii() else text[:200].encode(errors="replace").decode()


def own_kind(kind: object) -> str:
    """Return a kind that is given from outside. Those by which the trace itself is read get another name."""
    name = safe_name(kind)
    return f"noted {name}" if name in _RESERVED else name


def _encodable(value: Any, depth: int) -> Any:
    """Return data with a description in the place of each part that cannot be encoded."""
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {safe_name(key): _encodable(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encodable(part, depth + 1) for part in value]
    if value is None or isinstance(value, bool | float | bytes) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return _repr_of(value).encode(errors="replace").decode()


def encode_part(data: Any) -> bytes:
    """Return a part as JSON. Never raises: what cannot be encoded is described. "" for None."""
    if data is None:
        return b""
    if isinstance(data, bytes | bytearray | memoryview):
        data = {_BYTES: data}
    try:
        part = _encoder.encode(data)
    except Exception:
        part = _encoder.encode(_encodable(data, 0))
    if len(part) > MAX_CONTENT:
        part = _encoder.encode({"left_out_bytes": len(part)})
    return part


def line_of(record: Record) -> bytes:
    """Return the line of a record, with its line feed."""
    return _encoder.encode(record) + b"\n"


def record_of(line: bytes) -> Record:
    """Return the record of a line. Raises BadTrace with the reason."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise BadTrace(f"not a record: {error}") from error
