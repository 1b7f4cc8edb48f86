"""`Tools`: the processor that runs the tools of agents."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from ..agents.agent import Agent
from ..agents.tool import Tool, ToolSpec
from ..errors import BadInput, ConfigurationError, ToolError
from ..frames import ApprovalGiven, ApprovalWanted, Interrupted, ResponseStarted, ToolCall, ToolResult
from ..session.tool_calls import RegisteredCall, running_call
from .kernel.groups import leaves
from .kernel.node import Node
from .processor import Processor, handles

RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model. The rest is cut, with a notice."""


def shared_tools(pipeline: Node) -> tuple[ToolSpec, ...]:
    """Return the specifications of the tools that every agent has: those given to the pipeline's `Tools`."""
    return tuple(spec for leaf in leaves(pipeline) if isinstance(leaf, Tools) for spec in leaf.specs)


class Tools(Processor):
    """Runs the tools that the active agent calls, several at the same time.

    The tool of a call is one of `tools` or of the calling agent's own tools. Every call gets exactly one result: the
    value that the function returns (falsy values and None included), or `{"error": …}` if the function raises or
    exceeds its time limit, or if the call is unknown, cancelled by an interruption, denied, or refused by a hook
    (`Session.intercept`). A result longer than `result_max_length` characters is cut, with a notice.
    """

    follows = frozenset({ToolCall})

    def __init__(
        self, tools: Iterable[Tool | Callable[..., Any]] = (), *, result_max_length: int = RESULT_MAX_LENGTH
    ) -> None:
        if result_max_length <= 0:
            raise ConfigurationError(f"result_max_length must be positive, not {result_max_length}")
        self._own: dict[str, Tool] = {}
        for tool in (t if isinstance(t, Tool) else Tool(t) for t in tools):
            if tool.name in self._own:
                raise ConfigurationError(f"two tools are named {tool.name!r}")
            self._own[tool.name] = tool
        self._max_length = result_max_length
        self._caller: Agent | None = None

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The specifications of the tools given here, for models."""
        return tuple(tool.spec for tool in self._own.values())

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
        known = {**self._own, **theirs}
        self.spawn(self._intercepted, call, known, agent.name if agent is not None else "")

    @handles(ApprovalGiven)
    def approval_given(self, signal: ApprovalGiven) -> None:
        """Pass the decision to the tool call that waits for it."""
        call = self.session.calls.get(signal.call_id)
        if call is not None and isinstance(call.runner, ToolRun) and call.runner.owner is self:
            call.runner.decide(signal)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel the tool calls of the interrupted turns, except tools that go on through interruptions."""
        for call in self.session.calls.open():
            if call.turn <= signal.turn and isinstance(call.runner, ToolRun) and call.runner.owner is self:
                call.runner.interrupt()

    async def _intercepted(self, call: ToolCall, known: Mapping[str, Tool], agent: str) -> None:
        """Run the call as the hooks have left it."""
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self._answer(call, allowed.result, allowed.is_error, respond=allowed.respond)
        elif (tool := known.get(call.name)) is not None:
            await self._call(ToolRun(self, tool, allowed, agent))
        else:
            names = ", ".join(sorted(known)) or "none"
            await self._answer(call, {"error": f"there is no tool {call.name!r}; there are: {names}"}, True)

    async def _call(self, run: ToolRun) -> None:
        calls, call = self.session.calls, run.call
        registered = calls.run(call, run)
        try:
            result, failed, respond = await run.result(registered)
        finally:
            registered.runner = None
            if not registered.item_id:  # its engine does not log calls
                calls.forget(call.call_id)
        await self._answer(call, result, failed, respond=respond)

    async def _answer(self, call: ToolCall, result: Any, failed: bool, *, respond: bool = True) -> None:
        try:
            result = self._plain(result)
        except BadInput as error:
            result, failed = {"error": str(error)}, True
        await self.push_up(
            ToolResult(
                call_id=call.call_id, name=call.name, result=result, turn=call.turn, is_error=failed, respond=respond
            )
        )

    def _plain(self, result: Any) -> Any:
        """Return the result as plain JSON data, cut if it is too long. Raises BadInput if it is not JSON data."""
        try:
            plain = msgspec.to_builtins(result, str_keys=True)
            encoded = msgspec.json.encode(plain).decode()
        except Exception as error:  # code of the result object may raise any error
            raise BadInput(f"the tool returned a value that is not JSON: {error}") from error
        text = plain if isinstance(plain, str) else encoded
        if len(text) <= self._max_length:
            return plain
        return text[: self._max_length] + f" … [cut: {len(text)} characters, {self._max_length} shown]"


class ToolRun:
    """One running tool call: its approval, its function and its limits."""

    def __init__(self, owner: Tools, tool: Tool, call: ToolCall, agent: str) -> None:
        self.owner = owner
        self.tool = tool
        self.call = call
        self.agent = agent
        self._scope = anyio.CancelScope()
        self._interrupted = False
        self._decision: asyncio.Future[ApprovalGiven] | None = None

    def interrupt(self) -> None:
        """Cancel the function, if an interruption may cancel this tool."""
        if self.tool.cancel_on_interruption:
            self._interrupted = True
            self._scope.cancel()

    def decide(self, signal: ApprovalGiven) -> None:
        """Approve or deny the call. Only the first decision counts."""
        if self._decision is not None and not self._decision.done():
            self._decision.set_result(signal)

    async def result(self, registered: RegisteredCall) -> tuple[Any, bool, bool]:
        """Return the result, and two flags: it is an error, it wants an answer."""
        tool, session, failed, result = self.tool, self.owner.session, False, None
        running_call.set(self.call.call_id)
        self._scope.deadline = anyio.current_time() + tool.timeout_s
        with self._scope:
            try:
                if self.call.turn <= session.floor.fence and tool.cancel_on_interruption:  # interrupted before it began
                    self.interrupt()
                    await anyio.lowlevel.checkpoint()
                denied = ""
                if tool.needs_approval:
                    registered.state, self._scope.deadline = "approval", math.inf
                    denied = await self._denial()
                    registered.state, self._scope.deadline = "running", anyio.current_time() + tool.timeout_s
                if denied:
                    failed, result = True, {"error": f"denied: {denied}"}
                else:
                    result = await tool.call(session, self.call.arguments)
            except Exception as error:
                failed, result = True, self._failed(error)
            except asyncio.CancelledError as error:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                failed, result = True, self._failed(error)  # a task that the tool awaited was cancelled
        if not self._scope.cancelled_caught:
            return result, failed, True
        why = "the caller interrupted" if self._interrupted else f"no result within {tool.timeout_s:g} s"
        if not self._interrupted:
            session.report(ToolError(f"tool {tool.name!r}: {why}"), self.owner.name)
        return {"error": f"cancelled: {why}"}, True, not self._interrupted

    async def _denial(self) -> str:
        """Wait for approval. Returns the reason if it is denied or does not come in time, else ""."""
        tool, call, owner = self.tool, self.call, self.owner
        self._decision = asyncio.get_running_loop().create_future()
        denied = "the caller interrupted"
        owner.broadcast(
            ApprovalWanted(call_id=call.call_id, name=call.name, arguments=call.arguments, agent=self.agent),
        )
        try:
            with anyio.move_on_after(tool.approval_timeout_s):
                given = await self._decision
                return "" if given.approved else given.reason or "this call was not approved"
            denied = f"nobody approved it within {tool.approval_timeout_s:g} s"
            return denied
        finally:
            if not self._decision.done() or self._decision.cancelled():  # a decision is not needed any more
                self._decision = None
                owner.broadcast(ApprovalGiven(call_id=call.call_id, approved=False, reason=denied))

    def _failed(self, error: BaseException) -> dict[str, str]:
        text = str(error) or type(error).__name__
        reported = ToolError(f"tool {self.tool.name!r}: {type(error).__name__}: {error}")
        reported.__cause__ = error
        self.owner.session.report(reported, self.owner.name)
        return {"error": text}
