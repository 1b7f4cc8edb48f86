"""`Reconfigure`: how a native engine's configuration changes while it is connected."""

from __future__ import annotations

import asyncio

import anyio

from ...errors import ConfigurationError, DeadlineExceeded
from ..remote.connection import Connection
from ..remote.errors import ConnectionLost
from .dialect import Dialect
from .events import Configured, Refused


class Reconfigure:
    """The changes that a provider has been told and has not answered yet."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._open: dict[str, asyncio.Future[Refused | None]] = {}
        self._count = 0

    def new_id(self) -> str:
        """An id for a change."""
        self._count += 1
        return f"update_{self._count}"

    async def make(self, connection: Connection[Dialect], update_id: str, messages: list[str]) -> None:
        """Send a change and wait until it is in force. Raises ConfigurationError if the provider refuses it,
        ConnectionLost or DeadlineExceeded if nothing is known of it; the connection is left then."""
        if not connection.dialect.acknowledges_updates:
            connection.send(messages)
            return
        answer: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._open[update_id] = answer
        connection.send(messages)
        try:
            with anyio.fail_after(self._timeout_s):
                refused = await answer
        except TimeoutError as error:
            connection.lose("a change of the configuration was not answered")
            raise DeadlineExceeded("the provider did not answer the change") from error
        finally:
            del self._open[update_id]
        if refused is not None:
            raise ConfigurationError(f"{refused.code}: {refused.message}")

    def on_configured(self, event: Configured) -> None:
        """A change is in force."""
        self._settle(event.update_id, None)

    def on_refused(self, event: Refused) -> bool:
        """Whether it was a change that the provider has refused."""
        return self._settle(event.about, event)

    def lost(self) -> None:
        """The connection is gone: nobody will answer."""
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(ConnectionLost("the connection was lost"))

    def _settle(self, update_id: str, refused: Refused | None) -> bool:
        answer = self._open.get(update_id)
        if answer is None or answer.done():
            return False
        answer.set_result(refused)
        return True
