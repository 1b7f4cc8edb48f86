"""Results of tools on their way to the model: as plain JSON data, and their images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import anyio
import msgspec

from ...agents.sources import WithImages
from ...errors import BadInput
from ...frames import ToolCall
from ...frames.text import well_formed_data
from ..processor import Processor

READY_S = 3.0
"""The longest time that a result waits until its images are ready for the model, in seconds."""


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


async def show_images(tools: Processor, call: ToolCall, told: WithImages) -> Any:
    """Give the images of a result to the engine, and return the rest of it once the model can see them.

    The rest has a note if the engine refuses an image, or if it is not ready in time.
    """
    conversation = tools.session.conversation
    ids = [f"{call.call_id}_image_{number}" for number in range(len(told.images))]
    moved = anyio.Event()
    stop = conversation.listen(lambda item: moved.set())
    try:
        for id, image in zip(ids, told.images, strict=True):
            await tools.push_up(msgspec.structs.replace(image, id=id))
        with anyio.move_on_after(READY_S):
            while any((item := conversation.get(id)) is not None and item.status == "in_progress" for id in ids):
                await moved.wait()
                moved = anyio.Event()
    except BadInput as error:
        return _noted(told, str(error))
    finally:
        stop()
    seen = [item for id in ids if (item := conversation.get(id)) is not None and item.name == "image"]
    return told.result if len(seen) == len(ids) else _noted(told, "they are refused by the engine")


def _noted(told: WithImages, why: str) -> Any:
    return {"result": told.result, "note": f"you cannot see the images: {why}"}
