"""`Channel`: the answers to one question of a call."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from ...session.boundary import Boundary, as_code_of
from ...trace.recording import Steps
from .script import Given


class Answers(Boundary, Protocol):
    """The boundary of a replay, as its channels use it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def steps(self) -> Steps:
        """Counts the steps of the session."""

    def time(self) -> float:
        """Return the loop's time."""

    def diverge(self, what: str) -> None:
        """Note a difference from the recorded call."""

    def due_now(self, channel: Channel, what: str, value: Any) -> Given | None:
        """Return and take what a channel gets in this step, None for none."""

    def comes(self, channel: Channel, what: str, value: Any) -> bool:
        """Return True if this is among the next records of a channel."""

    def comes_to(self, channel: Channel) -> bool:
        """Return True if something more comes to a channel within the next seconds."""


class Channel:
    """The answers that the recorded call got to one question, in order, for the same question of the replay."""

    def __init__(self, replaying: Answers, name: str, number: int) -> None:
        self.replaying, self.name, self.number = replaying, name, number
        self.asked_t = 0.0
        """The loop time of the question in the recorded call."""
        self.late_s = 0.0
        """How much later the replay has asked."""
        self.open = False
        self._early: list[Given] = []
        self._came: deque[Given] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def ask(self) -> None:
        """The replay asks. Answers to a question that comes late keep their distance from it."""
        self.open = True
        if self._early:
            self.late_s = max(0.0, self.replaying.time() - self.asked_t)
        early, self._early = self._early, []
        for given in early:
            self._later(given)

    def _later(self, given: Given) -> None:
        self.replaying.loop.call_at(given.t + self.late_s, self.take, given)

    @property
    def of_tool(self) -> bool:
        """True for the answers of a tool that the replay has not asked."""
        return bool(self._early) and self._early[0].kind == "tool"

    def deliver(self, given: Given) -> None:
        """Take an answer at its time."""
        if not self.open:
            self._early.append(given)
        elif self.late_s:
            self._later(given)
        else:
            self.take(given)

    @property
    def unasked(self) -> bool:
        """True if answers came to a question that the replay has not asked."""
        return bool(self._early)

    def take(self, given: Given) -> None:
        """Take an answer now."""
        self._came.append(given)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Given:
        """Return the next answer. The code outside of the session begins here."""
        with as_code_of(None):
            while not self._came:
                self._waiter = self.replaying.loop.create_future()
                await self._waiter
        return self._came.popleft()

    async def outcome(self) -> Given:
        """Return the answer. A cancellation takes effect when it did in the recorded call."""
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                try:
                    given = await self.next()
                except asyncio.CancelledError as error:
                    if not self.replaying.comes_to(self):
                        raise
                    cancelled = error
                    continue
                if "cancelled" in given.data:
                    raise cancelled or asyncio.CancelledError
                return given
        finally:
            self.replaying.steps.step()

    async def piece(self) -> Given:
        """Return the next of many answers."""
        try:
            return await self.next()
        finally:
            self.replaying.steps.step()

    @property
    def waits(self) -> bool:
        """True while a task waits in `next`."""
        return self._waiter is not None and not self._waiter.done()
