"""`ClientTransport`: a call from a client over a network, with messages beside the audio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from ..agents.engine import Engine
from ..errors import BadInput
from ..frames import BotAudio, ClientChanged, Frame, Input, UserImage
from ..frames.text import well_formed_data
from ..processors.kernel.groups import Group, leaves
from ..processors.kernel.node import Node
from ..session.session import Session
from .base import TransportInput, TransportOutput
from .pace import Allowance
from .playout.base import AudioSink, PlayoutSettings

Message = dict[str, Any]
"""A JSON object, to or from a client."""
INPUT_SAMPLE_RATE = 16_000
OUTPUT_SAMPLE_RATE = 24_000
MAX_AUDIO_AHEAD_S = 60.0
"""Seconds by which a client's audio may run ahead of real time. A client that sends more is cut off."""
IMAGES_PER_S = 0.1
MAX_IMAGES = 10
"""Images that a client may send at once, and one more every ten seconds. More are refused."""
CAMERA_FPS = 2.0
MAX_CAMERA_FRAMES = 4
"""Frames of a camera or screen that a client may send a second, and at once. More are refused."""
MAX_EARLY_MESSAGES = 100
"""Messages of a client that wait until the session runs. Beyond that the oldest messages are dropped."""

SHUTTING_DOWN = "server is shutting down"
"""The reason of a call that ended because its server stops."""


class Words:
    """The messages that a transport itself sends, in one protocol. It does no I/O.

    A method returns None if there is nothing to send, as all methods of this base do.
    """

    def error(self, text: str) -> Message | None:
        """Return the message for an error of the client or of the server."""
        return None

    def end(self, reason: str) -> Message | None:
        """Return the message for the end of the call."""
        return None

    def owns(self, message: Message) -> bool:
        """Return True for a message of this protocol, on a channel that also carries others."""
        return False


class ClientTransport:
    """The base of `WebSocketTransport` and `WebRTCTransport`. A pipeline is built around both in the same way:

        Pipeline([transport.input(), …, engine, …, transport.output()])

    `id` names the connection. `identity` is the value that the authentication callback returned for it; `data` (JSON)
    is what the client sent with its request. Messages are JSON objects; messages that arrive before the session runs
    are kept. `words` is the protocol of the messages that the transport itself sends.
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
        """Objects that other code keeps for this connection, each under its own type."""
        self.input_sample_rate = INPUT_SAMPLE_RATE
        """The sample rate of the caller's audio in Hz, if the transport can choose it: see `use_input_rate`."""
        self.image_addresses = True
        """False to refuse images that the client gives by an address, and not as their bytes."""
        self._input = self.make_input()
        self._output = self.make_output(output_sample_rate, settings)
        self._listeners: list[Callable[[Message], None]] = []
        self._audio_s = Allowance(1.05, MAX_AUDIO_AHEAD_S)  # a microphone's clock may be fast
        self._images = Allowance(IMAGES_PER_S, MAX_IMAGES)
        self._camera = Allowance(CAMERA_FPS, MAX_CAMERA_FRAMES)
        self._early: deque[Message] | None = deque(maxlen=MAX_EARLY_MESSAGES)
        self._hung_up = False
        self.on_hung_up: Callable[[str], None] = _ignore
        """Called once with the reason when the client has gone for good."""

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline."""
        return self._output

    # -- messages --------------------------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        """Send a JSON object to the client, without waiting. Does nothing if the client is gone."""
        raise NotImplementedError

    def on_message(self, listener: Callable[[Message], None]) -> None:
        """Call `listener` with every message of the client, once the session runs."""
        self._listeners.append(listener)

    def received_message(self, message: Message) -> None:
        """Called by subclasses with a message of the client."""
        message = well_formed_data(message)
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
        """Do not play the agent's audio of this turn. The turn's responses count as read."""
        self._output.unspoken = turn

    # -- the caller ------------------------------------------------------------------------------------------------

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono cut at any byte, with the last sample spoken now.

        Audio that runs more than `MAX_AUDIO_AHEAD_S` ahead of real time ends the call.
        """
        if not self._audio_s.take(len(pcm) / (2 * max(1, sample_rate)), asyncio.get_running_loop().time()):
            self.cut_off("audio too far ahead of real time")
            return
        self._input.feed(pcm, sample_rate)

    def feed_frame(self, frame: Input) -> None:
        """Take other input of the caller, at its place among the audio. Raises BadInput for too many images, and for an
        image by its address if those are refused.
        """
        if isinstance(frame, UserImage):
            self.check_image_address(frame.url)
        if isinstance(frame, UserImage) and frame.source == "picture":
            self.count_image()
        elif isinstance(frame, UserImage) and not self._camera.take(1, asyncio.get_running_loop().time()):
            raise BadInput(f"more than {CAMERA_FPS:g} frames of a camera a second")
        self._input.feed_frame(frame)

    def check_image_address(self, url: str) -> None:
        """Raise BadInput for the address of an image of the client, "" without one, if `image_addresses` is False."""
        if url and not self.image_addresses:
            raise BadInput("this server takes images as bytes, not by an address")

    def count_image(self) -> None:
        """Count an image of the client. Raises BadInput if it has sent too many: see `MAX_IMAGES`."""
        if not self._images.take(1, asyncio.get_running_loop().time()):
            raise BadInput(f"more than {MAX_IMAGES} images, and {60 * IMAGES_PER_S:g} a minute")

    def cut_off(self, reason: str) -> None:
        """End the call of a client that exceeds a limit. Transports also tell the client."""
        self.hang_up(reason)

    def hang_up(self, reason: str = "client disconnected") -> None:
        """End the call once earlier input has been handled: the client has gone, and hears nothing from now on."""
        if not self._hung_up:
            self._hung_up = True
            self._output.disconnect()
            self._input.hang_up(reason)
            self.changed("gone", reason)
            self.on_hung_up(reason)

    @property
    def hung_up(self) -> bool:
        """True once the client has gone for good."""
        return self._hung_up

    # -- for subclasses --------------------------------------------------------------------------------------------

    def make_input(self) -> ClientInput:
        """Make the head of the pipeline. Called once."""
        return ClientInput(self)

    def make_output(self, sample_rate: int, settings: PlayoutSettings | None) -> ClientOutput:
        """Make the tail of the pipeline. Called once."""
        return ClientOutput(self, sample_rate, settings)

    def use_input_rate(self, sample_rate: int) -> None:
        """Called when the session starts, with the sample rate that its engine takes, in Hz.

        A transport that converts the caller's audio anyway converts it to this rate; the engine converts other rates.
        """
        self.input_sample_rate = sample_rate

    def started(self) -> None:
        """Called when the session runs. Delivers the messages that came early."""
        self.changed("connected")
        early, self._early = self._early or (), None
        for message in early:
            self._tell(message)

    def changed(self, state: Literal["connected", "lost", "reconnected", "gone"], reason: str = "") -> None:
        """Broadcast the state of the connection, if there is a session yet."""
        if self._input.in_session:
            self._input.broadcast(ClientChanged(state=state, transport=self.kind, reason=reason))

    def audio_sink(self) -> AudioSink:
        """Return the sink of the agent's audio."""
        raise NotImplementedError

    def time_limit_reason(self, limit_s: float) -> str:
        """Return the reason for a call that is ended after `limit_s` seconds."""
        return f"the limit of {limit_s:g} s"

    async def close(self, reason: str = "", *, error: bool = False) -> None:
        """Tell the client that the call is over, and close the connection. Closing twice is harmless."""
        raise NotImplementedError


class ClientInput(TransportInput):
    """The caller's audio and other input, from a client."""

    def __init__(self, transport: ClientTransport) -> None:
        super().__init__()
        self.transport = transport
        self.call_id = transport.id

    @property
    def name(self) -> str:
        return type(self.transport).__name__

    async def open(self) -> None:
        await super().open()
        if (sample_rate := engine_input_rate(self.session.pipeline)) is not None:
            self.transport.use_input_rate(sample_rate)

    def put(self, frame: Frame) -> None:
        """Push any frame, at its place among the audio."""
        self._put(frame)

    def started(self) -> None:
        self.transport.started()


class ClientOutput(TransportOutput):
    """Plays the agent's audio to a client."""

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
    """Return the client transport of a session's pipeline, or None."""
    return next((leaf.transport for leaf in leaves(session.pipeline) if isinstance(leaf, ClientOutput)), None)


def engine_input_rate(node: Node) -> int | None:
    """Return the highest input sample rate of the engines in a pipeline, in Hz; None without an engine."""
    if isinstance(node, Engine):
        return node.capabilities.input_sample_rate
    children = node.children if isinstance(node, Group) else ()
    return max((rate for child in children if (rate := engine_input_rate(child)) is not None), default=None)


def _ignore(reason: str) -> None:
    pass


def byte_size(data: str | bytes) -> int:
    """Return the size of a message in bytes; text counts as UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode(errors="surrogatepass"))
