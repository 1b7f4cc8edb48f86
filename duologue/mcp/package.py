"""The names of the official package that are used here. Importing this raises MissingExtra without the package."""

from __future__ import annotations

from ..errors import MissingExtra

try:
    import httpx2
    import mcp.types as wire
    from mcp import Client, MCPError
    from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
    from mcp.client.stdio import get_default_environment
    from mcp.client.streamable_http import streamable_http_client
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
    from mcp.shared.auth import (
        OAuthClientInformationFull,
        OAuthClientMetadata,
        OAuthMetadata,
        OAuthToken,
        ProtectedResourceMetadata,
    )
    from mcp.shared.message import SessionMessage
except ImportError as error:
    raise MissingExtra("mcp", "mcp", str(error)) from error

__all__ = [
    "AuthorizationCodeResult",
    "Client",
    "ListenNotSupportedError",
    "MCPError",
    "OAuthClientInformationFull",
    "OAuthClientMetadata",
    "OAuthClientProvider",
    "OAuthMetadata",
    "OAuthToken",
    "ProtectedResourceMetadata",
    "SessionMessage",
    "SubscriptionLost",
    "get_default_environment",
    "httpx2",
    "streamable_http_client",
    "wire",
]
