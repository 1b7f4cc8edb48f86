"""WebRTC's signalling over HTTP: that of Pipecat's small-webrtc clients, and FastRTC's."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from .calls import Calls


def routes(calls: Calls, ice_servers: Sequence[str] = ()) -> list[BaseRoute]:
    """The endpoints."""
    return []
