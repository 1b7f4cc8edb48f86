"""`Results`: gives the results of tools to the provider, and knows which of them have no answer yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from ...frames import ToolResult
from ...session.session import Session
from ...session.tool_calls import RegisteredCall
from .provider import Provider
from .turns import Turns


class _Sent(NamedTuple):
    """The results of one turn that were given to the connection in use, and the state at the latest of them."""

    number: int
    begun: int
    """The number of replies that had begun."""
    owed: int
    """The number of replies that were asked for before, and had not begun."""
    moves: int
    """The moves of the caller."""
    last: bool
    """True if the provider answers it by itself: it asks for an answer, and waits for no other result."""


class Results:
    """Gives results to the connection that made the calls, and counts by turn those that no answer includes yet.

    `owed` returns the number of replies that were asked for and have not begun.
    """

    def __init__(self, session: Session, provider: Provider, turns: Turns, owed: Callable[[], int]) -> None:
        self._session = session
        self._provider = provider
        self._turns = turns
        self._owed = owed
        self._given: dict[int, _Sent] = {}  # by turn
        self.begun = 0
        """The number of replies that have begun."""

    @property
    def awaited(self) -> bool:
        """True while the connection in use waits for a result."""
        connection = self._provider.connection
        return connection is not None and self._session.calls.owned(connection)

    @property
    def given(self) -> bool:
        """True while a result that was given has no answer."""
        return bool(self._given)

    def given_in(self, result: ToolResult | None) -> dict[int, int]:
        """Return the number of results without an answer in the turn of a result, without it in each turn."""
        turns = self._given if result is None else {result.turn} & self._given.keys()
        return {turn: self._given[turn].number for turn in turns}

    def give(self, result: ToolResult) -> bool:
        """Send a result to the connection that waits for it. Returns False if none is waiting."""
        provider_id = self._session.calls.claim(result.call_id, self._provider.connection)
        if provider_id is None:
            return False
        before = self._given.get(result.turn)
        self._given[result.turn] = _Sent(
            number=before.number + 1 if before is not None else 1,
            begun=self.begun,
            owed=self._owed(),
            moves=self._turns.moves,
            last=result.respond and not self.awaited,
        )
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.tool_result(provider_id, result.name, result.result, respond=result.respond))
        return True

    def give_again(self, call: RegisteredCall, turn: int) -> ToolResult | None:
        """Let the connection in use have the result of a call that it tells again: now, or when it comes.

        Returns the result that was sent, None if it is still to come. An answer to it is due in this turn.
        """
        call.owner = self._provider.connection
        if (result := self._session.conversation.get(call.result_id)) is None:
            return None
        frame = ToolResult(call_id=call.id, name=call.name, turn=turn, result=result.data)
        self.give(frame)
        return frame

    def answered_by_itself(self, turn: int) -> bool:
        """Return True if the provider answers the results of a turn that were given without a request."""
        return self._answers_itself and turn in self._given

    def no_reply_since(self, turn: int) -> bool:
        """Return True if results of a turn were given, and no reply has begun since."""
        given = self._given.get(turn)
        return given is not None and given.begun == self.begun

    def answer(self, given: Mapping[int, int], turn: int) -> Literal["wanted", "due", "given"]:
        """Return the state of the answer to results, which stands in `turn`: it must be asked for, the provider will
        give it by itself, or it has begun to.

        An answer in a later turn than that of the results is asked for if it is not certain that the provider gives it:
        if it owed another reply when it received them, or if the caller has spoken or written since.
        """
        if not self._answers_itself or not given:
            return "wanted"
        if turn in given:
            return "due"
        latest = max((self._given[each] for each in given), key=lambda each: each.begun + each.owed)
        if latest.moves != self._turns.moves:
            return "wanted"
        if self.begun > latest.begun + latest.owed:
            return "given"
        return "due" if latest.last and not latest.owed else "wanted"

    @property
    def due(self) -> bool:
        """True while the provider will begin a reply to results by itself."""
        return any(given.last and self.begun <= given.begun + given.owed for given in self._given.values()) and (
            self._answers_itself
        )

    def forget(self, answered: Mapping[int, int]) -> None:
        """Forget the results of some turns, which the model has answered, unless there are more than these."""
        for turn, count in answered.items():
            if (given := self._given.get(turn)) is not None and given.number == count:
                del self._given[turn]

    def clear(self) -> None:
        """Forget the results of a connection that has ended."""
        self._given.clear()

    @property
    def _answers_itself(self) -> bool:
        dialect = self._provider.dialect
        return dialect is not None and dialect.answers_results
