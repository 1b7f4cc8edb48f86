"""`ToolRun`: one tool call, from its approval to its result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

from ..agents.tool import Tool
from ..errors import DeadlineExceeded, IllegalState, ToolError
from ..frames import ApprovalGiven, ApprovalWanted, Signal, ToolCall
from ..session.session import Session
from ..session.tool_calls import RegisteredCall, running_call, still_running
from .kernel.tasks import loop_time, stopped

T = TypeVar("T")
log = logging.getLogger("duologue")

MAX_THREADS = 16
"""Plain functions of one call that run at the same time, those left behind included. Further ones are refused."""
INTERRUPTED = "the caller interrupted"
FAILED = "the tool failed"
"""All that a model learns of an error that is not a `ToolError`."""


class Told(NamedTuple):
    """A result for the model. `final` is False if the tool still runs."""

    result: Any
    failed: bool = False
    respond: bool = True
    final: bool = True


class Owner(Protocol):
    """The part of `Tools` that its calls use."""

    threads: int
    """The number of its plain functions that run."""

    @property
    def name(self) -> str: ...
    @property
    def session(self) -> Session: ...
    def start(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...
    def broadcast(self, signal: Signal) -> None: ...
    def announce(self, signal: ApprovalGiven) -> None: ...


class ToolRun:
    """One running tool call: its approval, its function and its limits.

    The function runs in a task of its own. An interruption, or the end of `Tool.timeout_s`, cancels that task twice, as
    asyncio does it. A function that ignores this, or that runs in a thread, is left behind: the model is told that it
    still runs, and later its result.
    """

    def __init__(self, owner: Owner, tool: Tool, call: ToolCall, agent: str) -> None:
        self.owner = owner
        self.tool = tool
        self.call = call
        self.agent = agent
        self._session = owner.session
        self._stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # the reason
        self._decision: asyncio.Future[ApprovalGiven] | None = None

    @property
    def name(self) -> str:
        """The name of its task, in errors and outcomes."""
        return f"{self.owner.name} ({self.tool.name})"

    def interrupt(self) -> None:
        """Stop the call, if an interruption may stop this tool."""
        if self.tool.cancel_on_interruption:
            self._end(INTERRUPTED)

    def decide(self, signal: ApprovalGiven) -> None:
        """Approve or deny the call. Raises IllegalState for a second decision, and for a call that waits for none."""
        if self._decision is None or self._decision.done():
            raise IllegalState(f"{decided(signal)} the tool call {self.call.call_id!r}, which waits for no approval")
        self._decision.set_result(signal)

    def _end(self, reason: str) -> None:
        if not self._stop.done():
            self._stop.set_result(reason)

    async def run(self, registered: RegisteredCall, tell: Callable[[Told], Awaitable[None]]) -> None:
        """Run the call. `tell` is called with its result, and before that if the tool still runs."""
        if self.call.turn <= self._session.floor.fence:
            self.interrupt()  # before it began
        denied = ""
        if self.tool.needs_approval and not self._stop.done():
            if registered.open:
                registered.state = "approval"
            denied = await self._denial()
            if registered.open:
                registered.state = "running"
        if self._stop.done():
            await tell(Told({"error": f"cancelled: {self._stop.result()}"}, failed=True, respond=False))
        elif denied:
            await tell(Told({"error": f"denied: {denied}"}, failed=True))
        else:
            await self._work(tell)

    async def _work(self, tell: Callable[[Told], Awaitable[None]]) -> None:
        tool, loop, began_at = self.tool, asyncio.get_running_loop(), loop_time()
        late = f"no result within {tool.timeout_s:g} s"
        timer = loop.call_later(tool.timeout_s, self._end, late)
        work = self.owner.start(self.name, self._outcome())
        try:
            either: set[asyncio.Future[Any]] = {work, self._stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not tool.in_thread:
                await stopped(work, self._session.deadlines.stop_s)
            if not work.done():
                await tell(self._left_behind())
                await asyncio.wait({work})
            await tell(self._told(work))
        finally:
            timer.cancel()
            if tool.in_thread and (not work.done() or work.cancelled()):
                self._session.host.life.tasks.leave_behind(self.name)
                log.warning("session %s: %s still runs at the end of the call", self._session.id, described(self.call))
            elif self._stop.done() and work.done() and not work.cancelled():
                after_s = loop_time() - began_at
                log.info("session %s: %s has ended after %.1f s", self._session.id, described(self.call), after_s)

    def _left_behind(self) -> Told:
        """Report that the function cannot be stopped, and return what the model is told of that."""
        why = self._stop.result()
        how = "runs in a thread" if self.tool.in_thread else "ignores its cancellation"
        error = f"tool {self.tool.name!r}: {why}; it {how} and goes on: left behind"
        log.warning("session %s: %s %s and goes on (%s)", self._session.id, described(self.call), how, why)
        self._session.report(DeadlineExceeded(error), self.owner.name)
        return Told(still_running(why), respond=why != INTERRUPTED, final=False)

    def _told(self, work: asyncio.Task[Told]) -> Told:
        why = self._stop.result() if self._stop.done() else ""
        if not work.cancelled():
            told = work.result()
            return told._replace(respond=False) if told.failed and why == INTERRUPTED else told
        if why != INTERRUPTED:
            self._session.report(ToolError(f"tool {self.tool.name!r}: {why or 'it was cancelled'}"), self.owner.name)
        return Told({"error": f"cancelled: {why}"}, failed=True, respond=why != INTERRUPTED)

    async def _outcome(self) -> Told:
        running_call.set(self.call.call_id)
        try:
            if not self.tool.in_thread:
                return Told(await self.tool.call(self._session, self.call.arguments))
            return await self._in_thread()
        except Exception as error:
            return self._failed(error)
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return self._failed(error)  # a task that the tool awaited was cancelled

    async def _in_thread(self) -> Told:
        if self.owner.threads >= MAX_THREADS:
            raise ToolError(f"{MAX_THREADS} tools are running already: try again later")
        self.owner.threads += 1
        try:
            return Told(await self.tool.call(self._session, self.call.arguments))
        finally:
            self.owner.threads -= 1

    def _failed(self, error: BaseException) -> Told:
        log.error("session %s: %s failed", self._session.id, described(self.call), exc_info=error)
        reported = ToolError(f"tool {self.tool.name!r}: {type(error).__name__}: {error}")
        reported.__cause__ = error
        self._session.report(reported, self.owner.name)
        return Told({"error": str(error) if isinstance(error, ToolError) and str(error) else FAILED}, failed=True)

    # -- approval --------------------------------------------------------------------------------------------------

    async def _denial(self) -> str:
        """Wait for approval. Returns the reason if it is denied or does not come in time, else ""."""
        tool, call = self.tool, self.call
        decision = self._decision = asyncio.get_running_loop().create_future()
        self.owner.broadcast(
            ApprovalWanted(call_id=call.call_id, name=call.name, arguments=call.arguments, agent=self.agent)
        )
        denied = "the call ended"
        try:
            await asyncio.wait({decision, self._stop}, timeout=tool.approval_timeout_s, return_when="FIRST_COMPLETED")
            if decision.done():
                given = decision.result()
                return "" if given.approved else given.reason or "this call was not approved"
            denied = INTERRUPTED if self._stop.done() else f"nobody approved it within {tool.approval_timeout_s:g} s"
            return denied
        finally:
            if not decision.done():  # a decision is not needed any more
                self.owner.announce(ApprovalGiven(call_id=call.call_id, approved=False, reason=denied))


def described(call: ToolCall) -> str:
    """Return the name and the id of a call, for the log."""
    return f"tool {call.name!r} (call {call.call_id!r})"


def decided(signal: ApprovalGiven) -> str:
    """Return the beginning of a sentence on a decision."""
    return f"{signal.by or 'somebody'} has {'approved' if signal.approved else 'denied'}"
