"""Tools: functions that an agent may call, and the processor that runs them."""

from __future__ import annotations

import asyncio
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from ..agents.agent import Agent
from ..agents.tool import Tool, ToolSpec
from ..errors import BadInput, ConfigurationError, ToolError
from ..frames import ApprovalGiven, ApprovalWanted, Interrupted, ResponseStarted, ToolCall, ToolResult
from .kernel.groups import leaves
from .kernel.node import Node
from .processor import Processor, handles

RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model; the rest is cut with a notice."""


def shared_tools(pipeline: Node) -> tuple[ToolSpec, ...]:
    """What models are told of the tools that every agent has: those given to the `Tools` of a pipeline."""
    return tuple(spec for leaf in leaves(pipeline) if isinstance(leaf, Tools) for spec in leaf.specs)


class Tools(Processor):
    """Runs the tools that the active agent calls, at the same time if there are several.

    Looks a call up among `tools` and the own ones of the agent who calls. Every call gets exactly one result: what the
    function returns (falsy values and None included), or `{"error": …}` if it raises, takes longer than its limit, is
    unknown, is cancelled by an interruption, denied, or refused by a hook (`Session.intercept`). A result longer than
    `result_max_length` characters is cut, with a notice.
    """

    def __init__(
        self, tools: typing.Iterable[Tool | Callable[..., Any]] = (), *, result_max_length: int = RESULT_MAX_LENGTH
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
        self._running: dict[str, tuple[int, Tool, anyio.CancelScope]] = {}
        self._interrupted: set[str] = set()
        self._approvals: dict[str, asyncio.Future[ApprovalGiven]] = {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What models are told of the tools given here."""
        return tuple(tool.spec for tool in self._own.values())

    @handles(ResponseStarted)
    async def response(self, frame: ResponseStarted) -> None:
        """Remember whose response it is: its calls may come when another agent has the call."""
        self._caller = self.session.agent
        await self.push(frame)

    @handles(ToolCall)
    async def run(self, call: ToolCall) -> None:
        """Start a tool; its result follows on its own."""
        agent = self._caller or self.session.agent
        theirs = {t.name: t for t in agent.toolset} if agent is not None else {}
        known = {**self._own, **theirs}
        self.spawn(self._intercepted, call, known, agent.name if agent is not None else "")

    @handles(ApprovalGiven)
    def approval_given(self, signal: ApprovalGiven) -> None:
        """Somebody has decided about a call that waits."""
        waiting = self._approvals.pop(signal.call_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(signal)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel what the interruption makes pointless."""
        for call_id, (turn, tool, scope) in self._running.items():
            if turn <= signal.turn and tool.cancel_on_interruption:
                self._interrupted.add(call_id)
                scope.cancel()

    async def _intercepted(self, call: ToolCall, known: Mapping[str, Tool], agent: str) -> None:
        """Make the call as the hooks leave it."""
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self._answer(call, allowed.result, allowed.is_error, respond=allowed.respond)
        elif (tool := known.get(call.name)) is not None:
            await self._call(allowed, tool, agent)
        else:
            names = ", ".join(sorted(known)) or "none"
            await self._answer(call, {"error": f"there is no tool {call.name!r}; there are: {names}"}, True)

    async def _call(self, call: ToolCall, tool: Tool, agent: str) -> None:
        failed = False
        result: Any = None
        with anyio.move_on_after(tool.timeout_s) as scope:
            self._running[call.call_id] = (call.turn, tool, scope)
            try:
                if call.turn <= self.session.floor.fence and tool.cancel_on_interruption:  # before it could begin
                    self._interrupted.add(call.call_id)
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                denied = ""
                if tool.needs_approval:
                    scope.deadline = math.inf
                    denied = await self._denial(call, tool, agent)
                    scope.deadline = anyio.current_time() + tool.timeout_s
                if denied:
                    failed, result = True, {"error": f"denied: {denied}"}
                else:
                    result = await tool.call(self.session, call.arguments)
            except Exception as error:
                failed, result = True, self._failed(tool, error)
            except asyncio.CancelledError as error:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                failed, result = True, self._failed(tool, error)  # what it waited for was cancelled, not the tool
            finally:
                del self._running[call.call_id]
        interrupted = call.call_id in self._interrupted
        self._interrupted.discard(call.call_id)
        if scope.cancelled_caught:
            what = "the caller interrupted" if interrupted else f"no result within {tool.timeout_s:g} s"
            failed, result = True, {"error": f"cancelled: {what}"}
            if not interrupted:
                self.session.report(ToolError(f"tool {tool.name!r}: {what}"), self.name)
        await self._answer(call, result, failed, respond=not (interrupted and scope.cancelled_caught))

    async def _denial(self, call: ToolCall, tool: Tool, agent: str) -> str:
        """Wait for approval. Why it was not given; "" if it was."""
        waiting = self._approvals[call.call_id] = asyncio.get_running_loop().create_future()
        denied = "the caller interrupted"
        self.broadcast(
            ApprovalWanted(call_id=call.call_id, name=call.name, arguments=call.arguments, agent=agent),
        )
        try:
            with anyio.move_on_after(tool.approval_timeout_s):
                given = await waiting
                return "" if given.approved else given.reason or "this call was not approved"
            denied = f"nobody approved it within {tool.approval_timeout_s:g} s"
            return denied
        finally:
            if self._approvals.pop(call.call_id, None) is not None:  # whoever was asked need not decide any more
                self.broadcast(ApprovalGiven(call_id=call.call_id, approved=False, reason=denied))

    def _failed(self, tool: Tool, error: BaseException) -> dict[str, str]:
        text = str(error) or type(error).__name__
        reported = ToolError(f"tool {tool.name!r}: {type(error).__name__}: {error}")
        reported.__cause__ = error
        self.session.report(reported, self.name)
        return {"error": text}

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
        """The result as plain JSON data, cut if it is too long. Raises BadInput if it has no such form."""
        try:
            plain = msgspec.to_builtins(result, str_keys=True)
            encoded = msgspec.json.encode(plain).decode()
        except Exception as error:  # whatever a foreign object's own code raises
            raise BadInput(f"the tool returned something that is no JSON: {error}") from error
        text = plain if isinstance(plain, str) else encoded
        if len(text) <= self._max_length:
            return plain
        return text[: self._max_length] + f" … [cut: {len(text)} characters, {self._max_length} shown]"
