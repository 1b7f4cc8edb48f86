"""Whose turn it is, and what is void."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio

from ..frames import Frame, Output

Owner = Literal["caller", "agent"]


class Floor:
    """The turn counter of a call, the fence, and who is active.

    A turn is one exchange: it begins when the agent takes it up. Everything stamped with a turn up to `fence` is
    stale everywhere at once, because everyone asks here.
    """

    def __init__(
        self,
        unsettled: Callable[[], bool] = lambda: False,
        caller: Callable[[bool, float], None] = lambda speaking, at: None,
    ) -> None:
        self._unsettled = unsettled
        self._caller = caller  # told when the caller begins or ceases to speak
        self.turn = 0
        """The latest turn that has begun."""
        self.fence = -1
        """Output of this turn and of those before it is void."""
        self.agent_speaking = False
        """The caller hears the agent now, or its speech is on hold. Kept by the transport's playout."""
        self.caller_speaking = False
        """The caller speaks now. Whoever detects it says so: `caller_speaks`."""
        self.dismissed = False
        """The caller's turn that is ending was a backchannel and wants no answer. Engines call `take_dismissed`."""
        self.touched: Callable[[], None] = lambda: None
        """Called at every sign of life; whoever changes one of the above calls it, too."""
        self._working: set[int] = set()
        self._protected: set[int] = set()
        self._scopes: dict[anyio.CancelScope, int] = {}
        self._holds: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def caller_speaks(self, speaking: bool, at: float) -> None:
        """The caller speaks, or does not any more, since session time `at`. Everyone is told if that is news."""
        news, self.caller_speaking = speaking != self.caller_speaking, speaking
        self.touched()
        if news:
            self._caller(speaking, at)

    @property
    def owner(self) -> Owner:
        """Who owes the next move: the agent while it works on a turn, speaks or is about to, else the caller."""
        return "agent" if self._working or self.agent_speaking or self._unsettled() else "caller"

    def begin(self, *, protected: bool = False) -> int:
        """The agent takes a new turn; its number. A protected turn is not to be interrupted by the caller."""
        self.turn += 1
        if not self._unsettled():
            self._protected &= self._working
        self._working.add(self.turn)
        if protected:
            self._protected.add(self.turn)
        self.touched()
        return self.turn

    def finish(self, turn: int) -> None:
        """The engine has given all of this turn, tool calls and their continuation included."""
        self._working.discard(turn)
        self.touched()

    def is_stale(self, frame: Frame) -> bool:
        """Whether an interruption has made this frame void."""
        return isinstance(frame, Output) and frame.turn <= self.fence and not frame.survives_fence

    def is_protected(self, turn: int) -> bool:
        """Whether the caller may not interrupt this turn.

        Protection ends with the next turn that begins once all of this one is done and heard.
        """
        return turn in self._protected

    def take_dismissed(self) -> bool:
        """Clear `dismissed`. Returns whether it was set and the agent has the floor, which it keeps then."""
        dismissed, self.dismissed = self.dismissed, False
        return dismissed and self.owner == "agent"

    def on_hold(self, hold: Callable[[], None], resume: Callable[[], None]) -> None:
        """Register how the agent's speech is held back and let go again. Playouts do."""
        self._holds.append((hold, resume))

    def hold(self) -> None:
        """Hold back the agent's speech, at once and without loss, while it is unclear whether the caller interrupts.

        It ends with `resume`, with an interruption, or when the playout's `max_pause_s` is over.
        """
        for hold, _ in self._holds:
            hold()

    def resume(self) -> None:
        """It was no interruption: the held speech goes on where it stopped."""
        for _, resume in self._holds:
            resume()

    @contextmanager
    def scope(self, turn: int) -> Iterator[anyio.CancelScope]:
        """Work for a turn: cancelled the moment that the turn is fenced, at once if it already is.

        The block ends silently then; the scope's `cancel_called` tells.
        """
        with anyio.CancelScope() as scope:
            self._scopes[scope] = turn
            if turn <= self.fence:
                scope.cancel()
            try:
                yield scope
            finally:
                del self._scopes[scope]

    def raise_fence(self) -> int:
        """Make everything up to the latest turn void. Returns that turn."""
        self.fence = self.turn
        self._protected.clear()
        self._working.clear()
        for scope, turn in list(self._scopes.items()):
            if turn <= self.fence:
                scope.cancel()
        self.touched()
        return self.fence
