"""WebSocket endpoints: JSON and binary PCM, Pipecat's protobuf frames, FastRTC's."""

from __future__ import annotations

from starlette.routing import BaseRoute

from .calls import Calls


def routes(calls: Calls) -> list[BaseRoute]:
    """The endpoints."""
    return []
