"""The page: plain ES modules, served unchanged, that load nothing from other servers."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "microphone=(self), camera=(self), display-capture=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Media types by suffix. The system's own table may call a script plain text, which browsers refuse to run."""


class PageFiles(StaticFiles):
    """The page's files, with headers that restrict it to its own server."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at `path`. Raises HTTPException if it does not exist."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        if response.status_code == 200:
            suffix = Path(path).suffix or ".html"
            response.headers["Content-Type"] = MEDIA_TYPES.get(suffix, "application/octet-stream")
        return response


def routes() -> list[BaseRoute]:
    """Return the page at the mount's root."""
    return [Mount("/", PageFiles(directory=STATIC, html=True))]
