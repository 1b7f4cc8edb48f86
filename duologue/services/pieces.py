"""What a language model gives, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from ..errors import DeadlineExceeded
from ..frames import Usage
from .messages import ToolRequest

Pieces = AsyncIterator[str | ToolRequest | Usage]


async def fixed(text: str) -> Pieces:
    """A text as it stands."""
    yield text


async def without_calls(pieces: Pieces) -> Pieces:
    """All but the tool requests."""
    try:
        async for piece in pieces:
            if not isinstance(piece, ToolRequest):
                yield piece
    finally:
        await close(pieces)


async def next_piece(pieces: Pieces, timeout_s: float) -> str | ToolRequest | Usage | None:
    """The next piece, None after the last. Raises DeadlineExceeded if it takes too long."""
    with anyio.move_on_after(timeout_s) as scope:
        return await anext(pieces, None)
    assert scope.cancelled_caught
    raise DeadlineExceeded(f"the model gave nothing for {timeout_s:g} s")


async def close(pieces: Pieces) -> None:
    """Let the model go, whether it has given all or not."""
    end = getattr(pieces, "aclose", None)
    if end is not None:
        await end()
