"""`Results`: gives the results of tools to the provider that waits for them."""

from __future__ import annotations

from collections import Counter

from ...frames import ToolResult
from ...session.session import Session
from .provider import Provider


class Results:
    """Gives results to the connection that made the calls, and counts by turn those that no answer includes yet."""

    def __init__(self, session: Session, provider: Provider) -> None:
        self._session = session
        self._provider = provider
        self._given: Counter[int] = Counter()

    @property
    def awaited(self) -> bool:
        """True while the connection in use waits for a result."""
        connection = self._provider.connection
        return connection is not None and self._session.calls.owned(connection)

    @property
    def given(self) -> bool:
        """True while a result that was given has no answer."""
        return bool(self._given)

    def of(self, turn: int) -> int:
        """Return the number of results of a turn that were given and have no answer."""
        return self._given[turn]

    def give(self, result: ToolResult) -> bool:
        """Send a result to the connection that waits for it. Returns False if none is waiting."""
        provider_id = self._session.calls.claim(result.call_id, self._provider.connection)
        if provider_id is None:
            return False
        self._given[result.turn] += 1
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.tool_result(provider_id, result.name, result.result, respond=result.respond))
        return True

    def forget(self, turn: int, given: int) -> None:
        """Forget the results of a turn that the model has answered, unless there are more than these."""
        if self._given[turn] == given:
            del self._given[turn]

    def clear(self) -> None:
        """Forget the results of a connection that has ended."""
        self._given.clear()
