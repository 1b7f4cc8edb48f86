"""Seven clients that send valid messages as fast as they can, in a process of their own, until its input closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.fuzz import samples

_READY = json.dumps(samples.rtvi("client-ready", {"version": "2.2.0"}))
_TEXT = json.dumps(samples.rtvi("send-text", {"content": "hello"}))
_ITEM = json.dumps(
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
    }
)
FLOODS: Sequence[tuple[str, str | bytes, str | bytes | None]] = (
    ("/ws", json.dumps({"type": "ping"}), None),
    ("/ws?format=binary", bytes(64), None),
    ("/ws", _TEXT, _READY),
    ("/ws", json.dumps(samples.rtvi("client-message", {"t": "hello", "d": 1})), _READY),
    ("/ws/protobuf", samples.PROTOBUF[1], None),
    ("/v1/realtime?model=m", _ITEM, None),
    ("/websocket/offer", json.dumps({"event": "ping"}), json.dumps({"event": "start", "websocket_id": "flood"})),
)
"""The door, the message, and the first message of each client."""


async def flood(address: str, token: str, door: str, message: str | bytes, first: str | bytes | None) -> None:
    """Send the message over and over, and come back when the server cuts the connection."""
    headers = {"Authorization": f"Bearer {token}"}
    while True:
        with contextlib.suppress(OSError, WebSocketException):
            async with connect(
                address + door, compression=None, ping_interval=None, max_queue=None, additional_headers=headers
            ) as connection:
                reader = asyncio.create_task(_read(connection))
                try:
                    if first is not None:
                        await connection.send(first)
                    while True:
                        await connection.send(message)
                        await asyncio.sleep(0)
                finally:
                    reader.cancel()
        await asyncio.sleep(0.01)


async def _read(connection: object) -> None:
    with contextlib.suppress(WebSocketException):
        async for _ in connection:  # type: ignore[attr-defined]
            pass


async def main(address: str, token: str) -> None:
    """Flood until the input closes."""
    floods = [asyncio.create_task(flood(address, token, *each)) for each in FLOODS]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in floods:
        task.cancel()


if __name__ == "__main__":
    os.nice(10)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
