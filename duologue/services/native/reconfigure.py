"""`Reconfigure`: changes of the configuration on the connection in use."""

from __future__ import annotations

import asyncio

import anyio

from ...agents.engine import EngineConfig
from ...errors import ConfigurationError, DeadlineExceeded
from ..remote.connection import Connection
from ..remote.errors import ConnectionLost
from .dialect import Configured, Dialect, Refused


class Reconfigure:
    """Changes of the configuration that the provider has not answered yet."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._open: dict[str, asyncio.Future[Refused | None]] = {}
        self._count = 0

    async def apply(self, connection: Connection[Dialect], config: EngineConfig) -> bool:
        """Change the configuration in place and wait until it is in force.

        Returns False if the change needs a new connection. Raises ConfigurationError if the provider refuses it, and
        ConnectionLost or DeadlineExceeded without an answer, after which the connection is given up.
        """
        self._count += 1
        update_id = f"update_{self._count}"
        messages = connection.dialect.update(update_id, config)
        if messages is None:
            return False
        if not connection.dialect.acknowledges_updates:
            connection.send(messages)
            return True
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
        return True

    def on_configured(self, event: Configured) -> None:
        """Complete a change that is in force."""
        self._settle(event.update_id, None)

    def on_refused(self, event: Refused) -> bool:
        """Fail the change that the provider refuses. Returns False if the refusal is not about a change."""
        return self._settle(event.about, event)

    def lost(self) -> None:
        """Fail all changes: the connection has ended, and no answer will come."""
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(ConnectionLost("the connection was lost"))

    def _settle(self, update_id: str, refused: Refused | None) -> bool:
        answer = self._open.get(update_id)
        if answer is None or answer.done():
            return False
        answer.set_result(refused)
        return True
