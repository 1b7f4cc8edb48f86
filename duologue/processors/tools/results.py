"""Results of tools as the plain JSON data that models receive."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ...frames.text import well_formed_data


def plain_result(result: Any, max_length: int) -> Any:
    """Return a result as plain JSON data; a longer one as a text, cut after `max_length` characters, with a notice.

    Numbers that JSON does not have, NaN and the infinities, become None. Models of pydantic, arrays and scalars of
    NumPy, and collections of any kind are data too. Raises an error for a value that is not JSON.
    """
    try:
        encoded = msgspec.json.encode(result, enc_hook=_plainer)
    except UnicodeEncodeError:  # a lone surrogate
        encoded = msgspec.json.encode(well_formed_data(msgspec.to_builtins(result, str_keys=True, enc_hook=_plainer)))
    plain = msgspec.json.decode(encoded) if encoded.startswith(b'"') else None
    text = plain if isinstance(plain, str) else encoded.decode()
    if len(text) > max_length:  # cut before anything else looks at each part of it: it may have megabytes
        return f"{well_formed_data(text[:max_length])} … [cut: {len(text)} characters, {max_length} shown]"
    return well_formed_data(text if isinstance(plain, str) else msgspec.json.decode(encoded))


def _plainer(value: Any) -> Any:
    """Return a value that msgspec does not know as one that it knows."""
    unknown = TypeError(f"it has a value of type {type(value).__name__}")
    if isinstance(value, type | list | tuple | dict | set | frozenset):  # such as a tuple in the place of a key
        raise unknown
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic
        return dump(mode="json")
    if callable(to_list := getattr(value, "tolist", None)):  # NumPy and its relatives
        return to_list()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Collection):
        return list(value)
    raise unknown
