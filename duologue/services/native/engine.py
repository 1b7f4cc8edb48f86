"""`SpeechToSpeech`: the base of native engines, which hear and speak by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio

from ...agents.engine import EngineConfig
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, DeadlineExceeded
from ...frames import (
    BotAudio,
    BotText,
    CallerStartedSpeaking,
    Configure,
    EagerEndOfTurn,
    EndOfTurn,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    TurnResumed,
    UserAudio,
    UserImage,
    UserText,
    UserTranscript,
)
from ...images.limits import ImageLimits
from ...processors.kernel.node import Node
from ...processors.processor import handles
from ...processors.turns.endpointing import check_turns
from ..remote.connection import ConnectionSettings
from ..remote.errors import ConnectionLost
from .answers import NativeAnswers
from .caller import Mark
from .link import Link, Parts

MAX_BEHIND = 25
"""Messages that wait to be sent, beyond which no frame of a camera is sent: the caller's audio would wait longer."""


class SpeechToSpeech(NativeAnswers):
    """An engine that is one service: it hears the caller and speaks to them. Obeys the engine contract.

    A vendor gives the methods of `NativeService`. This class keeps the connection, the caller's audio, the log, the
    turns and the tools, in the same way for all vendors.

    Either the provider finds the caller's turns (`Dialect.server_turns`) or the processors before this one do. If the
    provider does, the `EndOfTurn` of those processors asks for nothing, but `Vad` and `Endpointing` still show when the
    caller is silent and the connection may be replaced.

    The model is asked to say the application's texts (`Say`) word for word. If the provider fails to give a response,
    it is asked once more.
    """

    gives = frozenset({BotAudio, BotText, UserTranscript, ToolCall})
    follows = frozenset({UserAudio})

    def __init__(
        self,
        *,
        instructions: str = "",
        voice: str = "",
        tools: Iterable[ToolSpec] = (),
        handle: str = "",
        connection: ConnectionSettings | None = None,
    ) -> None:
        super().__init__()
        self.connection_settings = connection or ConnectionSettings()
        self.config = EngineConfig(instructions=instructions, voice=voice, tools=tuple(tools))
        self._handle = handle  # for the first connection
        self._link: Link | None = None
        self._configuring = anyio.Lock()
        self._failed_to_open: Exception | None = None

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require a detector of turns if the provider does not find them."""
        super().check_place(before, after)
        if self.session.microphone.mode == "push_to_talk":
            return
        try:
            server_turns = self.dialect(self.config, "").server_turns
        except ConfigurationError:
            return  # a setting that is refused when the engine opens
        if not server_turns:
            check_turns(self, before, after)

    # -- configuration ---------------------------------------------------------------------------------------------

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError if the change cannot be applied. Changes nothing."""
        self.checked(self.config.changed(change))

    @handles(Configure)
    async def configure(self, change: Configure) -> None:
        """Apply a change as a whole or not at all: in place if the provider can, otherwise on a new connection.

        Responses that have begun are finished with the old configuration. Raises ConfigurationError with the reason.
        """
        async with self._configuring:
            config = self.checked(self.config.changed(change))
            if self._link is None or self.parts.provider.connection is None or config == self.config:
                self.config = config  # the next connection uses it
                return
            stays = self.parts.provider.live and not self._leaving
            try:
                if stays:
                    with anyio.move_on_after(self.session.deadlines.drain_s):
                        await self.drain()
                await self._link.change(config)
            except (ConnectionLost, DeadlineExceeded) as error:
                raise ConfigurationError(f"{self.name} stays as it was: {error}") from error
            finally:
                if stays:
                    self.stay()

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Raises ConnectionLost if the provider refuses, DeadlineExceeded if it takes too long."""
        await super().open()
        parts = self._parts = Parts(self, self.connection_settings)
        parts.provider.on_change(self._send_due)
        link = self._link = Link(self, parts, self.connection_settings)
        self._closed, self._failed_to_open = False, None
        resumed = self.session.resumed
        if resumed is not None and (handle := resumed.take_handle(self.name)) is not None:
            parts.memory.start(handle.text, handle.known)
            resumed.offers(link.usable_handle())
        else:
            parts.memory.start(self._handle)
        self._handle = ""
        # Processors that open beside this may still configure it: one connection is enough then.
        await anyio.lowlevel.checkpoint()
        first = await self.first_change(self.capabilities.voices)
        if first is not None:
            self.config = self.config.changed(first)
        self.config = made_with = self.checked(self.config)
        try:
            await link.open()
        except (ConnectionLost, DeadlineExceeded) as error:
            if not (self.replaceable and not self.session.live):
                raise
            self._failed_to_open = error
            return
        if self.config != made_with:
            wanted, self.config = self.config, made_with
            await link.change(wanted)

    async def close(self) -> None:
        """End the connection. Subclasses call it too."""
        await super().close()
        self._closed = True
        if (parts := self._parts) is not None:
            parts.provider.live = False
            parts.memory.stop()
            parts.outlet.close()
            parts.consumption.close()
            parts.caller.close()
        if self._link is not None:
            await self._link.close()

    @property
    def resting(self) -> bool:
        """True while the engine has left its provider, and no answer is asked for."""
        return self._link is not None and self._link.resting

    async def rest(self) -> None:
        """Disconnect at the next quiet moment. An answer that is asked for connects again."""
        if self._link is not None:
            await self._link.rest()

    async def wake(self) -> None:
        """Connect again. Raises ConnectionLost, DeadlineExceeded or ConfigurationError; the engine rests on then."""
        if self._link is not None:
            await self._link.wake()

    @handles(SessionStarted)
    async def begin(self, signal: SessionStarted) -> None:
        """Begin the call."""
        self.activate()
        if self._failed_to_open is not None and self._link is not None:
            self._link.give_up(self._failed_to_open)
        await super().begin(signal)

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Send the caller's audio, or keep it until it can be sent."""
        parts = self._parts
        assert parts is not None
        provider = parts.provider
        if not provider.live:
            self.activate()
        parts.caller.hear(frame)
        if self.session.floor.caller_speaking:
            parts.consumption.running.heard(frame.duration_s)
        if provider.connection is not None:
            await provider.connection.flush()
        await self.push(frame)

    @handles(SpeechStarted, SpeechStopped, EagerEndOfTurn, TurnResumed, EndOfTurn)
    async def mark(self, frame: Mark) -> None:
        """Take speech and turns from the processors before the engine, unless the provider reports its own."""
        caller = self.parts.caller
        if isinstance(frame, SpeechStarted):
            self.activate()
        if not (isinstance(frame, EagerEndOfTurn) and (self._leaving or self._unheard)):
            caller.mark(frame)
        if (connection := self.parts.provider.connection) is not None:
            await connection.flush()
        if not (isinstance(frame, EndOfTurn) and caller.follows_provider):
            await self.push(frame)

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text and send it to the model: the caller's at once, other texts when the model is silent."""
        self.activate()
        await super().typed(frame)
        provider = self.parts.provider
        if frame.author != "caller":
            self._send_due()
            return
        self.parts.asks.caller_moved()
        self.parts.early.discard("the caller has written")
        if (dialect := provider.dialect) is not None:
            provider.send(dialect.text(frame.text))

    @handles(UserImage)
    @handles(UserImage, upstream=True)
    async def image(self, frame: UserImage) -> None:
        """Log an image, and send it to the model once it is ready. Raises BadInput for one that is refused."""
        self.activate()
        await super().image(frame)

    @property
    def image_limits(self) -> ImageLimits | None:
        """The images that the model takes, None if it takes none."""
        return self.capabilities.images

    def seen(self, frame: UserImage) -> None:
        """Send an image to the model. Without a connection it is sent with the rest of the log, or to the session that
        is resumed."""
        parts = self.parts
        if parts.provider.dialect is not None:
            self._send_image(frame)
        else:
            self.spawn(self._send_image_later, frame)

    async def _send_image_later(self, frame: UserImage) -> None:
        parts = self.parts
        await parts.provider.until(lambda: parts.provider.dialect is not None or parts.provider.given_up)
        if parts.memory.resumed:
            self._send_image(frame)

    def _send_image(self, frame: UserImage) -> None:
        provider = self.parts.provider
        if (dialect := provider.dialect) is not None:
            provider.send(dialect.image(frame))

    def watched(self, frame: UserImage) -> None:
        """Send the next frame of the caller's camera or screen, if the model takes video and the network keeps up."""
        connection = self.parts.provider.connection
        if self.capabilities.video_input and connection is not None and connection.unsent < MAX_BEHIND:
            self._send_image(frame)

    def look(self) -> None:
        """Log the newest frame of the caller's camera or screen, and send it if the model does not take video."""
        frame = self._pictures.show()
        if frame is not None and not self.capabilities.video_input:
            self._send_image(frame)

    @handles(CallerStartedSpeaking)
    def caller_speaks(self, signal: CallerStartedSpeaking) -> None:
        """Show the model what the caller shows: a provider that finds the turns may answer as soon as they stop."""
        if (parts := self._parts) is not None and parts.provider.live:
            self.look()
