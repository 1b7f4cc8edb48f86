"""`RealtimeTransport`: one call by OpenAI's Realtime API, between the wire's session and a pipeline."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from ...agents.engine import Engine
from ...agents.tool import ToolSpec, plain_specs
from ...audio.vad import Detector
from ...errors import ConfigurationError
from ...frames import Configure, Frame, Input, ToolCall, ToolResult, UserImage, UserText, UserTranscript
from ...processors.handoff.find import find_engine
from ...processors.kernel.groups import leaves
from ...processors.kernel.node import Node
from ...processors.switch import Switch
from ...processors.turns.interruption import may_interrupt
from ...protocols.openai_realtime.config import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...session.session import Session
from ...transports.base import TransportInput
from .output import AgentCalled, AgentSaid, AgentWasGiven, ClientTools, RealtimeOutput
from .transcripts import Transcripts
from .turns import AnswerWanted, BufferCleared, BufferCommitted, RealtimeTurns

MAX_JOBS = 1_000
"""What the client has asked for and the pipeline has not taken. Beyond that it is refused."""


_NOT_HERE: dict[str, Any] = {
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
}
"""Settings that are the application's affair."""


class RealtimeTransport:
    """The processors of a call, and the call's session on the wire.

        Pipeline([transport.input(), transport.turns(), engine, transport.client_tools(), Tools(), transport.output()])

    `turns` does what `VadProcessor`, `Endpointing` and `Interruption` do elsewhere, as the client wants it done. The
    agent's audio goes out as it is made: the client plays it, and what it truncates was not heard. Tools that the
    client brings are added to those of the application. With `client_may_configure` the client may set instructions
    and voice too; otherwise they stay as the application has them. `session.updated` shows what is in force.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        room: Callable[[], Awaitable[None]],
        *,
        model: str,
        tag: str,
        expires_at: int,
        client_may_configure: bool = False,
    ) -> None:
        self.client_may_configure = client_may_configure
        self.wire = RealtimeServerSession(
            send,
            self,
            model=model,
            tag=tag,
            expires_at=expires_at,
            voice="default",
            voices=None,
            fixed=frozenset({"model"} if client_may_configure else {"model", "instructions", "voice"}),
        )
        self.room = room
        """Waits while the client takes too little of what is sent."""
        self.started = anyio.Event()
        """The pipeline runs: the client's events may come."""
        self.turns_under_way = 0
        """Turns of the caller's whose end has not passed the engine yet."""
        self.transcripts = Transcripts(self.wire.transcribed)
        self.cancelling = False
        """The wire cancels its response just now."""
        self._specs: tuple[ToolSpec, ...] = ()
        self._own_specs: tuple[ToolSpec, ...] = ()
        self._open_calls: dict[str, ToolCall] = {}
        self._told_calls: dict[str, str] = {}  # made in another session, their results to come: names by id
        self._spontaneous = False
        self._ending = False
        self._turn_waits = False  # a spoken turn is answered when the client asks for it
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._news = asyncio.Event()
        self._input = _Input(self)
        self._turns: RealtimeTurns | None = None
        self._tools = ClientTools(self)
        self._output = RealtimeOutput(self, self._tools)

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def turns(self, detector: Detector | None = None) -> RealtimeTurns:
        """Turn-taking; to be called once. The detector is `VadProcessor`'s by default."""
        self._turns = RealtimeTurns(self, detector)
        return self._turns

    def client_tools(self) -> ClientTools:
        """What takes the calls of the client's tools. Stands right behind the engine."""
        return self._tools

    def output(self) -> RealtimeOutput:
        """The tail of the pipeline."""
        return self._output

    @property
    def client_tool_names(self) -> frozenset[str]:
        """The tools that the client runs."""
        return frozenset(spec.name for spec in self._specs)

    # -- for the processors ----------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        return self._input.session

    @property
    def _ears(self) -> RealtimeTurns:
        assert self._turns is not None
        return self._turns

    def check(self, pipeline: Node) -> None:
        """Raise ConfigurationError if the pipeline lacks a part."""
        self._engine()
        parts = leaves(pipeline)
        there = {
            "turns": self._turns is not None and self._turns.gate in parts,
            "client_tools": self._tools in parts,
            "output": self._output in parts,
        }
        if missing := [name for name, found in there.items() if not found]:
            raise ConfigurationError(f"the pipeline has no {missing[0]}() of the transport's")

    def begin(self) -> None:
        """The session runs: the client is told, and its events are taken."""
        self._own_specs = self._engine().config.tools
        self._ears.configure(self.wire.turn_detection)
        self._input.spawn(self._work)
        self.wire.open()
        self.started.set()

    def speech_started(self, at: float) -> None:
        """The caller speaks: tell the client, and interrupt the agent if the client wants it."""
        detection, session = self.wire.turn_detection, self._session
        interrupt = session.floor.owner != "agent" or may_interrupt(session)
        self.wire.speech_started(self._ears.ear.place_ms(at), interrupt=interrupt)
        if detection is not None and detection["interrupt_response"] and may_interrupt(session):
            session.interrupt()  # it was still thinking

    def turn_ended(self, at: float) -> bool:
        """The caller's turn, which ends there, is complete. Returns whether it is answered by itself."""
        ears = self._ears
        self._ending = True
        try:
            end_ms = min(ears.ear.place_ms(at) + ears.silence_ms, self.wire.received_ms)
            self.wire.speech_stopped(end_ms, respond=False)
        finally:
            self._ending = False
        detection = self.wire.turn_detection
        self._turn_waits = detection is None or not detection["create_response"]
        return not self._turn_waits

    def said(self, frame: UserTranscript) -> None:
        """Something that the caller has said."""
        place_ms = self._ears.ear.place_ms
        self.transcripts.said(frame.text, place_ms(frame.start_s), place_ms(frame.end_s))

    def begin_response(self) -> ServerResponse:
        """The agent speaks without having been asked by the client."""
        self._spontaneous = True
        try:
            return self.wire.respond({})
        finally:
            self._spontaneous = False

    def call_tool(self, response: ServerResponse, call: ToolCall) -> None:
        """The client is to run a tool."""
        self._open_calls[call.call_id] = call
        response.call(call.call_id, call.name, json.dumps(call.arguments))

    def refuse_calls(self, calls: list[ToolCall]) -> None:
        """The client never hears of these calls."""
        for call in calls:
            self._give(call, {"error": "cancelled: the caller interrupted"}, is_error=True)

    def tools_changed(self) -> None:
        """Another agent has the call."""

        async def add() -> None:
            self._own_specs = tuple(
                spec for spec in self._engine().config.tools if spec.name not in self.client_tool_names
            )
            if self._specs:
                self._input.put(self._with_tools(self._specs))

        self._do(add)

    # -- what the client asks for ----------------------------------------------------------------------------------

    def configure(self, session: dict[str, Any], change: dict[str, Any]) -> None:
        """Set the engine up, as far as the client may. What has no meaning here is shown as it is."""
        if session["tool_choice"] != "auto":
            raise Refusal("invalid_value", "Only the tool_choice 'auto' is supported.", "session.tool_choice")
        if session["audio"]["output"]["speed"] != 1:
            raise Refusal("invalid_value", "Only the speed 1.0 is supported.", "session.audio.output.speed")
        session |= _NOT_HERE
        session["audio"]["input"]["noise_reduction"] = None
        frame, specs = Configure(), self._specs
        if "tools" in change:
            specs = tuple(map(_spec, session["tools"]))
            frame = self._with_tools(specs)
        if self.client_may_configure:
            voice = (change.get("audio") or {}).get("output", {}).get("voice")
            if voice is not None and not isinstance(voice, str):
                raise Refusal("invalid_value", "Only voices with a name are supported.", "session.audio.output.voice")
            frame = msgspec.structs.replace(frame, instructions=change.get("instructions"), voice=voice)
        if frame != Configure():
            try:
                self._engine().check(frame)
            except ConfigurationError as error:
                raise Refusal("invalid_value", str(error), "session") from error
            self._input.put(frame)
        self._specs = specs
        detection = session["audio"]["input"]["turn_detection"]
        if detection is not None and "idle_timeout_ms" in detection:
            detection["idle_timeout_ms"] = None
        self._ears.configure(detection)

    def audio(self, pcm: bytes, rate: int) -> None:
        """The caller's audio."""
        self._input.feed(pcm, rate)

    def cleared(self) -> None:
        """Forget what was not committed."""
        self._input.feed_frame(BufferCleared())

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """A turn of the caller's, found here or told by the client."""
        if self.wire.turn_detection is None:
            self._input.feed_frame(BufferCommitted())
            self._turn_waits = True
        elif not self._ending:
            raise Refusal("invalid_value", "With turn detection the server commits the buffer.", "type")
        self.transcripts.committed(item, start_ms, end_ms)

    def created(self, item: ServerItem, at_end: bool) -> None:
        """Text, an image, or the result of a tool."""
        wire = item.wire
        if not at_end:
            raise Refusal("invalid_value", "Items can only be added at the end.", "previous_item_id")
        if wire["type"] == "function_call":
            self._remember_call(wire)
            return
        if wire["type"] == "function_call_output":
            if name := self._told_calls.pop(wire["call_id"], ""):
                self._feed(AgentWasGiven(call_id=wire["call_id"], name=name, result=wire["output"]))
                return
            call = self._open_calls.pop(wire["call_id"], None)
            if call is None:
                raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
            self._give(call, wire["output"])
            return
        if wire["role"] == "assistant":
            self._feed(AgentSaid(text=item.text))
            return
        for part in wire["content"]:
            if part["type"] == "input_audio":
                raise Refusal("invalid_value", "Audio goes into the input audio buffer.", "item.content")
            if part["type"] == "input_image":
                self._feed(UserImage(url=part.get("image_url", "")))
        if item.text:
            self._feed(UserText(text=item.text, author="caller" if wire["role"] == "user" else "system", respond=False))

    def _remember_call(self, wire: dict[str, Any]) -> None:
        """A call that was made in another session. Its result is to follow."""
        try:
            arguments = json.loads(wire["arguments"] or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refusal("invalid_value", "The arguments are no JSON object.", "item.arguments")
        if wire["call_id"] in self._told_calls or len(self._told_calls) >= MAX_JOBS:
            raise Refusal("invalid_value", "This call is there already.", "item.call_id")
        self._told_calls[wire["call_id"]] = wire["name"]
        self._feed(AgentCalled(call_id=wire["call_id"], name=wire["name"], arguments=arguments))

    def deleted(self, item: ServerItem) -> None:
        """Forget something that the agent said."""
        if not item.source or item.wire["type"] != "message":
            raise Refusal("invalid_value", "Only what the agent said can be deleted.", "item_id")
        self._output.cut(item.source, 0.0)

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """The rest was not heard."""
        self._output.cut(item.source, audio_end_ms / 1000)

    def check_response(self, asked: dict[str, Any]) -> None:
        """There is one conversation, and its agent is the application's."""
        for name in ("input", "tools", "tool_choice", "prompt"):
            if asked.get(name):
                raise Refusal("invalid_value", f"'response.{name}' is not supported.", f"response.{name}")
        if asked.get("conversation") == "none":
            message = "Responses out of band are not supported."
            raise Refusal("invalid_value", message, "response.conversation")
        if asked.get("instructions") and self._turn_waits:
            message = "Instructions for the answer to a spoken turn are not supported: set those of the session."
            raise Refusal("invalid_value", message, "response.instructions")

    def respond(self, response: ServerResponse) -> None:
        """The client asks for a response."""
        if self._spontaneous:
            return
        self._turn_waits = False
        frame = AnswerWanted(instructions=response.own_instructions)

        async def ask() -> None:
            self._input.feed_frame(frame)

        self._do(ask)  # behind the results that were sent before
        self._output.watch(response)

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """The response is over: for the caller spoke, or by the client's wish."""
        self.cancelling = True
        try:
            self._session.interrupt()
        finally:
            self.cancelling = False
        return self._output.take_usage()

    # -- what is done one after the other --------------------------------------------------------------------------

    def _feed(self, frame: Input) -> None:
        async def feed() -> None:
            self._input.feed_frame(frame)

        self._do(feed)

    def _give(self, call: ToolCall, result: Any, *, is_error: bool = False) -> None:
        frame = ToolResult(
            call_id=call.call_id, name=call.name, result=result, turn=call.turn, is_error=is_error, respond=False
        )
        self._do(lambda: self._tools.push_up(frame))

    def _do(self, job: Callable[[], Awaitable[None]]) -> None:
        if len(self._jobs) >= MAX_JOBS:
            raise Refusal("rate_limit_exceeded", f"{MAX_JOBS} events wait already.")
        self._jobs.append(job)
        self._news.set()

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._jobs:
                await self._jobs.popleft()()

    def _with_tools(self, specs: tuple[ToolSpec, ...]) -> Configure:
        return Configure(tools=plain_specs((*self._own_specs, *specs)))

    def _engine(self) -> Engine:
        found = find_engine(self._session.pipeline)
        if isinstance(found, Switch):
            found = found.branches[found.active]
        if not isinstance(found, Engine):
            raise ConfigurationError("there is no engine in the pipeline")
        return found


class _Input(TransportInput):
    """Begins the call on the wire when the session has started."""

    def __init__(self, transport: RealtimeTransport) -> None:
        super().__init__()
        self._transport = transport

    async def open(self) -> None:
        """Raises ConfigurationError if the pipeline lacks a part of the transport's, or has no engine."""
        self._transport.check(self.session.pipeline)
        await super().open()

    def started(self) -> None:
        self._transport.begin()

    def put(self, frame: Frame) -> None:
        """A frame in its place among the audio."""
        self._put(frame)


def _spec(tool: dict[str, Any]) -> ToolSpec:
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
