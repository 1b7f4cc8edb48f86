"""Frames as bytes and back: MessagePack (compact) or JSON (readable). msgspec checks every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Union

import msgspec

from ..errors import BadInput
from .base import Control, Frame, Input, Output, Signal

Format = Literal["msgpack", "json"]

_FAMILIES: set[type[Frame]] = {Frame, Signal, Input, Output, Control}
_decoders: dict[Format, tuple[int, Any]] = {}


def _concrete(base: type[Frame]) -> Iterator[type[Frame]]:
    for cls in base.__subclasses__():
        if cls not in _FAMILIES:
            yield cls
        yield from _concrete(cls)


def frame_types() -> tuple[type[Frame], ...]:
    """Every frame type there is now, the application's own included."""
    return tuple(dict.fromkeys(_concrete(Frame)))


def _decoder(format: Format) -> Any:
    types_made, decoder = _decoders.get(format, (0, None))
    if types_made != Frame.types_made:
        make: Any = msgspec.msgpack.Decoder if format == "msgpack" else msgspec.json.Decoder
        types_made = Frame.types_made
        try:
            decoder = make(Union[frame_types()])  # noqa: UP007 - built from a tuple
        except TypeError as error:
            raise BadInput(f"two frame types share a name: {error}") from error
        _decoders[format] = (types_made, decoder)
    return decoder


def encode(frame: Frame, format: Format = "msgpack") -> bytes:
    """The frame as bytes, tagged with its type's name.

    Raises BadInput for a value that has no plain form (an object in a tool result, say). JSON has no NaN and no
    infinity: they become null.
    """
    try:
        return msgspec.msgpack.encode(frame) if format == "msgpack" else msgspec.json.encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"{type(frame).__name__} cannot be encoded: {error}") from error


def decode(data: bytes, format: Format = "msgpack") -> Frame:
    """The frame in `data`.

    Raises BadInput, naming the field, for malformed bytes, an unknown type, a missing or a wrong value.
    """
    try:
        frame: Frame = _decoder(format).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise BadInput(f"not a frame: {error}") from error
    return frame
