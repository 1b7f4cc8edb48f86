"""Reading messages that do not quite fit their type: a field of no importance does not cost the whole message."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from ...errors import BadInput
from ...frames.text import from_json

MAX_LEFT_OUT = 64
"""The most fields of one message that are left out."""

T = TypeVar("T")

_PLACE = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_BASE64 = str.maketrans("-_", "+/", " \t\r\n=")


def read_leniently(plain: Any, kind: type[T] | Any, left_out: list[str]) -> T:
    """Return plain JSON data as `kind`, without the fields and elements that do not fit.

    Removes these from `plain`, and appends the problem of each to `left_out`.

    Numbers may be texts. Raises the first msgspec.ValidationError if what is left lacks a field without a default.
    """
    first: msgspec.ValidationError | None = None
    for _ in range(MAX_LEFT_OUT):
        try:
            read: T = msgspec.convert(plain, kind, strict=False)
            return read
        except msgspec.ValidationError as error:
            first = first or error
            if not _leave_out(plain, str(error)):
                break
            left_out.append(str(error))
        except (UnicodeError, RecursionError) as error:  # half a character where base64 belongs
            raise msgspec.ValidationError(str(error)) from error
    assert first is not None
    raise first


def message_reader(kind: type[T], vendor: str) -> Callable[[str | bytes], T]:
    """Return a function that reads a message of a vendor as `kind`, without the fields that do not fit.

    It raises BadInput for a malformed message, and for one that lacks a field without a default.
    """
    decoder = msgspec.json.Decoder(kind)

    def read(message: str | bytes) -> T:
        try:
            try:
                return cast(T, from_json(message, decoder))
            except msgspec.ValidationError:  # it may also be malformed, behind the field that does not fit
                return read_leniently(from_json(message), kind, [])
        except msgspec.DecodeError as error:
            raise BadInput(f"not a message of {vendor}'s: {error}") from error

    return read


def _leave_out(plain: Any, error: str) -> bool:
    """Remove the value that an error names. Returns False if that is the whole message."""
    place = _PLACE.search(error)
    steps = [name or int(index) for name, index in _STEP.findall(place[1])] if place is not None else []
    if not steps:
        return False
    try:
        for step in steps[:-1]:
            plain = plain[step]
        del plain[steps[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def plain_base64(text: Any) -> Any:
    """Return base64 of either alphabet, with or without padding and breaks of lines, in the usual form.

    Other values than texts are returned as they are.
    """
    if not isinstance(text, str):
        return text
    text = text.translate(_BASE64)
    return text + "=" * (-len(text) % 4)


def audio_of(text: str, vendor: str) -> bytes:
    """Return audio that came in base64. Raises BadInput if it is not base64."""
    try:
        return b64decode(plain_base64(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"not audio of {vendor}'s: {error}") from error
