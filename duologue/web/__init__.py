"""Calls over the web: `routes` to mount, a page for callers, and an endpoint of the OpenAI Realtime API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily
from ..errors import MissingExtra
from ..transports.client import ClientTransport

try:
    from .app import VoiceApp, openai_realtime_app, routes
    from .auth import Auth, token_auth
    from .calls import MakeSession, WebLimits
    from .realtime.transport import RealtimeTransport
    from .refusals import ClientRefused
except ImportError as error:
    if (error.name or "").split(".")[0] != "starlette":
        raise
    raise MissingExtra("a web server", "web", str(error)) from error

if TYPE_CHECKING:
    from .server import uvicorn_options as uvicorn_options

_names, __getattr__ = lazily(__name__, {"server": "uvicorn_options"}, globals())  # it imports uvicorn
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
    "uvicorn_options",
]
