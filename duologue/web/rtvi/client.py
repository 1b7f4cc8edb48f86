"""`RtviClient`: what an application does with a client that speaks RTVI. `ClientTool`: a tool that runs there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...agents.tool import Tool, ToolSpec
from ...errors import ConfigurationError, ToolError
from ...session.pricing import PRICES, Prices
from ...session.tool_calls import running_call
from ...transports.client import ClientTransport, Message, client_of
from .messages import envelope

if TYPE_CHECKING:
    from ...session.session import Session

MAX_EARLY = 100
"""Server messages that wait for the client to be ready. Beyond that the oldest are dropped."""

Report = Literal["none", "name", "full"]


@dataclass(frozen=True, slots=True)
class Handler:
    """Who answers a client message, and what its data must be."""

    call: Callable[[Any], Any]
    model: Any


class RtviClient:
    """The client at the far end of a transport, for the application: see `of`.

    `function_calls` says what the client is told of the tools that the agent calls: that there is a call ("none"), its
    name, or its arguments and result as well ("full"). With `audio_levels` it is told how loud both sides are, with
    `metrics` where the time of each turn goes. To be set before the session runs.
    """

    def __init__(self, transport: ClientTransport) -> None:
        self.function_calls: Report = "name"
        self.audio_levels = False
        self.metrics = False
        self.prices: Prices = PRICES
        """By which the page is told what the call has cost."""
        self.ready = False
        """The client has said that it is ready, and was told that the agent is."""
        self.version = (0, 0, 0)
        """The client's version of the protocol."""
        self.handlers: dict[str, Handler] = {}
        self._transport = transport
        self._early: deque[Message] = deque(maxlen=MAX_EARLY)
        self._asked: dict[str, asyncio.Future[Any]] = {}

    def on_client_message(self, type: str, handler: Callable[[Any], Any], model: Any = Any) -> None:
        """Let `handler(data)` answer the client's messages of a type; what it returns, as JSON, is the answer.

        A plain function or an `async def`. The data is converted to `model` (a type that msgspec knows); what does not
        fit is refused without the handler. An error that it raises is the answer. Raises ConfigurationError if the
        type has a handler already.
        """
        if type in self.handlers:
            raise ConfigurationError(f"client messages of type {type!r} have a handler already")
        self.handlers[type] = Handler(handler, model)

    def send_server_message(self, data: Any) -> None:
        """Send the application's own data, any JSON value. What is sent before the client is ready waits for it."""
        message = {**envelope("server-message"), "data": data}
        if self.ready:
            self._transport.send_message(message)
        else:
            self._early.append(message)

    def become_ready(self) -> None:
        """The client may be told everything from now on."""
        self.ready = True
        while self._early:
            self._transport.send_message(self._early.popleft())

    # -- tools of the client's -------------------------------------------------------------------------------------

    async def call(self, session: Session, name: str, arguments: dict[str, Any]) -> Any:
        """Let the client run a function that the agent has called. Raises ToolError if it is not there."""
        call_id = running_call.get()
        if not self.ready or not call_id:
            raise ToolError(f"the client is not ready to run {name!r}")
        result = self._asked[call_id] = asyncio.get_running_loop().create_future()
        told: dict[str, Any] = {"function_name": name, "tool_call_id": call_id}
        # Each of the two starts the function in clients that know both.
        if self.version[0] < 2:
            self._transport.send_message(envelope("llm-function-call", {**told, "args": arguments}))
        else:
            self._transport.send_message(envelope("llm-function-call-in-progress", {**told, "arguments": arguments}))
        try:
            return await result
        finally:
            del self._asked[call_id]

    def called(self, call_id: str, result: Any) -> bool:
        """The client's result has come. False if none is waited for."""
        waiting = self._asked.get(call_id)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(result)
        return True


def of(transport: ClientTransport) -> RtviClient:
    """The client of a transport: in `make_session`, and at any time after."""
    client = transport.attached.get(RtviClient)
    if client is None:
        client = transport.attached[RtviClient] = RtviClient(transport)
    assert isinstance(client, RtviClient)
    return client


class ClientToolSpec(ToolSpec, frozen=True, kw_only=True):
    """What a model is told of a tool that runs in the client: the same as of any other."""


class ClientTool(Tool):
    """A tool that runs in the client: what `registerFunctionCallHandler` of Pipecat's clients has for its name.

    `schema` is an OpenAI-style schema (flat, or under "function"); the options are those of `Tool`. A client that
    gives no result within `timeout_s`, or is none that speaks RTVI, makes the call fail. Raises ConfigurationError as
    `Tool.from_schema` does.
    """

    def __init__(self, schema: Mapping[str, Any], **options: Any) -> None:
        spec = Tool.from_schema(schema, _run).spec

        def call() -> None:
            """Stands in for the signature, which the schema gives."""

        super().__init__(call, name=spec.name, **options)
        self.function = _run
        self._arguments = None
        self.spec = ClientToolSpec(name=spec.name, description=spec.description, parameters=spec.parameters)


async def _run(session: Session, name: str, arguments: dict[str, Any]) -> Any:
    transport = client_of(session)
    if transport is None:
        raise ToolError(f"{name!r} runs in a client, and this call has none")
    return await of(transport).call(session, name, arguments)
