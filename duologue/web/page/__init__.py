"""The page: plain ES modules, served as they are."""

from __future__ import annotations

from pathlib import Path

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles


def routes() -> list[BaseRoute]:
    """The page at the mount's root."""
    return [Mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True))]
