"""`ClientTransport`: a call from a client at the far end of a network, with messages beside the audio."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from ..agents.engine import Engine
from ..frames import BotAudio, ClientChanged, Frame, Input
from ..processors.kernel.groups import Group, leaves
from ..processors.kernel.node import Node
from ..session.session import Session
from .base import TransportInput, TransportOutput
from .playout.base import AudioSink, PlayoutSettings

Message = dict[str, Any]
"""A JSON object, to or from a client."""
INPUT_SAMPLE_RATE = 16_000
OUTPUT_SAMPLE_RATE = 24_000
MAX_EARLY_MESSAGES = 100
"""Messages of a client that wait for the session to run. Beyond that the oldest are dropped."""

SHUTTING_DOWN = "server is shutting down"
"""Why a call ended with its server."""


class Words:
    """The messages that a transport sends by itself, in one protocol. No method does any I/O.

    The base has no words: None is not sent.
    """

    def error(self, text: str) -> Message | None:
        """The client did something wrong, or something failed."""
        return None

    def end(self, reason: str) -> Message | None:
        """The call is over."""
        return None

    def owns(self, message: Message) -> bool:
        """Returns True for a message of this protocol, on a channel that also carries others."""
        return False


class ClientTransport:
    """The base of `WebSocketTransport` and `WebRTCTransport`: a pipeline is built around either in the same way.

        Pipeline([transport.input(), …, engine, …, transport.output()])

    `id` names the connection. `identity` is the value that the authentication callback returned for it, `data` (JSON)
    came from the client with its request. Messages are JSON objects; those that come before the session runs are kept.
    `words` is the protocol in which the transport itself speaks to the client.
    """

    kind = "client"

    def __init__(
        self,
        id: str,
        *,
        identity: Any = None,
        data: Any = None,
        words: Words | None = None,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
        settings: PlayoutSettings | None = None,
    ) -> None:
        self.id = id
        self.identity = identity
        self.data = data
        self.words = words or Words()
        self.attached: dict[type[Any], Any] = {}
        """Objects that others keep for this connection, each under its own type."""
        self.input_sample_rate = INPUT_SAMPLE_RATE
        """The rate of the caller's audio, in Hz, for a transport that can choose it: see `use_input_rate`."""
        self._input = self.make_input()
        self._output = self.make_output(output_sample_rate, settings)
        self._listeners: list[Callable[[Message], None]] = []
        self._early: deque[Message] | None = deque(maxlen=MAX_EARLY_MESSAGES)
        self._hung_up = False

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline."""
        return self._output

    # -- messages --------------------------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        """Send a JSON object to the client. Does not wait; a client that is gone gets nothing."""
        raise NotImplementedError

    def on_message(self, listener: Callable[[Message], None]) -> None:
        """Call `listener` with every message of the client; those that come before the session runs wait for it."""
        self._listeners.append(listener)

    def received_message(self, message: Message) -> None:
        """A message has come: for subclasses."""
        if self._early is not None:
            self._early.append(message)
        else:
            self._tell(message)

    def _tell(self, message: Message) -> None:
        for listener in list(self._listeners):
            try:
                listener(message)
            except Exception as error:
                self._input.session.report(error, type(self).__name__)

    # -- the agent -------------------------------------------------------------------------------------------------

    def show_only(self, turn: int) -> None:
        """Do not play the agent's audio of this turn: the turn's responses count as read."""
        self._output.unspoken = turn

    # -- the caller ------------------------------------------------------------------------------------------------

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Audio of the caller, s16le mono, whose last sample was spoken now. Raises BadInput for a split sample."""
        self._input.feed(pcm, sample_rate)

    def feed_frame(self, frame: Input) -> None:
        """Other input of the caller, in its place among the audio."""
        self._input.feed_frame(frame)

    def hang_up(self, reason: str = "client disconnected") -> None:
        """The client has gone: it hears nothing any more; the call ends once the input before this is dealt with."""
        if not self._hung_up:
            self._hung_up = True
            self._output.disconnect()
            self._input.hang_up(reason)
            self.changed("gone", reason)

    @property
    def hung_up(self) -> bool:
        """True once the client has gone for good."""
        return self._hung_up

    # -- for subclasses --------------------------------------------------------------------------------------------

    def make_input(self) -> ClientInput:
        """Makes the head of the pipeline, once."""
        return ClientInput(self)

    def make_output(self, sample_rate: int, settings: PlayoutSettings | None) -> ClientOutput:
        """Makes the tail of the pipeline, once."""
        return ClientOutput(self, sample_rate, settings)

    def use_input_rate(self, sample_rate: int) -> None:
        """The session starts, and its engine takes audio at this rate, in Hz. Other rates are converted by the engine.

        A transport that converts the caller's audio anyway converts it to this rate.
        """
        self.input_sample_rate = sample_rate

    def started(self) -> None:
        """The session runs: the messages that came early can be heard now."""
        self.changed("connected")
        early, self._early = self._early or (), None
        for message in early:
            self._tell(message)

    def changed(self, state: Literal["connected", "lost", "reconnected", "gone"], reason: str = "") -> None:
        """Broadcast the state of the connection, if there is a session yet."""
        if self._input.in_session:
            self._input.broadcast(ClientChanged(state=state, transport=self.kind, reason=reason))

    def audio_sink(self) -> AudioSink:
        """Where the agent's audio goes, from the session's start on."""
        raise NotImplementedError

    def time_limit_reason(self, limit_s: float) -> str:
        """The reason of a call that is ended after `limit_s`."""
        return f"the limit of {limit_s:g} s"

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection. Closing twice is harmless."""
        raise NotImplementedError


class ClientInput(TransportInput):
    """The caller's audio and other input, from a client."""

    def __init__(self, transport: ClientTransport) -> None:
        super().__init__()
        self.transport = transport

    @property
    def name(self) -> str:
        return type(self.transport).__name__

    async def open(self) -> None:
        await super().open()
        if (sample_rate := engine_input_rate(self.session.pipeline)) is not None:
            self.transport.use_input_rate(sample_rate)

    def put(self, frame: Frame) -> None:
        """Any frame, pushed in its place among the audio."""
        self._put(frame)

    def started(self) -> None:
        self.transport.started()


class ClientOutput(TransportOutput):
    """Plays to a client."""

    def __init__(self, transport: ClientTransport, sample_rate: int, settings: PlayoutSettings | None) -> None:
        super().__init__(sample_rate, settings)
        self.transport = transport
        self.unspoken = 0

    @property
    def name(self) -> str:
        return type(self.transport).__name__

    async def play(self, frame: BotAudio) -> None:
        if frame.turn != self.unspoken or not frame.turn:
            await super().play(frame)

    def audio_sink(self) -> AudioSink:
        return self.transport.audio_sink()


def client_of(session: Session) -> ClientTransport | None:
    """The client that a session's pipeline is built around, None if there is none."""
    return next((leaf.transport for leaf in leaves(session.pipeline) if isinstance(leaf, ClientOutput)), None)


def engine_input_rate(node: Node) -> int | None:
    """The highest input rate of the engines in a pipeline, in Hz, with which no engine loses anything. None without."""
    if isinstance(node, Engine):
        return node.capabilities.input_sample_rate
    children = node.children if isinstance(node, Group) else ()
    return max((rate for child in children if (rate := engine_input_rate(child)) is not None), default=None)


def byte_size(data: str | bytes) -> int:
    """The size of a message in bytes; text counts as UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode(errors="surrogatepass"))
