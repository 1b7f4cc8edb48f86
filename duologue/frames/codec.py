"""Frames as bytes and back: MessagePack (compact) or JSON (readable). msgspec checks every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Union

import msgspec

from ..errors import BadInput
from .base import Control, Frame, Input, Output, Signal

Format = Literal["msgpack", "json"]

SCHEMA_VERSION = 1
"""The version of the frames' fields. It grows when a field is removed or changes its type, not when one is added."""

_FAMILIES: set[type[Frame]] = {Frame, Signal, Input, Output, Control}
_decoders: dict[Format, tuple[int, Any]] = {}
_clashes: dict[str, str] = {}  # tags that several types share, and these types


def _concrete(base: type[Frame]) -> Iterator[type[Frame]]:
    for cls in base.__subclasses__():
        if cls not in _FAMILIES:
            yield cls
        yield from _concrete(cls)


def frame_types() -> tuple[type[Frame], ...]:
    """Return every frame type that is defined, the application's own included."""
    return tuple(dict.fromkeys(_concrete(Frame)))


def _decoder(format: Format) -> Any:
    types_made, decoder = _decoders.get(format, (0, None))
    if types_made != Frame.types_made:
        make: Any = msgspec.msgpack.Decoder if format == "msgpack" else msgspec.json.Decoder
        types_made = Frame.types_made
        by_name: dict[Any, list[type[Frame]]] = {}
        for frame_type in frame_types():
            by_name.setdefault(frame_type.__struct_config__.tag, []).append(frame_type)
        _clashes.clear()
        _clashes.update(
            (name, " and ".join(f"{t.__module__}.{t.__qualname__}" for t in types))
            for name, types in by_name.items()
            if len(types) > 1
        )
        unique = tuple(types[0] for types in by_name.values() if len(types) == 1)
        decoder = make(Union[unique])  # noqa: UP007 - built from a tuple
        _decoders[format] = (types_made, decoder)
    return decoder


def encode(frame: Frame, format: Format = "msgpack") -> bytes:
    """Return the frame as bytes, with the tag of its type.

    Raises BadInput for a value that cannot be encoded, for example an object in a tool's result. JSON cannot hold NaN
    and infinity: they become null.
    """
    try:
        return msgspec.msgpack.encode(frame) if format == "msgpack" else msgspec.json.encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"{type(frame).__name__} cannot be encoded: {error}") from error


def decode(data: bytes, format: Format = "msgpack") -> Frame:
    """Return the frame in `data`.

    Raises BadInput, naming the field, for malformed bytes, an unknown tag, a missing or wrong value, and a tag that
    several types share.
    """
    try:
        frame: Frame = _decoder(format).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        shared = next((whose for name, whose in _clashes.items() if f"value '{name}'" in str(error)), "")
        why = f"{error}: the name is shared by {shared}" if shared else str(error)
        raise BadInput(f"not a frame: {why}") from error
    return frame
