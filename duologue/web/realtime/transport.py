"""`RealtimeTransport`: one call of a client of OpenAI's Realtime API."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import anyio
import msgspec

from ...audio.vad import Detector
from ...errors import ConfigurationError
from ...frames import Frame, Input
from ...frames.text import from_json
from ...processors.kernel.groups import leaves
from ...processors.kernel.node import Node
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...transports.client import ClientInput, ClientOutput, Message
from ...transports.playout.base import PlayoutSettings
from ...transports.websocket.connection import ClientSocket
from ...transports.websocket.serializers import Received, Serializer, Wired
from ...transports.websocket.transport import WebSocketLimits, WebSocketTransport
from .asides import Asides
from .jobs import Jobs
from .output import RealtimeOutput
from .requests import ClientRequests
from .tools import ClientTools
from .turns import RealtimeTurns


class RealtimeTransport(WebSocketTransport):
    """The processors of a call, and the protocol session with the client.

        Pipeline([transport.input(), transport.turns(), engine, transport.client_tools(), Tools(), transport.output()])

    `turns` does the work of `Vad`, `Endpointing` and `Interruption`, as the client configures it. The agent's audio is
    sent as it is made; the client plays it, and audio that it truncates counts as not heard. The client's tools are
    added to those of the application. With `client_may_configure` the client may also set the instructions and the
    voice; otherwise the application's stay. `session.updated` shows the settings in force.

    A client that sends nothing for `idle_s` seconds is cut off. `call_s` is the limit of the call in seconds, for
    `expires_at`; the transport does not end the call itself.
    """

    kind = "openai_realtime"

    def __init__(
        self,
        wire: ClientSocket,
        *,
        model: str = "duologue",
        id: str = "",
        identity: Any = None,
        data: Any = None,
        limits: WebSocketLimits | None = None,
        idle_s: float = 900.0,
        call_s: float = 3600.0,
        client_may_configure: bool = False,
    ) -> None:
        id = id or uuid.uuid4().hex[:12]
        self.model = model
        """The model that the client has named."""
        self._idle_s, self._call_s = idle_s, call_s
        self._begun = anyio.Event()
        self._turns: RealtimeTurns | None = None
        self._jobs = Jobs(lambda error: self._input.session.report(error, type(self).__name__))
        self._tools = ClientTools(self._jobs, self.put)
        self._asides = Asides(self._tools)
        self._requests = ClientRequests(
            self.send_message,
            self,
            self._jobs,
            self._tools,
            self._asides,
            model=model,
            tag=id,
            expires_at=int(time.time() + call_s),
            client_may_configure=client_may_configure,
        )
        serializer = _RealtimeSerializer(self._requests.protocol)
        super().__init__(wire, serializer, id=id, identity=identity, data=data, limits=limits)

    def make_input(self) -> ClientInput:
        """Return the head of the pipeline."""
        return _RealtimeInput(self)

    def make_output(self, sample_rate: int, settings: PlayoutSettings | None) -> ClientOutput:
        """Return the tail of the pipeline."""
        requests = self._requests
        output = RealtimeOutput(
            self, requests.protocol, requests.caller, self._tools, self._asides, lambda: self._sender.room()
        )
        requests.agent = output
        return output

    def turns(self, detector: Detector | None = None) -> RealtimeTurns:
        """Return the processor for turn-taking. Call this once. The default detector is that of `Vad`."""
        self._turns = RealtimeTurns(self._requests.caller, detector)
        self._requests.settings.configure_turns = self._turns.configure
        return self._turns

    def client_tools(self) -> ClientTools:
        """Return the processor that takes the calls of the client's tools. Its place is right behind the engine."""
        return self._tools

    def put(self, frame: Frame) -> None:
        """Push any frame at the head of the pipeline, in its place among the audio."""
        self._input.put(frame)

    def feed_frame(self, frame: Input) -> None:
        """Take other input of the client, at its place among the audio. Its images have been counted already."""
        self._input.feed_frame(frame)

    def new_log_id(self) -> str:
        """Return a new id for an item of the log."""
        return self._input.session.conversation.new_id()

    # -- the call --------------------------------------------------------------------------------------------------

    def check(self, pipeline: Node) -> None:
        """Raise ConfigurationError if the pipeline lacks a part."""
        self._tools.engine()
        parts = leaves(pipeline)
        there = {
            "turns": self._turns is not None and self._turns.gate in parts,
            "client_tools": self._tools in parts,
            "output": self._output in parts,
        }
        if missing := [name for name, found in there.items() if not found]:
            raise ConfigurationError(f"the pipeline has no {missing[0]}() of the transport's")

    def started(self) -> None:
        """Send `session.created`, and take the client's events: the session runs."""
        super().started()
        protocol = self._requests.protocol
        self._tools.begin()
        self._requests.caller.forget = self._input.session.conversation.remove
        self._requests.settings.configure_turns(protocol.turn_detection)
        self._input.spawn(self._jobs.work)
        protocol.open()
        self._begun.set()

    async def _read(self) -> None:
        await self._begun.wait()
        self._heard_at = self._loop.time()
        await super()._read()

    def _take(self, data: Wired, now: float) -> None:
        if self._input.in_session and self._input.session.audio.access == "revoked" and not _is_audio(data):
            self._sender.put(self.serializer.error("access_revoked", "The caller's access was revoked."))
        else:
            super()._take(data, now)

    def _watch(self) -> None:
        if self._begun.is_set() and self._loop.time() - self._heard_at >= self._idle_s:
            self._cut(1001, f"Nothing was received for {self._idle_s:g} s.")
        else:
            super()._watch()

    # -- the end ---------------------------------------------------------------------------------------------------

    def hang_up(self, reason: str = "client disconnected") -> None:
        """End the call at once, because the client has gone, and only the client decides which input is a turn."""
        super().hang_up(reason)
        if self._input.in_session:
            self._input.session.cancel(reason)

    def time_limit_reason(self, limit_s: float) -> str:
        """Return the reason in OpenAI's words."""
        return f"Your session hit the maximum duration of {limit_s / 60:g} minutes."

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Close the connection: with code 1001 after the time limit, otherwise like any WebSocket."""
        if self._closing is None and reason == self.time_limit_reason(self._call_s):
            self._begin_closing(1001, reason)
        await super().close(reason, error=error)


class _EventType(msgspec.Struct):
    type: str


_event_type = msgspec.json.Decoder(_EventType)


def _is_audio(data: Wired) -> bool:
    """Return True for an event with the caller's audio, which becomes silence if they have no access."""
    try:
        return bool(from_json(data, _event_type).type == "input_audio_buffer.append")
    except msgspec.DecodeError:
        return False


class _RealtimeSerializer(Serializer):
    """Events of OpenAI's Realtime API. The protocol session takes the client's events and sends its own."""

    def __init__(self, protocol: RealtimeServerSession) -> None:
        super().__init__()
        self._protocol = protocol

    def parse(self, data: Wired) -> Received | None:
        self._protocol.receive(data)
        return None

    def message(self, message: Message) -> Wired:
        return json.dumps(message)  # clients may send lone surrogates, which msgspec refuses

    def error(self, code: str, message: str) -> None:
        internal = code == "internal_error"
        kind = "server_error" if internal else "invalid_request_error"
        self._protocol.error(kind if internal else code, message, kind=kind)


class _RealtimeInput(ClientInput):
    """Checks the pipeline before the call begins."""

    transport: RealtimeTransport
    takes_marks = False

    async def open(self) -> None:
        """Raise ConfigurationError if the pipeline lacks one of the transport's processors, or an engine."""
        self.transport.check(self.session.pipeline)
        await super().open()
