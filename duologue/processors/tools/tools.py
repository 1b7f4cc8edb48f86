"""`Tools`: the processor that runs the tools of agents."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from ...agents.agent import Agent
from ...agents.engine import Engine
from ...agents.fields import check_several
from ...agents.sources import ToolSource, WithImages
from ...agents.tool import Filler, Tool, ToolSpec
from ...errors import BadInput, ConfigurationError, IllegalState, ToolError, error_text
from ...frames import (
    ApprovalGiven,
    HandoffCompleted,
    Interrupted,
    ResponseStarted,
    SessionStarted,
    ToolCall,
    ToolResult,
)
from ...session.session import Session
from ...session.tool_calls import RegisteredCall
from ..kernel.groups import active_leaves, leaves
from ..kernel.node import Node
from ..processor import Processor, handles
from .filler import Fillers
from .results import plain_result, show_images
from .run import Told, ToolRun, decided, described
from .sources import Sources

T = TypeVar("T")
log = logging.getLogger("duologue")

RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model. The rest is cut, with a notice."""


def _every(pipeline: Node) -> list[Tools]:
    return [leaf for leaf in leaves(pipeline) if isinstance(leaf, Tools)]


def shared_tools(pipeline: Node) -> tuple[ToolSpec, ...]:
    """Return the specifications of the tools that every agent has: those given to the pipeline's `Tools`."""
    return tuple(spec for tools in _every(pipeline) for spec in tools.specs)


def more_tools(session: Session, agent: Agent | None) -> tuple[ToolSpec, ...]:
    """Return the specifications of the tools that an agent has beside its own: shared tools and those of sources."""
    found = _every(session.pipeline)
    shared = tuple(spec for tools in found for spec in tools.specs)
    return (*shared, *(tool.spec for tool in found[0].sources.tools(agent).values())) if found else shared


class Tools(Processor):
    """Runs the tools that the active agent calls, several at the same time.

    The tool of a call is one of `tools` or of the calling agent's own tools. A `ToolSource` among either is opened with
    the call; when its tools change, the engine gets them. Every call gets exactly one result: the value that the
    function returns (falsy values and None included), or `{"error": …}` if the function raises or exceeds its time
    limit, or if the call is unknown, cancelled by an interruption, denied, or refused by a hook (`Session.intercept`).
    A result longer than `result_max_length` characters is cut, with a notice.

    A tool that runs in the background, and a function that cannot be stopped, have the result "still running" at first,
    in whose place their own result is sent and logged later. At most `MAX_THREADS` plain functions of a call run at the
    same time; further calls are refused.

    `filler` is said, after `filler_after_s` seconds (by default 2) in which neither side speaks, while the model waits
    for the result of a tool that has no filler of its own: see `Tool`. A native engine that cannot speak while it waits
    (`Capabilities.tools` "blocking") gets a result at once, with the filler to say; the tool's own result follows.
    """

    follows = frozenset({ToolCall})

    def __init__(
        self,
        tools: Iterable[Tool | ToolSource | Callable[..., Any]] = (),
        *,
        result_max_length: int = RESULT_MAX_LENGTH,
        filler: Filler | None = None,
        filler_after_s: float | None = None,
    ) -> None:
        if result_max_length <= 0:
            raise ConfigurationError(f"result_max_length must be positive, not {result_max_length}")
        check_several("Tools", "tools", tools, "Tools([f])")
        self._own: dict[str, Tool] = {}
        given = [t if isinstance(t, Tool | ToolSource) else Tool(t) for t in tools]
        self._given_sources = [t for t in given if isinstance(t, ToolSource)]
        for tool in (t for t in given if isinstance(t, Tool)):
            if tool.name in self._own:
                raise ConfigurationError(f"two tools are named {tool.name!r}")
            self._own[tool.name] = tool
        self._max_length = result_max_length
        self._caller: Agent | None = None
        self.threads = 0
        self.fillers = Fillers(filler, filler_after_s)
        self._announces = False  # while it broadcasts the outcome of an approval itself

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The specifications of the tools given here, for models."""
        return tuple(tool.spec for tool in self._own.values() if tool.mode != "disabled")

    # -- sources -----------------------------------------------------------------------------------------------------

    @cached_property
    def sources(self) -> Sources:
        """The sources of the call. The first `Tools` of a pipeline has them for all others."""
        every = _every(self.session.pipeline)
        if every[0] is not self:
            return every[0].sources
        shared = [source for tools in every for source in tools._given_sources]
        return Sources(self.session, shared, (spec.name for tools in every for spec in tools.specs))

    @cached_property
    def _leads(self) -> bool:
        return _every(self.session.pipeline)[0] is self

    async def open(self) -> None:
        """Open the sources of tools. One that is slow gives its tools later."""
        if self._leads:
            await self.sources.open(self.sources_changed)

    def sources_changed(self) -> None:
        """Give the engine the tools of the sources again: they have changed."""
        with contextlib.suppress(IllegalState):  # the call ends
            self.spawn(self.sources.sync)

    async def close(self) -> None:
        """Close the sources of tools."""
        if self._leads:
            await self.sources.close()

    @handles(SessionStarted, HandoffCompleted)
    def sync(self, signal: SessionStarted | HandoffCompleted) -> None:
        """Give the engine tools of sources that have come while it was configured."""
        if self.sources.opened and self._leads:
            self.spawn(self.sources.sync)

    # -- calls -------------------------------------------------------------------------------------------------------

    @handles(ResponseStarted)
    async def response(self, frame: ResponseStarted) -> None:
        """Remember the agent of the response: its tool calls may come after a hand-off."""
        self._caller = self.session.agent
        if self.fillers.expected:
            self.fillers.response_began(self.session, frame.response_id, frame.turn)
        await self.push(frame)

    @handles(ToolCall)
    async def run(self, call: ToolCall) -> None:
        """Start a tool in a task. Its result is pushed when the task has ended."""
        agent = self._caller or self.session.agent
        theirs = {t.name: t for t in agent.toolset} if agent is not None else {}
        listed = self.sources.tools(agent) if self.sources.opened else {}
        every = {**listed, **self._own, **theirs}
        known = {name: tool for name, tool in every.items() if tool.mode != "disabled"}
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
        found = _every(self.session.pipeline)
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

    def can_say(self, call: RegisteredCall) -> bool:
        """Return True if the engine that asked for a call can say a text while it waits for the result."""
        if call.owner is None:  # its model reads the log
            return True
        engines = (leaf for leaf in active_leaves(self.session.pipeline) if isinstance(leaf, Engine))
        return any(engine.capabilities.tools == "async" for engine in engines)

    async def _intercepted(self, call: ToolCall, known: Mapping[str, Tool], agent: str) -> None:
        """Run the call as the hooks have left it."""
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self._answer(call, Told(allowed.result, allowed.is_error, allowed.respond))
        elif (tool := known.get(call.name)) is not None:
            await self._call(tool, allowed, agent)
        else:
            names = ", ".join(sorted(known)) or "none"
            await self._answer(call, Told({"error": f"there is no tool {call.name!r}; there are: {names}"}, True))

    async def _call(self, tool: Tool, call: ToolCall, agent: str) -> None:
        calls = self.session.calls
        registered = calls.run(call, None)

        async def tell(told: Told) -> None:
            if told.final:
                registered.runner = None
                if not registered.item_id:  # its engine does not log calls
                    calls.forget(call.call_id)
            await self._answer(call, told)
            if self.fillers.expected and not calls.waits(call.turn):
                self.fillers.expect_none(call.turn)

        run = registered.runner = ToolRun(self, tool, call, agent, registered, tell)
        try:
            await run.run()
        finally:
            registered.runner = None

    async def _answer(self, call: ToolCall, told: Told) -> None:
        if isinstance(told.result, WithImages):
            told = told._replace(result=await show_images(self, call, told.result))
        try:
            result, failed = plain_result(told.result, self._max_length), told.failed
        except Exception as error:  # code of the result object may raise any error
            log.error("session %s: the result of %s", self.session.id, described(call), exc_info=error)
            why = f"{type(error).__name__}: {error_text(error)}"
            reported = ToolError(f"tool {call.name!r}: its result is not JSON: {why}")
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
