"""`RemoteCall`: a call through a service that keeps a connection to a vendor."""

from __future__ import annotations

from duologue.frames import Usage
from duologue.testing import BareCall


class RemoteCall(BareCall):
    """A call whose service keeps a connection. Its `states` begin when the session has started."""

    _while_opening = 0

    async def start(self) -> None:
        await super().start()
        self._while_opening = len(super().states)

    @property
    def states(self) -> list[str]:
        """The states of the connection since the session started."""
        return super().states[self._while_opening :]

    @property
    def usage(self) -> list[Usage]:
        """The service's reports of its usage."""
        return self.came(Usage)

    @property
    def fatal(self) -> list[str]:
        """The messages of the errors that end a call."""
        return [error.message for error in self.errors if error.fatal]
