"""Makes the texts of a call well-formed where they enter.

A text that cannot be encoded (clients that cut a text by UTF-16 units send half of a surrogate pair) would fail much
later, where it is sent on or replayed. Frames and log items derive from `WellFormed`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import repeat
from operator import is_
from typing import Any, ClassVar

import msgspec

from ..errors import BadInput

REPLACEMENT = "\ufffd"
"""Stands for what is not a character."""

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls except tab and line feed, byte order marks, and the overrides that show text in another order than it has.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\u202d\u202e]")
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff\ufeff]")
_OPEN_END = re.compile("[\ud800-\udbff\r]\\Z")

MAX_DEPTH = 64
"""The most levels of JSON that others send. Walks of deeper data could meet Python's limit, which is 1,000 calls."""
MAX_DATA_DEPTH = 100
"""The most levels of the plain data of a frame or of a log item: those of JSON, and what is wrapped around it."""


def well_formed(text: str) -> str:
    """Return the text in Unicode's form NFC, with U+FFFD for lone surrogates and without controls.

    Two surrogates that belong together become their character. Every line end becomes a line feed; tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return _datum(_LINE_END.sub("\n", text))


def _datum(text: str) -> str:
    if _SUSPECT.search(text):
        text = _UNWANTED.sub("", _SURROGATE.sub(REPLACEMENT, _PAIR.sub(_code_point, text)))
    return unicodedata.normalize("NFC", text)


def well_formed_data(value: Any) -> Any:
    """Return plain data whose texts, and keys, are well-formed. Line ends stay as they are.

    Data that is well-formed already is returned itself. Raises BadInput for more than 100 levels, for example for a
    list that holds itself.
    """
    return _data(value, 0)


def _data(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else _datum(value)
    if isinstance(value, dict):
        old: list[Any] = [part for pair in value.items() for part in pair]
    elif type(value) in (list, tuple):
        old = list(value)
    else:
        return value
    if depth >= MAX_DATA_DEPTH:
        raise BadInput(f"the data is nested more than {MAX_DATA_DEPTH} levels deep")
    new = list(map(_data, old, repeat(depth + 1)))
    if all(map(is_, new, old)):
        return value
    return dict(zip(new[::2], new[1::2], strict=True)) if isinstance(value, dict) else type(value)(new)


def _code_point(pair: re.Match[str]) -> str:
    high, low = map(ord, pair.group())
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class WellFormed:
    """Makes the text of a frame, or of another struct, well-formed when it is made. The subclasses name the fields.

    Raises BadInput for a field with something else than a text.
    """

    __slots__ = ()

    texts: ClassVar[tuple[str, ...]] = ()
    """The fields with a text."""
    plain_data: ClassVar[tuple[str, ...]] = ()
    """The fields with plain data, whose texts are made well-formed. Deeper data than 100 levels raises BadInput."""

    def __post_init__(self) -> None:
        for name in self.texts:
            text = getattr(self, name)
            if not isinstance(text, str):
                kind: Any = type(self)
                if text is None and name in _optional(kind):
                    continue
                raise BadInput(f"{type(self).__name__}.{name} is a text, not {type(text).__name__}")
            if text and not (text.isascii() and text.isprintable()):
                _set_field(self, name, well_formed(text))
        for name in self.plain_data:
            value = getattr(self, name)
            try:
                clean = _data(value, 0) if value else value
            except BadInput as error:
                raise BadInput(f"{type(self).__name__}.{name}: {error}") from None
            if clean is not value:
                _set_field(self, name, clean)


@cache
def _optional(struct: Any) -> frozenset[str]:
    """Return the fields that are None by default."""
    return frozenset(field.name for field in msgspec.structs.fields(struct) if field.default is None)


_set_field: Callable[[Any, str, Any], None] = msgspec.structs.force_setattr


class TextPieces:
    """Makes a text well-formed that comes in pieces, cut anywhere. The pieces, joined, are the text.

    The first half of a surrogate pair, or of a line end, waits for the next piece.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = ""

    def feed(self, piece: str) -> str:
        """Take the next piece. Returns the text that is certain."""
        if self._waiting:
            piece, self._waiting = self._waiting + piece, ""
        elif piece.isascii() and piece.isprintable():
            return piece
        if _OPEN_END.search(piece):
            piece, self._waiting = piece[:-1], piece[-1]
        return well_formed(piece)

    def flush(self) -> str:
        """End the text. Returns the rest of it."""
        rest, self._waiting = self._waiting, ""
        return well_formed(rest)


def joined(text: str, piece: str) -> str:
    """Return a well-formed text with a piece appended. A mark at the piece's begin may compose with the text's end."""
    if not text or piece[:1].isascii() or unicodedata.is_normalized("NFC", text[-1] + piece[:1]):
        return text + piece
    return unicodedata.normalize("NFC", text + piece)


_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_JSON_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def to_json(value: Any) -> str:
    """Return plain data as the text of a JSON value, without spaces. NaN and infinity become null.

    Raises BadInput for a value that JSON cannot hold, and for one that is nested too deep or holds itself.
    """
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"not a JSON value: {error}") from error


def from_json(data: str | bytes | bytearray, decoder: msgspec.json.Decoder[Any] = _any) -> Any:
    """Decode JSON of others, also with lone surrogates or escapes of them, which msgspec refuses and many senders make.

    Raises msgspec.DecodeError for malformed JSON and for more than 64 levels, and its subclass msgspec.ValidationError
    for a value that does not fit the decoder's type.
    """
    try:
        found = _decoded(data, decoder)
    except (UnicodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if _may_be_deep(data) and _is_deep(data):
        raise msgspec.DecodeError(f"JSON is nested more than {MAX_DEPTH} levels deep")
    return found


def _decoded(data: str | bytes | bytearray, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(data)
    except UnicodeEncodeError:
        assert isinstance(data, str)
        return _decoded(_SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", data), decoder)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        raw = data.encode(errors="replace") if isinstance(data, str) else data
        if not _SURROGATE_ESCAPE.search(raw):
            raise
        import json

        try:
            plain = json.loads(data)
        except ValueError as error:
            raise msgspec.DecodeError(str(error)) from error
        return msgspec.convert(plain, decoder.type)


def _may_be_deep(data: str | bytes | bytearray) -> bool:
    braces: Any = ("{", "[") if isinstance(data, str) else (b"{", b"[")
    # Counting looks at each character of a long audio message, finding does not.
    return any(_has_half(data, brace) for brace in braces) and sum(map(data.count, braces)) > MAX_DEPTH


def _has_half(data: Any, brace: Any) -> bool:
    """Return True if `brace` occurs 32 times."""
    at = -1
    for _ in range(MAX_DEPTH // 2):
        at = data.find(brace, at + 1)
        if at < 0:
            return False
    return True


def _is_deep(data: str | bytes | bytearray) -> bool:
    """Return True if valid JSON has more than 64 levels. Takes the innermost brackets away, level by level."""
    raw = data.encode(errors="replace") if isinstance(data, str) else data
    brackets = _JSON_TEXT.sub(b"", raw).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True
