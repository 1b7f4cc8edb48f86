"""`RtviClient`: an RTVI client, for the application. `ClientTool`: a tool that runs in the client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...agents.tool import Tool, ToolSpec
from ...agents.tool_context import ToolContext
from ...errors import ConfigurationError, ToolError
from ...processors.tools import shared_tools
from ...session.session import Session
from ...transports.client import ClientTransport, Message, client_of
from .messages import Version, envelope

MAX_EARLY = 100
"""Server messages that wait until the client is ready. Beyond that the oldest are dropped."""

FunctionCallReport = Literal["none", "name", "full"]


@dataclass(frozen=True, slots=True)
class ClientMessageHandler:
    """The function that answers a type of client messages, and the type of their data."""

    call: Callable[[Any], Any]
    model: Any


class RtviClient:
    """The client at the far end of a transport, for the application: see `of`.

    `function_calls` is how much the client receives of each tool call: only that it was made ("none"), its name, or its
    arguments and result as well ("full"). With `audio_levels` it receives the levels of both sides, with `metrics` the
    times of each turn and the consumption. `controls` are its rights beyond the conversation, for example
    `{"transfer", "usage"}`. Set these in `make_session`.
    """

    def __init__(self, transport: ClientTransport) -> None:
        self.function_calls: FunctionCallReport = "name"
        self.controls: Collection[str] | None = None
        """The client's rights beyond the conversation: see `ControlName`; None for the `controls` of `routes`."""
        self.audio_levels = False
        self.metrics = False
        self.ready = False
        """True once the client has sent `client-ready` and received `bot-ready`."""
        self.version: Version = (0, 0, 0)
        """The client's version of the protocol, (0, 0, 0) before it is known."""
        self.handlers: dict[str, ClientMessageHandler] = {}
        self._transport = transport
        self._early: deque[Message] = deque(maxlen=MAX_EARLY)
        self._asked: dict[str, asyncio.Future[Any]] = {}

    def on_client_message(self, type: str, handler: Callable[[Any], Any], model: Any = Any) -> None:
        """Let `handler(data)`, a `def` or an `async def`, answer the client's messages of a type.

        Its return value, as JSON, is the answer, or the error that it raises. The data is converted to `model` (a type
        that msgspec knows); data that does not fit is refused without a call. Raises ConfigurationError if the type has
        a handler already.
        """
        if type in self.handlers:
            raise ConfigurationError(f"client messages of type {type!r} have a handler already")
        self.handlers[type] = ClientMessageHandler(handler, model)

    def send_server_message(self, data: Any) -> None:
        """Send the application's own data, any JSON value. It waits until the client is ready."""
        message = {**envelope("server-message"), "data": data}
        if self.ready:
            self._transport.send_message(message)
        else:
            self._early.append(message)

    def become_ready(self) -> None:
        """Send the server messages that wait: the client is ready."""
        self.ready = True
        while self._early:
            self._transport.send_message(self._early.popleft())

    # -- the client's tools ----------------------------------------------------------------------------------------

    async def call(self, session: Session, name: str, arguments: dict[str, Any]) -> Any:
        """Let the client run a function that the agent has called. Raises ToolError if the client is not ready."""
        call_id = ToolContext.current().call_id
        if not self.ready or not call_id:
            raise ToolError(f"the client is not ready to run {name!r}")
        result = self._asked[call_id] = asyncio.get_running_loop().create_future()
        told: dict[str, Any] = {"function_name": name, "tool_call_id": call_id}
        # Clients that know both messages would start the function twice.
        if self.version[0] < 2:
            self._transport.send_message(envelope("llm-function-call", {**told, "args": arguments}))
        else:
            self._transport.send_message(envelope("llm-function-call-in-progress", {**told, "arguments": arguments}))
        try:
            return await result
        finally:
            del self._asked[call_id]

    def called(self, call_id: str, result: Any) -> bool:
        """Take the client's result. Returns False if no call waits for it."""
        waiting = self._asked.get(call_id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(result)
        return True


def of(transport: ClientTransport) -> RtviClient:
    """Return the client of a transport. May be called in `make_session`, and at any time after."""
    client = transport.attached.get(RtviClient)
    if client is None:
        client = transport.attached[RtviClient] = RtviClient(transport)
    assert isinstance(client, RtviClient)
    return client


class ClientToolSpec(ToolSpec, frozen=True, kw_only=True):
    """The specification of a tool that runs in the client. For the model it is a tool like any other."""


class ClientTool(Tool):
    """A tool that runs in the client, where `registerFunctionCallHandler` has a function of its name.

    `schema` is an OpenAI-style schema (flat, or under "function"); the options are those of `Tool`. A call fails if the
    client does not answer within `timeout_s` seconds, or does not speak RTVI. Raises ConfigurationError as
    `Tool.from_schema` does.
    """

    def __init__(self, schema: Mapping[str, Any], **options: Any) -> None:
        spec = Tool.from_schema(schema, _run_in_client).spec

        async def call() -> None:  # not in a thread
            """Stands in for the signature, which the schema gives."""

        super().__init__(call, name=spec.name, **options)
        self.function = _run_in_client
        self._arguments = None
        self.spec = ClientToolSpec(name=spec.name, description=spec.description, parameters=spec.parameters)


def is_client_tool(session: Session, name: str) -> bool:
    """Return True if the tool of this name runs in the client."""
    specs = [*shared_tools(session.pipeline), *(tool.spec for tool in (session.agent.toolset if session.agent else ()))]
    return any(isinstance(spec, ClientToolSpec) and spec.name == name for spec in specs)


async def _run_in_client(session: Session, name: str, arguments: dict[str, Any]) -> Any:
    transport = client_of(session)
    if transport is None:
        raise ToolError(f"{name!r} runs in a client, and this call has no RTVI client")
    return await of(transport).call(session, name, arguments)
