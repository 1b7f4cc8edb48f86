"""`Tools`: the processor that runs the tools of agents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from ..agents.agent import Agent
from ..agents.fields import check_several
from ..agents.sources import ToolSource, WithImages
from ..agents.tool import Tool, ToolSpec
from ..errors import BadInput, ConfigurationError, DeadlineExceeded, ToolError
from ..frames import (
    ApprovalGiven,
    ApprovalWanted,
    HandoffCompleted,
    Interrupted,
    ResponseStarted,
    SessionStarted,
    Signal,
    ToolCall,
    ToolResult,
)
from ..frames.text import well_formed_data
from ..session.session import Session
from ..session.tool_calls import RegisteredCall, running_call, still_running
from .kernel.groups import leaves
from .kernel.node import Node
from .kernel.tasks import loop_time, stopped
from .processor import Processor, handles
from .tool_sources import Sources

T = TypeVar("T")
log = logging.getLogger("duologue")

MAX_THREADS = 16
"""Plain functions of one call that run at the same time, those left behind included. Further calls are refused."""
INTERRUPTED = "the caller interrupted"
FAILED = "the tool failed"
"""The text that a model receives for an error that is not a `ToolError`."""
RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model. The rest is cut, with a notice."""


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
    asyncio does it. A function that ignores this, or that runs in a thread, is left behind: the model learns that it
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
        """Approve or deny the call. Raises BadInput for a second decision, and for a call that waits for none."""
        if self._decision is None or self._decision.done():
            raise BadInput(f"{decided(signal)} the tool call {self.call.call_id!r}, which waits for no approval")
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
        """Report that the function cannot be stopped, and return the result that the model receives meanwhile."""
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


def shared_tools(pipeline: Node) -> tuple[ToolSpec, ...]:
    """Return the specifications of the tools that every agent has: those given to the pipeline's `Tools`."""
    return tuple(spec for leaf in leaves(pipeline) if isinstance(leaf, Tools) for spec in leaf.specs)


def more_tools(session: Session, agent: Agent | None) -> tuple[ToolSpec, ...]:
    """Return the specifications of the tools that an agent has beside its own: the shared ones and those of sources."""
    shared = shared_tools(session.pipeline)
    first = next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Tools)), None)
    if first is None:
        return shared
    return (*shared, *(tool.spec for tool in first.sources.tools(agent).values()))


class Tools(Processor):
    """Runs the tools that the active agent calls, several at the same time.

    The tool of a call is one of `tools` or of the calling agent's own tools. A `ToolSource` among either is opened with
    the call; when its tools change, the engine gets them. Every call gets exactly one result: the
    value that the function returns (falsy values and None included), or `{"error": …}` if the function raises or
    exceeds its time limit, or if the call is unknown, cancelled by an interruption, denied, or refused by a hook
    (`Session.intercept`). A result longer than `result_max_length` characters is cut, with a notice.

    A function that cannot be stopped has the result "still running" at first, in whose place its own result is sent and
    logged later. At most `MAX_THREADS` plain functions of a call run at the same time; further calls are refused.
    """

    follows = frozenset({ToolCall})

    def __init__(
        self,
        tools: Iterable[Tool | ToolSource | Callable[..., Any]] = (),
        *,
        result_max_length: int = RESULT_MAX_LENGTH,
    ) -> None:
        if result_max_length <= 0:
            raise ConfigurationError(f"result_max_length must be positive, not {result_max_length}")
        check_several("Tools", "tools", tools, "Tools([f])")
        self._own: dict[str, Tool] = {}
        given = [t if isinstance(t, Tool | ToolSource) else Tool(t) for t in tools]
        self._sources = [t for t in given if isinstance(t, ToolSource)]
        for tool in (t for t in given if isinstance(t, Tool)):
            if tool.name in self._own:
                raise ConfigurationError(f"two tools are named {tool.name!r}")
            self._own[tool.name] = tool
        self._max_length = result_max_length
        self._caller: Agent | None = None
        self.threads = 0
        self._announces = False  # while it broadcasts the outcome of an approval itself

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The specifications of the tools given here, for models."""
        return tuple(tool.spec for tool in self._own.values())

    @cached_property
    def sources(self) -> Sources:
        """The sources of the call. The first `Tools` of a pipeline has them for all others."""
        every = [leaf for leaf in leaves(self.session.pipeline) if isinstance(leaf, Tools)]
        if every[0] is not self:
            return every[0].sources
        shared = [source for tools in every for source in tools._sources]
        return Sources(self.session, shared, (spec.name for spec in shared_tools(self.session.pipeline)))

    async def open(self) -> None:
        """Open the sources of tools. One that is slow gives its tools later."""
        if self._leads:
            await self.sources.open(lambda: self.spawn(self.sources.sync))

    async def close(self) -> None:
        """Close the sources of tools."""
        if self._leads:
            await self.sources.close()

    @property
    def _leads(self) -> bool:
        return next(leaf for leaf in leaves(self.session.pipeline) if isinstance(leaf, Tools)) is self

    @handles(SessionStarted, HandoffCompleted)
    async def sync(self, signal: SessionStarted | HandoffCompleted) -> None:
        """Give the engine tools of sources that have come while it was configured."""
        if self._leads:
            await self.sources.sync()

    @handles(ResponseStarted)
    async def response(self, frame: ResponseStarted) -> None:
        """Remember the agent of the response: its tool calls may come after a hand-off."""
        self._caller = self.session.agent
        await self.push(frame)

    @handles(ToolCall)
    async def run(self, call: ToolCall) -> None:
        """Start a tool in a task. Its result is pushed when the task has ended."""
        agent = self._caller or self.session.agent
        theirs = {t.name: t for t in agent.toolset} if agent is not None else {}
        known = {**self.sources.tools(agent), **self._own, **theirs}
        self.spawn(self._intercepted, call, known, agent.name if agent is not None else "")

    @handles(ApprovalGiven)
    def approval_given(self, signal: ApprovalGiven) -> None:
        """Pass the decision to the tool call that waits for it.

        Raises BadInput, naming who decided, for a call that waits for no decision.
        """
        call = self.session.calls.get(signal.call_id)
        runner = call.runner if call is not None else None
        if isinstance(runner, ToolRun):
            if runner.owner is self and not self._announces:
                runner.decide(signal)
        elif (call is None or not call.open) and self._speaks_for_all():
            gone = "has its result already" if call is not None else "was never made"
            raise BadInput(f"{decided(signal)} the tool call {signal.call_id!r}, which {gone}")

    def _speaks_for_all(self) -> bool:
        """Return True if this is the first `Tools` of the pipeline, and none of them announces an outcome itself."""
        found = [leaf for leaf in leaves(self.session.pipeline) if isinstance(leaf, Tools)]
        return self is found[0] and not any(tools._announces for tools in found)

    def announce(self, signal: ApprovalGiven) -> None:
        """Broadcast that a call needs no decision any more."""
        self._announces = True
        try:
            self.broadcast(signal)
        finally:
            self._announces = False

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel the tool calls of the interrupted turns, except tools that go on through interruptions."""
        for call in self.session.calls.open():
            if call.turn <= signal.turn and isinstance(call.runner, ToolRun) and call.runner.owner is self:
                call.runner.interrupt()

    def start(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task with this name."""
        return self.host.start_task(self, coroutine, name=name)

    async def _intercepted(self, call: ToolCall, known: Mapping[str, Tool], agent: str) -> None:
        """Run the call as the hooks have left it."""
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self._answer(call, Told(allowed.result, allowed.is_error, allowed.respond))
        elif (tool := known.get(call.name)) is not None:
            await self._call(ToolRun(self, tool, allowed, agent))
        else:
            names = ", ".join(sorted(known)) or "none"
            await self._answer(call, Told({"error": f"there is no tool {call.name!r}; there are: {names}"}, True))

    async def _call(self, run: ToolRun) -> None:
        calls, call = self.session.calls, run.call
        registered = calls.run(call, run)

        async def tell(told: Told) -> None:
            if told.final:
                registered.runner = None
                if not registered.item_id:  # its engine does not log calls
                    calls.forget(call.call_id)
            await self._answer(call, told)

        try:
            await run.run(registered, tell)
        finally:
            registered.runner = None

    async def _answer(self, call: ToolCall, told: Told) -> None:
        if isinstance(told.result, WithImages):
            told = told._replace(result=await self._shown(call, told.result))
        try:
            result, failed = self._plain(told.result), told.failed
        except Exception as error:  # code of the result object may raise any error
            log.error("session %s: the result of %s", self.session.id, described(call), exc_info=error)
            reported = ToolError(f"tool {call.name!r}: its result is not JSON: {type(error).__name__}: {error}")
            self.session.report(reported, self.name)
            result, failed = {"error": "the tool returned a value that is not JSON"}, True
        await self.push_up(
            ToolResult(
                call_id=call.call_id,
                name=call.name,
                result=result,
                turn=call.turn,
                is_error=failed,
                respond=told.respond,
                final=told.final,
            )
        )

    async def _shown(self, call: ToolCall, told: WithImages) -> Any:
        """Show the images of a result to the model, and return the rest, with a note for an image that it refuses."""
        try:
            for image in told.images:
                await self.push_up(image)
        except BadInput as error:
            log.warning("session %s: an image of %s: %s", self.session.id, described(call), error)
            return {"result": told.result, "note": f"you cannot see the images: {error}"}
        return told.result

    def _plain(self, result: Any) -> Any:
        """Return the result as plain JSON data, cut if it is too long. Raises an error for one that is not JSON."""
        plain = msgspec.to_builtins(result, str_keys=True)
        encoded = msgspec.json.encode(plain).decode()
        plain = well_formed_data(plain)
        text = plain if isinstance(plain, str) else encoded
        if len(text) <= self._max_length:
            return plain
        return text[: self._max_length] + f" … [cut: {len(text)} characters, {self._max_length} shown]"
