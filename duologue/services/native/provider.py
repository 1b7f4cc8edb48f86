"""`Provider`: the far end of a native engine, as the engine's parts see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ..remote.connection import Connection
from .dialect import Dialect


class Provider:
    """The connection in use, which may change in mid-call or be missing.

    A part that changes the engine's state calls `notify`; a part that depends on it waits in `until`.
    """

    def __init__(self) -> None:
        self.connection: Connection[Dialect] | None = None
        """The connection in use."""
        self.live = False
        """True while the engine has the call: before and after that it only keeps its connection."""
        self.given_up = False
        """True once there is no connection and no further attempt."""
        self._watchers: list[asyncio.Future[None]] = []
        self._reactions: list[Callable[[], None]] = []

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the connection in use, None while the engine does not have the call or is not connected."""
        return self.connection.dialect if self.live and self.connection is not None else None

    def send(self, messages: Iterable[str]) -> None:
        """Send messages on the connection in use, if the engine has the call."""
        if self.live and self.connection is not None:
            self.connection.send(messages)

    def notify(self) -> None:
        """Say that the engine's state has changed: conditions are checked again."""
        for react in self._reactions:
            react()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def on_change(self, react: Callable[[], None]) -> None:
        """Call `react` with each `notify`, before those that wait go on."""
        self._reactions.append(react)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition about the engine's state."""
        while not condition():
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher
