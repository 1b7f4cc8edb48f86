"""Results of a server's tools, prompts and resources, as a model receives them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from ..agents.sources import WithImages
from ..errors import ToolError
from ..frames import UserImage
from .lines import one_line
from .package import wire

MAX_IMAGES = 4
"""Images of one result that reach the model."""
MAX_IMAGE_BYTES = 4 * 1024 * 1024
IMAGE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
"""The types of images that models take."""
ERROR_LENGTH = 500
"""Characters of a tool's error that reach the model."""


def tool_result(answer: wire.CallToolResult) -> Any:
    """Return the result of a tool: its text, its structured content if that says more, and its images.

    Raises ToolError, in one line, for a result that the server marks as an error.
    """
    images = [block for block in answer.content if isinstance(block, wire.ImageContent)]
    shown, notes = _images(images)
    texts = [text for block in answer.content if (text := _block_text(block))]
    if answer.is_error:
        raise ToolError(one_line(" ".join(texts), ERROR_LENGTH) or "the tool failed, and does not say why")
    result = _combined(texts, answer.structured_content, notes)
    return WithImages(result, tuple(shown)) if shown else result


def _combined(texts: Sequence[str], data: Any, notes: Sequence[str]) -> Any:
    if data is not None and (not texts or _repeats(texts, data)):
        plain = data["result"] if isinstance(data, dict) and data.keys() == {"result"} else data
        return {"result": plain, "images": " ".join(notes)} if notes else plain
    text = "\n".join([*texts, *notes])
    return text if data is None else {"text": text, "data": data}


def _repeats(texts: Sequence[str], data: Any) -> bool:
    """Return True if the texts are the data once more, as servers send it for older clients."""
    wrapped = isinstance(data, dict) and data.keys() == {"result"}
    read: list[Any] = []
    for text in texts:
        try:
            read.append(json.loads(text))
        except (ValueError, RecursionError):
            read.append(text)
    candidates = [data, [data]] if not wrapped else [data, [data], data["result"], [data["result"]]]
    return read in candidates or (wrapped and list(texts) == [data["result"]])


def _block_text(block: wire.ContentBlock) -> str:
    """Return a part of a result as text. Images have none."""
    if isinstance(block, wire.TextContent):
        return block.text
    if isinstance(block, wire.AudioContent):
        return f"(audio of type {one_line(block.mime_type)}, which cannot be played to you)"
    if isinstance(block, wire.ResourceLink):
        about = f": {one_line(block.description)}" if block.description else ""
        return f"(a resource: {one_line(block.title or block.name)}, {one_line(str(block.uri))}{about})"
    if isinstance(block, wire.EmbeddedResource):
        return resource_text([block.resource])
    return ""


def _images(blocks: Sequence[wire.ImageContent]) -> tuple[list[UserImage], list[str]]:
    """Return the images that models take, and a note for the model on all of them."""
    shown: list[UserImage] = []
    refused: list[str] = []
    for block in blocks:
        mime = one_line(block.mime_type.lower(), 60)
        try:
            image = base64.b64decode(block.data, validate=True)
        except (binascii.Error, ValueError):
            refused.append("its data is not base64")
            continue
        if mime not in IMAGE_TYPES:
            refused.append(f"models take no {mime or 'unknown type'}")
        elif not 0 < len(image) <= MAX_IMAGE_BYTES:
            refused.append(f"it has {len(image)} bytes")
        elif len(shown) == MAX_IMAGES:
            refused.append(f"only {MAX_IMAGES} are shown")
        else:
            shown.append(UserImage(image=image, mime=mime))
    notes = [f"(an image that cannot be shown: {why})" for why in refused[:MAX_IMAGES]]
    if shown:
        notes.insert(0, "(an image follows)" if len(shown) == 1 else f"({len(shown)} images follow)")
    return shown, notes


def resource_text(contents: Sequence[wire.TextResourceContents | wire.BlobResourceContents]) -> str:
    """Return resources as text. One that is not text is named."""
    return "\n".join(
        content.text
        if isinstance(content, wire.TextResourceContents)
        else f"({one_line(str(content.uri))} is {one_line(content.mime_type or 'data')}, not text)"
        for content in contents
    )


def prompt_text(prompt: wire.GetPromptResult) -> str:
    """Return the messages of a prompt as text. Those of an assistant are marked."""
    lines = []
    for message in prompt.messages:
        text = _block_text(message.content) or "(an image)"
        lines.append(f"Assistant: {text}" if message.role == "assistant" else text)
    return "\n\n".join(lines)
