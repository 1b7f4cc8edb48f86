"""`SpeechToSpeech`: the base of native engines, which hear and speak by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio
import msgspec

from ...agents.engine import EngineConfig, Handover
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, DeadlineExceeded
from ...frames import (
    BotAudio,
    BotText,
    CallerStartedSpeaking,
    Configure,
    EagerEndOfTurn,
    End,
    EndOfTurn,
    Input,
    Interrupted,
    Say,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolResult,
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
from ...session.life import State
from ..answers import tool_choice_of
from ..context import SAY
from ..remote.connection import ConnectionSettings
from ..remote.errors import ConnectionLost
from .caller import Mark
from .dialect import Called
from .link import Link, Parts
from .provider import NativeService
from .reply import Ask
from .turns import TRANSCRIPT_WAIT_S

MAX_BEHIND = 25
"""Messages that wait to be sent, beyond which no frame of a camera is sent: the caller's audio would wait longer."""


class NativeAnswers(NativeService):
    """Asks the provider for the answers that are due, one after the other.

    The provider receives the caller's audio from `activate` on: from the first frame of a call, or from a take-over.
    """

    _parts: Parts | None = None
    _closed = False

    @property
    def parts(self) -> Parts:
        """The parts of the engine, from `open` on."""
        assert self._parts is not None
        return self._parts

    @handles(End)
    async def end(self, frame: End) -> None:
        """Let the call end once all requested responses have been given."""
        await super().end(frame)
        await self._until_idle()
        await self.parts.outlet.drain()

    async def _until_idle(self) -> None:
        """Wait until no reply is owed or in progress."""
        asks, provider = self.parts.asks, self.parts.provider
        await provider.until(lambda: not asks.busy or provider.given_up)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Stop the provider, and remove the unheard speech from its memory."""
        super().interrupted(signal)
        if (parts := self._parts) is None:
            return
        parts.early.discard("an interruption")
        parts.replies.interrupt(signal)
        parts.caller.withheld.give()
        if not parts.asks.busy and (unasked := parts.caller.awaits_unasked) is not None:
            parts.asks.expect_unwanted(Ask("", signal.turn, unasked, void=True))  # may begin unannounced
        parts.provider.notify()

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        self._unanswered = ""
        replies = self.parts.asks
        with self.session.floor.scope(turn):
            if isinstance(asked, ToolResult):
                answered = await replies.go_on(turn)
            else:
                spoken = self.parts.turns.latest_taken if isinstance(asked, EndOfTurn) else None
                answered = await replies.ask(turn, extra, tool_choice=tool_choice_of(asked), spoken=spoken)
            if not answered:
                self._unanswered = "words"
                self._kept.append(asked)  # for the engine that takes over the call

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        with self.session.floor.scope(turn):
            if not await self.parts.asks.ask(turn, SAY + text):
                self._kept.append(Say(text=text))

    def ask_again(self, failed: Ask) -> None:
        """Request once more the answer that the provider has failed to give by itself."""
        self._unanswered = "words"

        async def work(frame: Input) -> None:
            try:
                with self.session.floor.scope(failed.turn):
                    if self._leaving or not await self.parts.asks.ask_once_more(failed):
                        self._kept.append(frame)  # for the engine that takes over the call
                    else:
                        self._unanswered = ""
            except Exception as error:
                self.session.report(error, self.name)
            self.settle(failed.turn)

        self._jobs.put(EndOfTurn(at=self.session.now(), by="no answer"), work, failed.turn)

    def begin_turn(self, *, protected: bool = False) -> int:
        """Begin a turn of the agent. It is protected if the provider is set not to be interrupted."""
        return super().begin_turn(protected=protected or self.parts.provider.uninterruptible)

    async def _not_understood(self, config: EngineConfig) -> int:
        self._unanswered = ""
        return 0

    def take_result(self, frame: ToolResult) -> None:
        """Log a result, and send it to the connection that made the call. Another connection receives it as text."""
        super().take_result(frame)
        parts = self.parts
        if parts.asks.results.give(frame):
            parts.memory.result_given(frame.call_id)
            return
        self._send_due()
        dialect = parts.provider.dialect
        if frame.respond and dialect is not None and dialect.holds_text and self.session.floor.caller_speaking:
            self.spawn(self._ask_when_quiet)

    def new_calls(self, asked: Sequence[Called], turn: int) -> list[Called]:
        """Return the calls that are to be made. One that a resumed session tells again gets its result, if it is there
        already, and an answer in this turn.
        """
        results, new = self.parts.asks.results, []
        for wanted in asked:
            known = self.session.calls.known_as(wanted.call_id, wanted.name) if self.parts.memory.resumed else None
            if known is None:
                new.append(wanted)
            elif (result := results.give_again(known, turn)) is not None:
                self.queue(result)
        return new

    async def _ask_when_quiet(self) -> None:
        """Ask for another answer after the next one, which will not know a text that the dialect holds back."""
        asks, provider = self.parts.asks, self.parts.provider
        await provider.until(lambda: not (asks.goes_on or self.parts.turns.waiting))
        if provider.live:
            self.owe_answer("tool result")

    def _send_due(self) -> None:
        """Send the model the due items of the log, unless it is answering or about to answer."""
        parts = self.parts
        if parts.memory.is_due and (dialect := parts.provider.dialect) is not None and not parts.asks.goes_on:
            parts.early.discard("the log has changed")
            parts.provider.send(parts.memory.take_due(dialect))

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    def activate(self) -> None:
        """Take the call: replay the conversation to the provider, and send it the caller's audio from now on."""
        parts, provider = self.parts, self.parts.provider
        if provider.live or self._closed:
            return
        provider.live = True
        if (connection := provider.connection) is not None:
            if not parts.memory.resumed:
                parts.memory.replay_on(connection, lambda error: self.session.report(error, self.name))
            parts.caller.attach(connection)
        provider.notify()

    async def drain(self) -> None:
        """Finish the responses in progress and the texts to say. Begins nothing else, and holds the caller's audio."""
        parts = self.parts
        parts.early.discard("the engine or its configuration changes")
        parts.leaving = True
        parts.ring.hold(True)
        await super().drain()
        await self._until_idle()
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await parts.provider.until(lambda: not parts.turns.transcript_is_late)
        await parts.outlet.drain()

    def stay(self) -> None:
        """Keep the call after a change of engines that failed."""
        super().stay()
        self.parts.leaving = False
        self.parts.ring.hold(False)

    def release(self) -> Handover:
        """Hand over the unfinished work."""
        left = super().release()
        self.parts.provider.live = False
        self.parts.memory.stop()
        speech, words, over = self.parts.caller.release()
        asked = tuple(frame for frame in left.asked if not (over and isinstance(frame, EndOfTurn)))
        if words and not asked:
            asked = (EndOfTurn(at=self.session.now(), by="hand-off"),)
        return msgspec.structs.replace(
            left, speech=speech, asked=asked, unanswered="words" if words else left.unanswered
        )

    def adopt(self, left: Handover) -> None:
        """Take over the work that another engine has released, before any new frame."""
        self.parts.ring.adopt(left.speech)
        for result in left.results:  # into the log, which the provider receives
            super().take_result(result)
        super().adopt(msgspec.structs.replace(left, results=()))
        self.activate()


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
        try:
            server_turns = self.dialect(self.config, "").server_turns
        except ConfigurationError:
            return  # a setting that is refused when the engine opens
        if not server_turns:
            check_turns(self, before, after)

    # -- configuration ---------------------------------------------------------------------------------------------

    def settle(self, turn: int) -> None:
        """End the turn. Instructions that have changed are sent then, if the provider takes them in place."""
        super().settle(turn)
        fresh = self.session.prompts.fresh(self.config)
        in_place = "instructions" in self.capabilities.changes_in_session
        if fresh is not self.config and in_place and self.session.state is State.ACTIVE and not self._leaving:
            self.spawn(self.configure, Configure(instructions=fresh.instructions))

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
        parts.memory.start(self._handle)
        self._handle = ""
        # Processors that open beside this may still configure it: one connection is enough then.
        await anyio.lowlevel.checkpoint()
        first = self.first_change(self.capabilities.voices)
        if first is not None:
            self.config = self.config.changed(first)
        made_with = self.checked(self.config)
        try:
            await link.open()
        except (ConnectionLost, DeadlineExceeded) as error:
            if not (self.replaceable and self.session.state is State.CONNECTING):
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
            parts.caller.close()
        if self._link is not None:
            await self._link.close()

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
