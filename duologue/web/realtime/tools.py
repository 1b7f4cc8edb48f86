"""`ClientTools`: the client's own tools and their calls."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ...agents.engine import Engine, plain_specs
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError
from ...frames import Configure, Frame, HandoffCompleted, Input, ToolCall, ToolResult
from ...processors.handoff.takeover import find_engine
from ...processors.kernel.groups import leaves
from ...processors.processor import Processor, handles
from ...processors.switch import Switch
from ...processors.tools import Tools
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...session.item import Kind, Role
from .jobs import Jobs

log = logging.getLogger("duologue")


class PastMessage(Input, frozen=True, kw_only=True):
    """A message of the agent in another session, or any message in the middle, which the client adds to the log."""

    text: str
    id: str
    role: Literal["system", "user", "assistant"] = "assistant"
    before: tuple[ServerItem, ...] = ()
    """The items that follow it."""


class PastCall(Input, frozen=True, kw_only=True):
    """A tool call in another session, which the client adds to the conversation."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    id: str
    before: tuple[ServerItem, ...] = ()


class PastResult(Input, frozen=True, kw_only=True):
    """The result of a tool call in another session, which the client adds to the conversation."""

    call_id: str
    name: str
    result: str
    before: tuple[ServerItem, ...] = ()


class AsideWanted(Input, frozen=True, kw_only=True):
    """The client asks for a response out of band. Its place is behind the words that came before it."""

    response_id: str


class ItemsForgotten(Input, frozen=True, kw_only=True):
    """The client deletes items of the log: those with these ids, or a tool call with its result."""

    ids: tuple[str, ...] = ()
    call_id: str = ""


class ClientTools(Processor):
    """Takes the calls of the client's tools out of the stream. Its place is between the engine and any `Tools`."""

    def __init__(self, jobs: Jobs, put: Callable[[Frame], None]) -> None:
        self._jobs = jobs
        self._put = put  # pushes a frame at the head of the pipeline
        self._given: tuple[ToolSpec, ...] = ()  # the client's tools
        self._specs: tuple[ToolSpec, ...] = ()  # those of them that the agent has none of the same name for
        self._own_specs: tuple[ToolSpec, ...] = ()
        self._calls: dict[str, list[ToolCall]] = {}  # by the response that makes them, until it has ended
        self._own_calls: set[str] = set()  # the responses in progress that call the application's tools
        self.on_aside: Callable[[str], None] = lambda response_id: None
        """Called when a response out of band may begin."""

    async def open(self) -> None:
        """Raise ConfigurationError if `Tools` would receive the client's calls."""
        order = leaves(self.session.pipeline)
        if any(isinstance(leaf, Tools) for leaf in order[: order.index(self)]):
            raise ConfigurationError("Tools stands before client_tools() and would receive its calls: put it behind")

    def begin(self) -> None:
        """Note the application's tools, which the engine has when the session begins."""
        self._own_specs = self.engine().config.tools

    def engine(self) -> Engine:
        """Return the active engine. Raises ConfigurationError without one."""
        found = find_engine(self.session.pipeline)
        if isinstance(found, Switch):
            found = found.branches[found.active]
        if not isinstance(found, Engine):
            raise ConfigurationError("there is no engine in the pipeline")
        return found

    # -- the tools -------------------------------------------------------------------------------------------------

    def usable(self, specs: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
        """Return the client's tools without those that have the name of an agent's tool, which goes first."""
        own = {spec.name for spec in self._own_specs}
        if taken := [spec.name for spec in specs if spec.name in own]:
            log.warning("tools of a client are passed over, because the agent has tools of these names: %s", taken)
        return tuple(spec for spec in specs if spec.name not in own)

    def with_tools(self, specs: tuple[ToolSpec, ...]) -> Configure:
        """Return the change that gives the engine these tools of the client beside the application's present tools."""
        self._own_specs = tuple(spec for spec in self.engine().config.tools if spec not in self._given)
        return Configure(tools=plain_specs((*self._own_specs, *self.usable(specs))))

    def use(self, specs: tuple[ToolSpec, ...]) -> None:
        """Set the client's tools."""
        self._given, self._specs = specs, self.usable(specs)

    def _is_the_clients(self, name: str) -> bool:
        return any(spec.name == name for spec in self._specs)

    @handles(HandoffCompleted)
    def handed_over(self, signal: HandoffCompleted) -> None:
        """Give the new agent the client's tools as well."""

        async def add() -> None:
            self._own_specs = tuple(spec for spec in self.engine().config.tools if spec not in self._given)
            self.use(self._given)
            if self._specs:
                self._put(self.with_tools(self._specs))

        self._jobs.add(add)

    # -- the calls -------------------------------------------------------------------------------------------------

    @handles(ToolCall)
    async def call(self, call: ToolCall) -> None:
        """Keep a call of a client's tool until its response has ended; push other calls on."""
        if self._is_the_clients(call.name):
            self._calls.setdefault(call.response_id, []).append(call)
        else:
            self._own_calls.add(call.response_id)
            await self.push(call)

    def take(self, response_id: str) -> list[ToolCall]:
        """Return the calls of the client's tools in a response that has ended."""
        return self._calls.pop(response_id, [])

    def calls_own(self, response_id: str) -> bool:
        """Return True if a response that has ended called tools of the application."""
        called = response_id in self._own_calls
        self._own_calls.discard(response_id)
        return called

    def send(self, response: ServerResponse, call: ToolCall) -> None:
        """Send a call to the client, which runs the tool."""
        self.session.calls.run(call, self)
        response.call(call.call_id, call.name, json.dumps(call.arguments))

    def refuse(self, calls: list[ToolCall]) -> None:
        """Answer calls with an error, without sending them to the client."""
        for call in calls:
            self._give(
                call.call_id, call.name, call.turn, {"error": "cancelled: the caller interrupted"}, is_error=True
            )

    def refuse_all(self) -> None:
        """Refuse the calls of all responses that have not ended: they were interrupted."""
        calls = [call for waiting in self._calls.values() for call in waiting]
        self._calls.clear()
        self._own_calls.clear()
        self.refuse(calls)

    def answer(self, call_id: str, output: str) -> None:
        """Take the client's result of a call. Raises Refusal if no call with this id waits for one."""
        call = self.session.calls.get(call_id)
        if call is None or call.runner is not self:
            raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
        call.runner = None
        self._give(call_id, call.name, call.turn, output)

    def abandon(self, call_id: str) -> None:
        """Answer a call with an error if the client still runs it: the client has deleted it."""
        call = self.session.calls.get(call_id)
        if call is not None and call.runner is self:
            call.runner = None
            self._give(call_id, call.name, call.turn, {"error": "cancelled by the client"}, is_error=True)

    def _give(self, call_id: str, name: str, turn: int, result: Any, *, is_error: bool = False) -> None:
        frame = ToolResult(call_id=call_id, name=name, result=result, turn=turn, is_error=is_error, respond=False)
        self._jobs.add(lambda: self.push_up(frame))

    # -- items of another session ------------------------------------------------------------------------------------

    @handles(AsideWanted)
    async def begin_aside(self, frame: AsideWanted) -> None:
        """Let a response out of band begin: the log has the client's earlier words."""
        self.on_aside(frame.response_id)

    @handles(PastMessage)
    async def remember(self, frame: PastMessage) -> None:
        """Log a message. It arrives here after the caller's earlier words."""
        author = "system" if frame.role == "system" else ""
        role: Role = "agent" if frame.role == "assistant" else "caller"
        self._log("message", role, frame.before, id=frame.id, text=frame.text, author=author)

    @handles(PastCall)
    async def remember_call(self, frame: PastCall) -> None:
        """Log a call of the agent."""
        call = {"call_id": frame.call_id, "name": frame.name, "data": frame.arguments}
        self._log("tool_call", "agent", frame.before, id=frame.id, **call)

    @handles(PastResult)
    async def remember_result(self, frame: PastResult) -> None:
        """Log the result of a past call."""
        result = {"call_id": frame.call_id, "name": frame.name, "data": frame.result, "text": frame.result}
        self._log("tool_result", "tool", frame.before, **result)

    def _log(self, kind: Kind, role: Role, before: tuple[ServerItem, ...], **fields: Any) -> None:
        """Log an item of the client, before the first of these items that the log has, by default at the end."""
        log, turn = self.session.conversation, self.session.floor.turn + 1
        log.add(kind, role, turn=turn, before=next(filter(log.get, map(self._log_id, before)), ""), **fields)

    def _log_id(self, item: ServerItem) -> str:
        """Return the id in the log of an item of the protocol, "" for one that the log does not have yet."""
        wire = item.wire
        if wire["type"] == "message":
            return item.sources[0] if item.sources else ""
        call = self.session.calls.get(wire["call_id"])
        if call is None:
            return ""
        return call.item_id if wire["type"] == "function_call" else call.result_id

    @handles(ItemsForgotten)
    async def forget(self, frame: ItemsForgotten) -> None:
        """Remove items from the log."""
        call = self.session.calls.get(frame.call_id)
        for item_id in (*frame.ids, call.item_id if call is not None else ""):
            self.session.conversation.remove(item_id)


def tool_spec(tool: dict[str, Any]) -> ToolSpec:
    """Return the specification of a client's tool. Raises Refusal for an unusable one."""
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


def choice_of(wanted: Any) -> str:
    """Return a client's choice of tools as in `Respond`. Raises Refusal."""
    if isinstance(wanted, str):
        return "" if wanted == "auto" else wanted
    if wanted["type"] != "function" or not wanted.get("name"):
        raise Refusal("invalid_value", "Only functions can be chosen, by their name.", "response.tool_choice")
    name: str = wanted["name"]
    return name
