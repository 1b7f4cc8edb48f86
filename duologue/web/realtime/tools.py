"""`ClientTools`: the tools that the client brings, and the calls of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from ...agents.engine import Engine
from ...agents.tool import ToolSpec, plain_specs
from ...errors import ConfigurationError
from ...frames import Configure, Frame, HandoffCompleted, Input, ToolCall, ToolResult
from ...processors.handoff.takeover import find_engine
from ...processors.kernel.groups import leaves
from ...processors.processor import Processor, handles
from ...processors.switch import Switch
from ...processors.tools import Tools
from ...protocols.openai_realtime.config import Refusal
from ...protocols.openai_realtime.response import ServerResponse
from .jobs import Jobs


class AgentSaid(Input, frozen=True, kw_only=True):
    """The client puts a message of the agent into the conversation."""

    text: str


class AgentCalled(Input, frozen=True, kw_only=True):
    """The client puts a tool call of the agent into the conversation, which was made in another session."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class AgentWasGiven(Input, frozen=True, kw_only=True):
    """The client puts the result of a tool call that was made in another session into the conversation."""

    call_id: str
    name: str
    result: str


class ClientTools(Processor):
    """Takes the calls of the client's tools out of the stream. Stands behind the engine, before any `Tools`."""

    def __init__(self, jobs: Jobs, put: Callable[[Frame], None]) -> None:
        self._jobs = jobs
        self._put = put  # pushes a frame at the head of the pipeline
        self._specs: tuple[ToolSpec, ...] = ()
        self._own_specs: tuple[ToolSpec, ...] = ()
        self._calls: dict[str, list[ToolCall]] = {}  # by the response that makes them, until it has ended
        self._own_calls: set[str] = set()  # the responses under way that call the application's tools

    async def open(self) -> None:
        """Raises ConfigurationError if `Tools` would get the client's calls."""
        order = leaves(self.session.pipeline)
        if any(isinstance(leaf, Tools) for leaf in order[: order.index(self)]):
            raise ConfigurationError("Tools stands before client_tools(), and would get its calls: put it behind")

    def begin(self) -> None:
        """The session runs: the engine has the application's tools."""
        self._own_specs = self.engine().config.tools

    def engine(self) -> Engine:
        """The engine that answers now. Raises ConfigurationError if there is none."""
        found = find_engine(self.session.pipeline)
        if isinstance(found, Switch):
            found = found.branches[found.active]
        if not isinstance(found, Engine):
            raise ConfigurationError("there is no engine in the pipeline")
        return found

    # -- the tools -------------------------------------------------------------------------------------------------

    def with_tools(self, specs: tuple[ToolSpec, ...]) -> Configure:
        """The engine's configuration with these tools of the client, beside the application's."""
        return Configure(tools=plain_specs((*self._own_specs, *specs)))

    def use(self, specs: tuple[ToolSpec, ...]) -> None:
        """The client's tools from now on."""
        self._specs = specs

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The client's tools."""
        return self._specs

    def _is_the_clients(self, name: str) -> bool:
        return any(spec.name == name for spec in self._specs)

    @handles(HandoffCompleted)
    def handed_over(self, signal: HandoffCompleted) -> None:
        """The new agent gets the client's tools as well."""

        async def add() -> None:
            self._own_specs = tuple(spec for spec in self.engine().config.tools if not self._is_the_clients(spec.name))
            if self._specs:
                self._put(self.with_tools(self._specs))

        self._jobs.add(add)

    # -- the calls -------------------------------------------------------------------------------------------------

    @handles(ToolCall)
    async def call(self, call: ToolCall) -> None:
        """Keep it until the response stands, or let it pass."""
        if self._is_the_clients(call.name):
            self._calls.setdefault(call.response_id, []).append(call)
        else:
            self._own_calls.add(call.response_id)
            await self.push(call)

    def take(self, response_id: str) -> list[ToolCall]:
        """The calls of the client's tools that this response made; it has ended."""
        return self._calls.pop(response_id, [])

    def calls_own(self, response_id: str) -> bool:
        """Returns True if this response, which has ended, called tools of the application."""
        called = response_id in self._own_calls
        self._own_calls.discard(response_id)
        return called

    def send(self, response: ServerResponse, call: ToolCall) -> None:
        """The client is to run a tool."""
        self.session.calls.run(call, self)
        response.call(call.call_id, call.name, json.dumps(call.arguments))

    def refuse(self, calls: list[ToolCall]) -> None:
        """The client never hears of these calls."""
        for call in calls:
            self._give(
                call.call_id, call.name, call.turn, {"error": "cancelled: the caller interrupted"}, is_error=True
            )

    def refuse_all(self) -> None:
        """An interruption: the client never hears of the calls whose responses have not ended."""
        calls = [call for waiting in self._calls.values() for call in waiting]
        self._calls.clear()
        self._own_calls.clear()
        self.refuse(calls)

    def answer(self, call_id: str, output: str) -> None:
        """The client's result of a call. Raises Refusal if none of this id waits for one."""
        call = self.session.calls.get(call_id)
        if call is None or call.runner is not self:
            raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
        call.runner = None
        self._give(call_id, call.name, call.turn, output)

    def _give(self, call_id: str, name: str, turn: int, result: Any, *, is_error: bool = False) -> None:
        frame = ToolResult(call_id=call_id, name=name, result=result, turn=turn, is_error=is_error, respond=False)
        self._jobs.add(lambda: self.push_up(frame))

    # -- items of another session ------------------------------------------------------------------------------------

    @handles(AgentSaid)
    async def remember(self, frame: AgentSaid) -> None:
        """Log a message of the agent. It comes here behind the caller's words before it."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add("message", "agent", text=frame.text, turn=turn)

    @handles(AgentCalled)
    async def remember_call(self, frame: AgentCalled) -> None:
        """Log a call of the agent."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add(
            "tool_call", "agent", turn=turn, call_id=frame.call_id, name=frame.name, data=frame.arguments
        )

    @handles(AgentWasGiven)
    async def remember_result(self, frame: AgentWasGiven) -> None:
        """Log the result of such a call."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add(
            "tool_result",
            "tool",
            turn=turn,
            call_id=frame.call_id,
            name=frame.name,
            data=frame.result,
            text=frame.result,
        )


def tool_spec(tool: dict[str, Any]) -> ToolSpec:
    """A tool as the client brings it. Raises Refusal for one that cannot be used."""
    if tool["type"] != "function":
        raise Refusal("invalid_value", "Only tools of type 'function' are supported.", "session.tools")
    try:
        return msgspec.convert(
            {
                "name": tool["name"],
                "description": tool.get("description") or "",
                "parameters": tool.get("parameters") or {"type": "object", "properties": {}},
            },
            ToolSpec,
        )
    except msgspec.ValidationError as error:
        raise Refusal("invalid_value", f"The tool is malformed: {error}", "session.tools") from error
