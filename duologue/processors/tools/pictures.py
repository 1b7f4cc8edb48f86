"""Images in the results of tools, on their way to the model."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from ...agents.sources import WithImages
from ...errors import BadInput
from ...frames import ToolCall
from ..processor import Processor

READY_S = 3.0
"""The longest time that a result waits until its images are ready for the model, in seconds."""


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
