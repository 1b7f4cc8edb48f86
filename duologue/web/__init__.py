"""Calls over the web: `routes` to mount, a page for callers, and an endpoint of the OpenAI Realtime API."""

from __future__ import annotations

from ..errors import MissingExtra
from ..transports.client import ClientTransport

try:
    from .app import VoiceApp, openai_realtime_app, routes
    from .calls import Auth, ClientRefused, MakeSession, WebLimits, token_auth
    from .realtime.transport import RealtimeTransport
except ImportError as error:
    if (error.name or "").split(".")[0] != "starlette":
        raise
    raise MissingExtra("a web server", "web", str(error)) from error

__all__ = [
    "Auth",
    "ClientRefused",
    "ClientTransport",
    "MakeSession",
    "RealtimeTransport",
    "VoiceApp",
    "WebLimits",
    "openai_realtime_app",
    "routes",
    "token_auth",
]
