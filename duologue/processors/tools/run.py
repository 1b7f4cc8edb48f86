"""`ToolRun`: one running tool call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from ...agents.tool import Tool
from ...agents.tool_context import ToolContext
from ...errors import BadInput, DeadlineExceeded, ToolError, error_text
from ...frames import ApprovalGiven, ApprovalWanted, Say, Signal, ToolBegan, ToolCall
from ...frames.text import well_formed
from ...session.call_trace import boundary_of
from ...session.session import Session
from ...session.tool_calls import RegisteredCall, still_running
from ..kernel.tasks import loop_time, stopped
from ..kernel.threads import TOOLS
from .effects import result_of_call
from .filler import Fillers

T = TypeVar("T")
log = logging.getLogger("duologue")

MAX_THREADS = 16
"""Plain functions of one call that run at the same time, those left behind included. Further calls are refused."""
FEW_THREADS = 4
"""The same, while half of the process's threads for tools are at work: calls that block leave room for others."""
PROGRESS_EVERY_S = 1.0
"""Seconds from one report of progress to the next. Of those between, the last one counts."""
PROGRESS_MAX_LENGTH = 500
"""Characters of a report of progress. The rest is cut."""
KEPT_S = 0.5
"""The longest wait of a tool for its beginning to be in the trace, in seconds."""
INTERRUPTED = "the caller interrupted"
IN_BACKGROUND = "it runs in the background"
TAKES_LONGER = "it takes longer"
FAILED = "the tool failed"
"""The text that a model receives for an error that is not a `ToolError`."""


class Told(NamedTuple):
    """A result for the model. `final` is False if the tool still runs."""

    result: Any
    failed: bool = False
    respond: bool = True
    final: bool = True


Tell = Callable[[Told], Awaitable[None]]


class RunsTools(Protocol):
    """The part of `Tools` that its calls use."""

    threads: int
    """The number of its plain functions that run."""
    fillers: Fillers

    @property
    def name(self) -> str: ...
    @property
    def session(self) -> Session: ...
    def start(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...
    def broadcast(self, signal: Signal) -> None: ...
    def announce(self, signal: ApprovalGiven) -> None: ...
    def can_say(self, call: RegisteredCall) -> bool: ...


class ToolRun:
    """One running tool call: its approval, its function and its limits.

    The function runs in a task of its own. An interruption, or the end of `Tool.timeout_s`, cancels that task twice, as
    asyncio does it. A function that ignores this, or that runs in a thread, is left behind: the model learns that it
    still runs, and later its result.

    `tell` is called with the result, and before that if the model is not to wait for it, or if there is progress.
    """

    def __init__(
        self, owner: RunsTools, tool: Tool, call: ToolCall, agent: str, registered: RegisteredCall, tell: Tell
    ) -> None:
        self.owner = owner
        self.tool = tool
        self.call = call
        self.agent = agent
        self.filler = owner.fillers.general if tool.filler is None else tool.filler
        """The tool's own filler, or the general one."""
        self.over = False
        """True once the function has ended."""
        self._session = owner.session
        self._registered = registered
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._stop: asyncio.Future[str] = self._loop.create_future()  # the reason
        self._decision: asyncio.Future[ApprovalGiven] | None = None
        self._runs_because = ""  # the reason that the model knows for a tool that still runs
        self.progress = Progress(self)
        self.context = ToolContext(
            self._session,
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
            agent=agent,
            turn=call.turn,
            report=self._report,
        )

    @property
    def name(self) -> str:
        """The name of its task, in errors and outcomes."""
        return f"{self.owner.name} ({self.tool.name})"

    def interrupt(self) -> None:
        """Stop the call, if an interruption may stop this tool."""
        if self.tool.cancel_on_interruption:
            self._end(INTERRUPTED)

    def decide(self, signal: ApprovalGiven) -> None:
        """Approve or deny the call. Raises BadInput for a second decision, and for a call that waits for none."""
        if self._decision is None or self._decision.done():
            raise BadInput(f"{decided(signal)} the tool call {self.call.call_id!r}, which waits for no approval")
        self._decision.set_result(signal)

    def _end(self, reason: str) -> None:
        if not self._stop.done():
            self._stop.set_result(reason)

    async def run(self) -> None:
        """Run the call."""
        if self.call.turn <= self._session.floor.fence:
            self.interrupt()  # before it began
        if self.tool.background:
            await self._go_on(IN_BACKGROUND)
        elif self.filler:
            self.owner.start(self.name, self._fill())
        registered, denied = self._registered, ""
        if self.tool.needs_approval and not self._stop.done():
            if registered.open:
                registered.state = "approval"
            denied = await self._denial()
            if registered.open:
                registered.state = "running"
        if self._stop.done():
            await self._finish(Told({"error": f"cancelled: {self._stop.result()}"}, failed=True, respond=False))
        elif denied:
            await self._finish(Told({"error": f"denied: {denied}"}, failed=True))
        else:
            await self._work()

    async def _finish(self, told: Told) -> None:
        self.over = True
        await self._tell(told._replace(respond=False) if self.tool.background and not self.tool.announce else told)

    async def _work(self) -> None:
        tool, loop, began_at = self.tool, self._loop, loop_time()
        late = f"no result within {tool.timeout_s:g} s"
        timer = loop.call_later(tool.timeout_s, self._end, late)
        work = self.owner.start(self.name, self._outcome())
        try:
            either: set[asyncio.Future[Any]] = {work, self._stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not tool.in_thread:
                await stopped(work, self._session.deadlines.stop_s)
            if not work.done():
                await self._leave_behind()
                await asyncio.wait({work})
            await self._finish(self._told(work))
        finally:
            self.over = True
            timer.cancel()
            if tool.in_thread and (not work.done() or work.cancelled()):
                self._session.host.life.tasks.leave_behind(self.name)
                log.warning("session %s: %s still runs at the end of the call", self._session.id, described(self.call))
            elif self._stop.done() and work.done() and not work.cancelled():
                after_s = loop_time() - began_at
                log.info("session %s: %s has ended after %.1f s", self._session.id, described(self.call), after_s)

    async def _leave_behind(self) -> None:
        """Report that the function cannot be stopped, and tell the model so."""
        why = self._stop.result()
        how = "runs in a thread" if self.tool.in_thread else "ignores its cancellation"
        error = f"tool {self.tool.name!r}: {why}; it {how} and goes on: left behind"
        log.warning("session %s: %s %s and goes on (%s)", self._session.id, described(self.call), how, why)
        self._session.report(DeadlineExceeded(error), self.owner.name)
        await self._go_on(why, respond=why != INTERRUPTED)

    def _told(self, work: asyncio.Task[Told]) -> Told:
        why = self._stop.result() if self._stop.done() else ""
        if not work.cancelled():
            error = work.exception()
            told = work.result() if error is None else self._failed(error)
            if told.failed:
                return told._replace(respond=False) if why == INTERRUPTED else told
            return told if self.context.respond else told._replace(respond=False)
        if why != INTERRUPTED:
            self._session.report(ToolError(f"tool {self.tool.name!r}: {why or 'it was cancelled'}"), self.owner.name)
        return Told({"error": f"cancelled: {why or 'by itself'}"}, failed=True, respond=why != INTERRUPTED)

    async def _outcome(self) -> Told:
        call = self.call
        self.owner.broadcast(ToolBegan(call_id=call.call_id, name=call.name, turn=call.turn))
        if (trace := self._session.trace) is not None:
            # A call that goes on elsewhere, because this process is killed, must know that the tool has begun.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_S):
                    await trace.flush(KEPT_S)
        try:
            if not self.tool.in_thread:
                return Told(await result_of_call(self.tool, self.context))
            return await self._in_thread()
        except (KeyboardInterrupt, GeneratorExit):  # of the program's end, unless the function raises it
            raise
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return self._failed(error)  # a task that the tool awaited was cancelled
        except BaseException as error:  # such as SystemExit: no tool ends the program
            return self._failed(error)

    async def _in_thread(self) -> Told:
        limit = MAX_THREADS if len(TOOLS.busy) < TOOLS.limit / 2 else FEW_THREADS
        if self.owner.threads >= limit:
            raise ToolError(f"{self.owner.threads} tools are running already: try again later")
        self.owner.threads += 1
        try:
            return Told(await result_of_call(self.tool, self.context))
        finally:
            self.owner.threads -= 1

    def _failed(self, error: BaseException) -> Told:
        log.error("session %s: %s failed", self._session.id, described(self.call), exc_info=error)
        words = error_text(error)
        reported = ToolError(f"tool {self.tool.name!r}: {type(error).__name__}: {words}")
        reported.__cause__ = error
        self._session.report(reported, self.owner.name)
        for_model = isinstance(error, ToolError) and words != type(error).__name__
        return Told({"error": words if for_model else FAILED}, failed=True)

    # -- before the result -----------------------------------------------------------------------------------------

    async def _go_on(self, why: str, *, respond: bool = True, **more: str) -> None:
        """Tell the model that the tool still runs."""
        self._runs_because = why
        await self._tell(Told({**still_running(why), **more}, respond=respond, final=False))

    @property
    def awaited(self) -> bool:
        """True while the model waits for the result."""
        return self._registered.open and not (self.over or self._runs_because)

    async def _fill(self) -> None:
        try:
            await self.owner.fillers.fill(self, self._session)
        except Exception as error:
            self._session.report(error, self.owner.name)

    def _report(self, text: str) -> None:
        """Take a report of progress, from any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._enter(text)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._enter, text)

    def _enter(self, text: str) -> None:
        if (boundary := boundary_of(self._session)) is None:
            self.progress.take(text)
        else:
            boundary.enter("progress", (self.call.call_id, text), partial(self.progress.take, text))

    async def tell_progress(self, text: str) -> None:
        """Tell the model of progress, or let the agent say it while the model waits for the result."""
        if self._runs_because:
            await self._go_on(self._runs_because, respond=self.tool.announce, progress=text)
        else:
            await self.say(text)

    async def say(self, text: str) -> None:
        """Let the agent say a text while the model waits for the result.

        A native engine that is silent until it has the result waits no longer: its result is the text to say.
        """
        if self.owner.can_say(self._registered):
            self.owner.fillers.expect(self.call.turn)
            await self._session.send(Say(text=text, turn=self.call.turn, call_id=self.call.call_id))
            return
        for other in self._session.calls.open():
            if isinstance(run := other.runner, ToolRun) and other.turn == self.call.turn and run is not self:
                await run._go_on(TAKES_LONGER)
        await self._go_on(TAKES_LONGER, say_to_the_caller=text)

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


class Progress:
    """The reports of progress of a tool call: at most one each second goes to the model, none after the result."""

    def __init__(self, run: ToolRun) -> None:
        self._run = run
        self._text = ""
        self._told_at = -PROGRESS_EVERY_S
        self._telling = False

    def take(self, text: str) -> None:
        """Take a report. It replaces one that waits."""
        self._text = well_formed(str(text))[:PROGRESS_MAX_LENGTH].strip()
        if self._text and not (self._telling or self._run.over):
            self._telling = True
            self._run.owner.start(self._run.name, self._tell())

    async def _tell(self) -> None:
        try:
            while True:
                await asyncio.sleep(max(0.0, self._told_at + PROGRESS_EVERY_S - loop_time()))
                text, self._text = self._text, ""
                if not text or self._run.over:
                    return
                self._told_at = loop_time()
                await self._run.tell_progress(text)
        finally:
            self._telling = False


def described(call: ToolCall) -> str:
    """Return the name and the id of a call, for the log."""
    return f"tool {call.name!r} (call {call.call_id!r})"


def decided(signal: ApprovalGiven) -> str:
    """Return the beginning of a sentence on a decision."""
    return f"{signal.by or 'somebody'} has {'approved' if signal.approved else 'denied'}"
