"""`ClientRequests`: carries out the requests of an OpenAI Realtime client on a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from ...errors import ConfigurationError
from ...frames import Configure, Frame, Input, UserImage, UserText
from ...protocols.openai_realtime.config import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from .caller import CallerTurns
from .jobs import Jobs
from .tools import ClientTools, PastCall, PastMessage, PastResult, tool_spec
from .turns import AnswerWanted, BufferCleared, BufferCommitted

_NOT_HERE: dict[str, Any] = {
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
}
"""Settings that a client cannot change, and their values."""


class Head(Protocol):
    """The head of the pipeline."""

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono."""

    def feed_frame(self, frame: Input) -> None:
        """Take other input of the client, in its place among the audio."""

    def put(self, frame: Frame) -> None:
        """Push any frame, in its place among the audio."""


class AgentSide(Protocol):
    """The part of the agent's side that a client can influence."""

    spontaneous: bool
    """True while a response begins for which the client has not asked."""

    def cut(self, response_id: str, heard_s: float) -> None:
        """Cut a response, of which only `heard_s` seconds were heard."""

    def cancel(self) -> dict[str, Any]:
        """Interrupt the agent for the client. Returns the usage of its response."""

    def watch(self, response: ServerResponse) -> None:
        """End the response once there is no work on it any more."""


class ClientRequests:
    """The backend of the protocol session. `agent` and `configure_turns` are set when the processors are made."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        head: Head,
        jobs: Jobs,
        tools: ClientTools,
        *,
        model: str,
        tag: str,
        expires_at: int,
        client_may_configure: bool,
    ) -> None:
        self.protocol = RealtimeServerSession(
            send,
            self,
            model=model,
            tag=tag,
            expires_at=expires_at,
            voice="default",
            voices=None,
            fixed=frozenset({"model"} if client_may_configure else {"model", "instructions", "voice"}),
        )
        self.caller = CallerTurns(self.protocol)
        self.agent: AgentSide
        self.configure_turns: Callable[[dict[str, Any] | None], None] = lambda detection: None
        self._head = head
        self._jobs = jobs
        self._tools = tools
        self._client_may_configure = client_may_configure

    def configure(self, session: dict[str, Any], change: dict[str, Any]) -> None:
        """Configure the engine, as far as the client is allowed to. Settings without effect here keep fixed values."""
        if session["tool_choice"] != "auto":
            raise Refusal("invalid_value", "Only the tool_choice 'auto' is supported.", "session.tool_choice")
        if session["audio"]["output"]["speed"] != 1:
            raise Refusal("invalid_value", "Only the speed 1.0 is supported.", "session.audio.output.speed")
        session |= _NOT_HERE
        session["audio"]["input"]["noise_reduction"] = None
        frame, specs = Configure(), self._tools.specs
        if "tools" in change:
            specs = tuple(map(tool_spec, session["tools"]))
            frame = self._tools.with_tools(specs)
        if self._client_may_configure:
            voice = (change.get("audio") or {}).get("output", {}).get("voice")
            if voice is not None and not isinstance(voice, str):
                raise Refusal("invalid_value", "Only voices with a name are supported.", "session.audio.output.voice")
            frame = msgspec.structs.replace(frame, instructions=change.get("instructions"), voice=voice)
        if frame != Configure():
            try:
                self._tools.engine().check(frame)
            except ConfigurationError as error:
                raise Refusal("invalid_value", str(error), "session") from error
            self._head.put(frame)
        self._tools.use(specs)
        detection = session["audio"]["input"]["turn_detection"]
        if detection is not None and "idle_timeout_ms" in detection:
            detection["idle_timeout_ms"] = None
        self.configure_turns(detection)

    # -- the caller's audio ----------------------------------------------------------------------------------------

    def audio(self, pcm: bytes, rate: int) -> None:
        """Push the caller's audio."""
        self._head.feed(pcm, rate)

    def cleared(self) -> None:
        """Forget the audio that was not committed."""
        self._head.feed_frame(BufferCleared())

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Take a turn of the caller, which was found here or committed by the client."""
        if self.protocol.turn_detection is None:
            self._head.feed_frame(BufferCommitted())
            self.caller.waits = True
        elif not self.caller.ending:
            raise Refusal("invalid_value", "With turn detection the server commits the buffer.", "type")
        self.caller.committed(item, start_ms, end_ms)

    # -- items -----------------------------------------------------------------------------------------------------

    def created(self, item: ServerItem, at_end: bool) -> None:
        """Take text, an image, a tool call of another session, or the result of a tool."""
        if not at_end:
            raise Refusal("invalid_value", "Items can only be added at the end.", "previous_item_id")
        wire = item.wire
        if wire["type"] == "function_call":
            self._called(wire)
        elif wire["type"] == "function_call_output":
            self._answered(wire)
        elif wire["role"] == "assistant":
            self._feed(PastMessage(text=item.text))
        else:
            self._shown(item)

    def _shown(self, item: ServerItem) -> None:
        wire = item.wire
        for part in wire["content"]:
            if part["type"] == "input_audio":
                raise Refusal("invalid_value", "Audio goes into the input audio buffer.", "item.content")
            if part["type"] == "input_image":
                self._feed(UserImage(url=part.get("image_url", "")))
        if item.text:
            self._feed(UserText(text=item.text, author="caller" if wire["role"] == "user" else "system", respond=False))

    def _called(self, wire: dict[str, Any]) -> None:
        """Take a call that was made in another session. Its result follows."""
        try:
            arguments = json.loads(wire["arguments"] or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refusal("invalid_value", "The arguments are not a JSON object.", "item.arguments")
        if self._item("function_call", wire["call_id"]) is not None:
            raise Refusal("invalid_value", "This call is there already.", "item.call_id")
        self._feed(PastCall(call_id=wire["call_id"], name=wire["name"], arguments=arguments))

    def _answered(self, wire: dict[str, Any]) -> None:
        call_id, call = wire["call_id"], self._item("function_call", wire["call_id"])
        if self._item("function_call_output", call_id) is not None:
            raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
        if call is not None and not call.source:
            self._feed(PastResult(call_id=call_id, name=call.wire["name"], result=wire["output"]))
        else:
            self._tools.answer(call_id, wire["output"])

    def _item(self, kind: str, call_id: str) -> ServerItem | None:
        items = self.protocol.items
        found = (item for item in items if item.wire["type"] == kind and item.wire["call_id"] == call_id)
        return next(found, None)

    def deleted(self, item: ServerItem) -> None:
        """Forget a message of the agent."""
        if not item.source or item.wire["type"] != "message":
            raise Refusal("invalid_value", "Only what the agent said can be deleted.", "item_id")
        self.agent.cut(item.source, 0.0)

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Cut a message of the agent, of which the rest was not heard."""
        self.agent.cut(item.source, audio_end_ms / 1000)

    # -- responses -------------------------------------------------------------------------------------------------

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raise Refusal for a response that the application's agent cannot give in its one conversation."""
        for name in ("input", "tools", "tool_choice", "prompt"):
            if asked.get(name):
                raise Refusal("invalid_value", f"'response.{name}' is not supported.", f"response.{name}")
        if asked.get("conversation") == "none":
            message = "Responses out of band are not supported."
            raise Refusal("invalid_value", message, "response.conversation")
        if asked.get("instructions") and self.caller.waits:
            message = "Instructions for the answer to a spoken turn are not supported: set those of the session."
            raise Refusal("invalid_value", message, "response.instructions")

    def respond(self, response: ServerResponse) -> None:
        """Ask the engine for a response."""
        if self.agent.spontaneous:
            return
        self.caller.waits = False
        self._feed(AnswerWanted(instructions=response.own_instructions))  # after the results that came before it
        self.agent.watch(response)

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """End the response: the caller has spoken, or the client cancels it. Returns its usage."""
        return self.agent.cancel()

    def _feed(self, frame: Input) -> None:
        async def feed() -> None:
            self._head.feed_frame(frame)

        self._jobs.request(feed)
