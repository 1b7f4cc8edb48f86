"""Tool results as values, read back from the texts on a wire."""

from __future__ import annotations

from typing import Any

import msgspec


def plain(text: str, wrapped_in: str = "") -> Any:
    """Return a result from its text: the value of the JSON, or the text itself if it is not JSON.

    `wrapped_in` is the key of an object that the wire puts around every result.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    if wrapped_in and isinstance(value, dict) and list(value) == [wrapped_in]:
        return value[wrapped_in]
    return value
