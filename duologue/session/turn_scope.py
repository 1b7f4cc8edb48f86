"""`TurnScope`: a block of work on one turn, which an interruption cancels."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

INSIST_S = 1.0
"""Seconds after which work that ignores its cancellation is cancelled once more, for the last time."""


class TurnScope:
    """A block of work on a turn: see `Floor.scope`.

    It cancels with asyncio, at most twice: an anyio scope cancels again at every iteration of the loop while the block
    goes on, and work that ignores it would keep the loop busy.
    """

    __slots__ = ("_cancelling", "_cancels", "_entered", "_timer", "_void", "cancel_called", "task", "turn")

    def __init__(self, turn: int, entered: dict[TurnScope, None], *, void: bool) -> None:
        self.turn = turn
        self.task: asyncio.Task[Any] | None = None
        """The task in the block; None outside of it."""
        self.cancel_called = False
        """True once an interruption has made the work void."""
        self._entered = entered
        self._void = void
        self._cancels = 0
        self._cancelling = 0  # number of the task's cancellations before the block
        self._timer: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Cancel the block, at its next await if it runs now."""
        if not self.cancel_called:
            self.cancel_called = True
            if self.task is asyncio.current_task():
                # At once, the cancellation could hit an await behind the block.
                self._timer = asyncio.get_running_loop().call_soon(self._cancel)
            else:
                self._cancel()

    def _cancel(self) -> None:
        self._timer = None
        if self.task is not None:
            self._cancels += 1
            self.task.cancel()
            if self._cancels == 1:
                self._timer = asyncio.get_running_loop().call_later(INSIST_S, self._cancel)

    def __enter__(self) -> Self:
        self.task = asyncio.current_task()
        assert self.task is not None
        self._cancelling = self.task.cancelling()
        self._entered[self] = None
        if self._void:
            self.cancel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self.task = self.task, None
        assert task is not None
        if self._timer is not None:
            self._timer.cancel()
        del self._entered[self]
        for _ in range(self._cancels):
            task.uncancel()
        return (
            bool(self._cancels) and isinstance(error, asyncio.CancelledError) and task.cancelling() <= self._cancelling
        )
