"""`AnswerQueue`: the jobs of an engine that answers, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from ..frames import Input, Respond, Say, ToolResult, UserText
from ..processors.kernel.lane import DrainableLane
from .service import Service


class AnswerQueue:
    """A queue of frames that ask for an answer. It counts those of each turn: a turn ends after its last one."""

    def __init__(self, answers: Service) -> None:
        self._answers = answers
        self._lane: DrainableLane | None = None
        self._due: Counter[int] = Counter()  # the number of waiting jobs of each turn
        self._interruptions = 0
        self._texts_wait = False  # a job that answers typed texts has not begun
        self._results: list[ToolResult] = []  # those that wait, each with its job
        self._included: list[ToolResult] = []  # those that an answer has included since

    @property
    def results(self) -> list[ToolResult]:
        """The results whose jobs wait: an answer that begins now includes them."""
        return list(self._results)

    def included(self, results: list[ToolResult]) -> None:
        """Note results that an answer has included, before their own jobs have begun."""
        self._included = [result for result in results if any(result is each for each in self._results)]

    def has_included(self, frame: Input) -> bool:
        """Return True for a result that another answer has included."""
        return any(frame is each for each in self._included)

    def open(self) -> None:
        """Start the task that does the jobs."""
        self._lane, self._texts_wait = DrainableLane(self._answers), False

    def close(self) -> None:
        """Do no further jobs."""
        if self._lane is not None:
            self._lane.close()

    async def drain(self) -> None:
        """Wait until all jobs that were put are done."""
        if self._lane is not None:
            await self._lane.drain()

    def put(self, frame: Input, work: Callable[[Input], Awaitable[None]], turn: int | None = None) -> None:
        """Queue `work(frame)` for `turn`, by default the one that the frame continues.

        Texts that wait already are answered together. A job that the caller does not wait for is void after an
        interruption.
        """
        assert self._lane is not None
        if isinstance(frame, UserText):
            if self._texts_wait:
                return
            self._texts_wait = not self._lane.full
        if isinstance(frame, ToolResult) and not self._lane.full:
            self._results.append(frame)
        of, before = turn_of(frame) if turn is None else turn, self._interruptions
        self._due[of] += not self._lane.full  # a full lane refuses the job

        async def begin(frame: Input) -> None:
            self._due[of] -= 1
            self._results = [result for result in self._results if result is not frame]
            if isinstance(frame, UserText):
                self._texts_wait = False
            if before == self._interruptions or not _is_void_after_interruption(frame):
                await work(frame)
            elif of:
                self.settle(of)

        self._lane.put_up(begin, frame)

    def interrupt(self) -> None:
        """Note an interruption: the waiting jobs that it makes void are not done."""
        self._interruptions += 1

    def settle(self, turn: int) -> None:
        """End the turn, unless one of its jobs or results is still to come."""
        if not self._due[turn] and not self._answers.session.calls.waits(turn):
            del self._due[turn]
            self._answers.session.floor.finish(turn)

    def release(self) -> list[Input]:
        """Return the frames that wait, and do none of their jobs here."""
        assert self._lane is not None
        waiting = [
            frame for frame in self._lane.take("up") if isinstance(frame, Input) and not self.has_included(frame)
        ]
        self._texts_wait = False
        self._results.clear()
        self._due.clear()
        return waiting


def turn_of(frame: Input) -> int:
    """Return the turn that a job continues, 0 for a new one."""
    return frame.turn if isinstance(frame, Say | ToolResult) else 0


def _is_void_after_interruption(frame: Input) -> bool:
    """Return True for a job that an interruption cancels, because the caller does not wait for it."""
    return isinstance(frame, Respond) or (isinstance(frame, Say) and not frame.protected)
