"""Values of a recorded call, made again from their records: frames, errors, messages of providers."""

from __future__ import annotations

from base64 import b64decode
from importlib import import_module
from typing import Any

import msgspec

from ... import errors
from ...frames import Frame
from ...services.remote.dialect import WireMessage
from ...services.remote.errors import ConnectionLost
from ...trace.recording import PACKAGE


def message_of(data: dict[str, Any]) -> WireMessage:
    """Return the message of a record."""
    if "text" in data:
        return str(data["text"])
    return str(data["utf8"]).encode() if "utf8" in data else b64decode(data["bytes"])


def value_of(plain: Any) -> Any:
    """Return the value of a call from its record."""
    if isinstance(plain, dict) and plain.keys() == {"$frame"}:
        return frame_of(plain["$frame"])
    if isinstance(plain, dict) and plain.keys() == {"$bytes"}:
        return b64decode(plain["$bytes"])
    if isinstance(plain, dict) and plain.keys() == {"$error"}:
        return error_of(plain["$error"])
    if isinstance(plain, dict) and plain.keys() == {"$struct", "fields"}:
        return _struct_of(plain["$struct"], plain["fields"])
    if isinstance(plain, list):
        return [value_of(each) for each in plain]
    if isinstance(plain, dict):
        return {name: value_of(each) for name, each in plain.items()}
    return plain


def _struct_of(name: str, fields: dict[str, Any]) -> Any:
    module, _, path = name.partition(":")
    kind = getattr(import_module(module), path, None) if module.startswith(PACKAGE) else None
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise errors.BadInput(f"the recorded {name!r} is of no type in this program")
    return kind(**{name: _tuple(value_of(value)) for name, value in fields.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def frame_of(plain: dict[str, Any]) -> Frame:
    """Return a frame from its record. Raises BadInput for one of an unknown type."""
    kind = next((kind for kind in _frame_types(Frame) if kind.__struct_config__.tag == plain.get("type")), None)
    if kind is None:
        raise errors.BadInput(f"the recorded frame {plain.get('type')!r} is of no type in this program")
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise errors.BadInput(f"the recorded frame {plain.get('type')!r} does not fit: {error}") from error


def _frame_types(kind: type[Frame]) -> list[type[Frame]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _frame_types(sub))]


def error_of(plain: dict[str, Any]) -> Exception:
    """Return an error like the recorded one."""
    name, message = str(plain.get("type", "")), str(plain.get("message", ""))
    if name == "ConnectionLost":
        more = {key: plain[key] for key in ("code", "fatal", "retry_after_s") if key in plain}
        return ConnectionLost(message, **more)
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, errors.DuologueError) and known not in _WITH_FIELDS:
        return known(message)
    other: Exception = type(name or "Exception", (Exception,), {})(message)
    return other


_WITH_FIELDS = (errors.MissingExtra, errors.IncompatiblePackage)
