"""`ClientTransport`: a call from a client at the far end of a network, with messages beside the audio."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..agents.engine import Engine
from ..frames import BotAudio, ClientChanged, Input
from ..processors.kernel.groups import Group, leaves
from ..processors.kernel.node import Node
from .base import TransportInput, TransportOutput
from .playout.settings import PlayoutSettings

if TYPE_CHECKING:
    from ..session.session import Session

INPUT_SAMPLE_RATE = 16_000
OUTPUT_SAMPLE_RATE = 24_000
MAX_EARLY_MESSAGES = 100
"""Messages of a client that wait for the session to run. Beyond that the oldest are dropped."""

SHUTTING_DOWN = "server is shutting down"
"""Why a call ended with its server."""

Message = dict[str, Any]


class ClientTransport:
    """What `WebSocketTransport` and `WebRTCTransport` share: a pipeline is built around either in the same way.

        Pipeline([transport.input(), …, engine, …, transport.output()])

    `id` names the connection. `identity` is what the authentication callback returned for it, `data` what the client
    sent along with its request (JSON). Messages are JSON objects; those that come before the session runs are kept.
    """

    kind = "client"

    def __init__(
        self,
        id: str,
        *,
        identity: Any = None,
        data: Any = None,
        output_sample_rate: int = OUTPUT_SAMPLE_RATE,
        settings: PlayoutSettings | None = None,
    ) -> None:
        self.id = id
        self.identity = identity
        self.data = data
        self.attached: dict[type[Any], Any] = {}
        """What others keep for this connection, each under its own type."""
        self.input_sample_rate = INPUT_SAMPLE_RATE
        """The rate of the caller's audio, in Hz, for a transport that can choose it: see `use_input_rate`."""
        self._input = _ClientInput(self)
        self._output = _ClientOutput(self, output_sample_rate, settings)
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
        """Call `listener` with every message of the client; those that come before the session runs wait for that."""
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
        """The agent's audio of this turn is not played: the turn's answers count as read."""
        self._output.unspoken = turn

    # -- the caller ------------------------------------------------------------------------------------------------

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Audio of the caller, s16le mono; its last sample was spoken now. Raises BadInput for a split sample."""
        self._input.feed(pcm, sample_rate)

    def feed_frame(self, frame: Input) -> None:
        """What else the caller does, in its place among the audio."""
        self._input.feed_frame(frame)

    def hang_up(self, reason: str = "client disconnected") -> None:
        """The client has gone: it hears nothing any more; the call ends when what was said has been dealt with."""
        if not self._hung_up:
            self._hung_up = True
            self._output.disconnect()
            self._input.hang_up(reason)
            self.changed("gone", reason)

    @property
    def hung_up(self) -> bool:
        """The client has gone for good."""
        return self._hung_up

    # -- for subclasses --------------------------------------------------------------------------------------------

    def use_input_rate(self, sample_rate: int) -> None:
        """The session starts, and its engine takes audio at this rate, in Hz. Other rates are converted by the engine.

        A transport that converts the caller's audio anyway converts it to this rate.
        """
        self.input_sample_rate = sample_rate

    def started(self) -> None:
        """The session runs: whoever listens is there."""
        self.changed("connected")
        early, self._early = self._early or (), None
        for message in early:
            self._tell(message)

    def changed(self, state: Literal["connected", "lost", "reconnected", "gone"], reason: str = "") -> None:
        """Tell the session, if there is one, what has become of the connection."""
        if self._input.in_session:
            self._input.broadcast(ClientChanged(state=state, transport=self.kind, reason=reason))

    def write_audio(self, chunk: bytes) -> None:
        """Send 20 ms of the agent's audio: see `TransportOutput.write`."""
        raise NotImplementedError

    def clear_audio(self) -> int | None:
        """Drop what the client has not played: see `TransportOutput.clear`."""
        raise NotImplementedError

    def audio_position(self) -> int | None:
        """How much was heard: see `TransportOutput.position`."""
        return None

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection. Closing twice is harmless."""
        raise NotImplementedError


def client_of(session: Session) -> ClientTransport | None:
    """The client that a session's pipeline is built around, if that is what it is built around."""
    return next((leaf.transport for leaf in leaves(session.pipeline) if isinstance(leaf, _ClientOutput)), None)


def engine_input_rate(node: Node) -> int | None:
    """The highest input rate of the engines in a pipeline, in Hz, with which no engine loses anything. None without."""
    if isinstance(node, Engine):
        return node.capabilities.input_sample_rate
    children = node.children if isinstance(node, Group) else ()
    return max((rate for child in children if (rate := engine_input_rate(child)) is not None), default=None)


class _ClientInput(TransportInput):
    """Takes what the client says."""

    def __init__(self, transport: ClientTransport) -> None:
        super().__init__()
        self._transport = transport

    @property
    def name(self) -> str:
        return type(self._transport).__name__

    async def open(self) -> None:
        await super().open()
        if (sample_rate := engine_input_rate(self.session.pipeline)) is not None:
            self._transport.use_input_rate(sample_rate)

    def started(self) -> None:
        self._transport.started()


class _ClientOutput(TransportOutput):
    """Plays to the client."""

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

    def write(self, chunk: bytes) -> None:
        self.transport.write_audio(chunk)

    def clear(self) -> int | None:
        return self.transport.clear_audio()

    def position(self) -> int | None:
        return self.transport.audio_position()
