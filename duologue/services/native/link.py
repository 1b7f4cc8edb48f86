"""`Link`: holds a native engine's parts together, and moves them from one connection to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import msgspec

from ...agents.engine import EngineConfig
from ...errors import ServiceError
from ...frames import ConnectionChanged, Input, Interrupted, ResumptionHandle, ToolResult, Usage, UserTranscript
from ...processors.turns.interruption import may_interrupt
from ..remote.connection import Connection, dial
from ..remote.errors import ConnectionLost
from ..remote.keeper import ConnectionSettings, Keeper
from .audio_ring import AudioRing, Utterance
from .caller import Caller
from .dialect import Dialect
from .events import (
    AudioComplete,
    Called,
    CallsCancelled,
    Configured,
    Consumed,
    CutShort,
    Event,
    GoingAway,
    HandleGiven,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from .memory import ProviderMemory
from .outlet import Outlet
from .provider import Provider
from .reconfigure import Reconfigure
from .replies import Ask, Replies
from .service import NativeService
from .transcripts import Transcripts
from .turns import TRANSCRIPT_WAIT_S, Turns


class Link:
    """The engine's parts, and the provider's connection that they follow.

    Opens connections for its `Keeper`, hands each event to the part that owns it, and lets all parts leave a connection
    and join the next. `live` begins with the first frame of a call, or when the engine takes a call over.
    """

    def __init__(self, service: NativeService, settings: ConnectionSettings) -> None:
        session, capabilities = service.session, service.capabilities
        self._service = service
        self._session = session
        self._settings = settings
        self._keeper = Keeper(self, settings)
        self._leaving = self._closed = False
        self.provider = Provider()
        self.outlet = Outlet(service)
        self.memory = ProviderMemory(session.conversation, session.ledger, settings.replay_messages)
        self._reconfigure = Reconfigure(settings.connect_timeout_s)
        self._ring = AudioRing(capabilities.input_sample_rate, settings.ring_s, self._dropped)
        self._turns = Turns(session, self._ring, self.provider)
        self.replies = Replies(
            session,
            service,
            self.provider,
            self._turns,
            self.memory,
            self.outlet,
            self._account,
            capabilities.output_sample_rate,
        )
        self._transcripts = Transcripts(service, self._on_asked)
        self.caller = Caller(
            session, service, self._ring, self._turns, self.provider, self.replies, self._transcripts, self._owe
        )
        self.provider.on_change(self.send_due)

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self, handle: str) -> None:
        """Connect. Raises ConnectionLost if the provider refuses, DeadlineExceeded if it takes too long."""
        self.memory.start(handle)
        await self._keeper.open()

    def activate(self) -> None:
        """The engine has the call from now on: the provider hears the caller, and knows what was said so far."""
        if self.provider.live or self._closed:
            return
        self.provider.live = True
        connection = self.provider.connection
        if connection is not None:
            if not self.memory.resumed:
                self._replay(connection)
            self.caller.attach(connection)
        self.provider.notify()

    async def close(self) -> None:
        """End the connection. Nothing goes out any more."""
        self._closed = True
        self.provider.live = False
        self.memory.stop()
        self.outlet.close()
        self._transcripts.close()
        await self._keeper.close()
        self.provider.connection = None
        self.provider.notify()

    def give_up(self, error: Exception) -> None:
        """There will be no connection any more."""
        self._keeper.give_up(error)

    # -- the caller, and texts for the model -----------------------------------------------------------------------

    async def flush(self) -> None:
        """Write what waits, as far as that needs no waiting; wait while too much of it is left."""
        if (connection := self.provider.connection) is not None:
            await connection.flush()

    def send_due(self) -> None:
        """Send the model the items of the log that are due, unless it answers or is about to."""
        dialect = self.provider.dialect
        if dialect is not None and self.memory.is_due and not self.replies.goes_on:
            self.provider.send(self.memory.take_due(dialect))

    def give_result(self, result: ToolResult) -> None:
        """Send a logged result to the connection that asked for it; any other learns of it as text."""
        if self.replies.give_result(result):
            self.memory.result_given(result.call_id)
            return
        self.send_due()
        dialect = self.provider.dialect
        if result.respond and dialect is not None and dialect.holds_text and self._session.floor.caller_speaking:
            self._service.spawn(self._ask_when_quiet)

    async def _ask_when_quiet(self) -> None:
        """The next answer will not have a text in view that the provider holds back: ask for another after it."""
        await self.provider.until(lambda: not (self.replies.goes_on or self._turns.waiting))
        if self.provider.live:
            self._service.owe_answer("tool result")

    def interrupt(self, signal: Interrupted) -> None:
        """Stop the provider, and have it forget what the caller has not heard."""
        self.replies.interrupt(signal, self.caller.awaits_unasked)
        self.provider.notify()

    # -- changes ---------------------------------------------------------------------------------------------------

    async def change(self, config: EngineConfig) -> None:
        """Apply a configuration: in place, else on a new connection.

        Raises ConfigurationError if the provider refuses it, else ConnectionLost or DeadlineExceeded.
        """
        connection = self.provider.connection
        if connection is not None and not await self._reconfigure.apply(connection, config):
            await self._keeper.replace(config, "a change that takes a new connection")
        self._service.config = config

    def leave(self, leaving: bool) -> None:
        """Send nothing of the caller's any more since another engine takes over, or go on."""
        self._leaving = leaving
        self._ring.hold(leaving)

    async def finish(self) -> None:
        """Wait until the replies, their transcripts and their output are through."""
        await self.until_idle()
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.provider.until(lambda: not self._turns.transcript_is_late)
        await self.outlet.drain()

    async def until_idle(self) -> None:
        """Wait until no reply goes on."""
        await self.provider.until(lambda: not self.replies.busy or self.provider.given_up)

    def release(self) -> tuple[tuple[Input, ...], bool, bool]:
        """Another engine has the call. Returns the same as `Caller.release`."""
        self.provider.live = False
        self.memory.stop()
        return self.caller.release()

    def adopt(self, speech: tuple[Input, ...]) -> None:
        """Take over the caller's speech that another engine has released, ahead of all that comes."""
        self._ring.adopt(speech)

    # -- what the keeper asks --------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._service.name

    @property
    def config(self) -> EngineConfig:
        """The engine's configuration."""
        return self._service.config

    @config.setter
    def config(self, config: EngineConfig) -> None:
        self._service.config = config

    @property
    def replaceable(self) -> bool:
        """True if another engine takes the call when this one is lost."""
        return self._service.replaceable

    @replaceable.setter
    def replaceable(self, replaceable: bool) -> None:
        self._service.replaceable = replaceable

    async def connect(self, config: EngineConfig, handle: str) -> Connection[Dialect]:
        """Return a connection that is set up. Raises ConnectionLost."""
        dialect = self._service.dialect(config, handle)
        return await dial(
            self._service.dial(config, handle),
            lambda wire: Connection(self, wire, dialect, self._read, self._keeper.lost),
        )

    def broadcast(self, signal: ConnectionChanged) -> None:
        """Send everyone a signal."""
        self._service.broadcast(signal)

    def report(self, error: Exception) -> None:
        """Report an error that the connection survives."""
        self._session.report(error, self.name)

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that ends with the session."""
        return self._session.start_task(self._service, work)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run a function in a task of the session."""
        self._service.spawn(function, *args)

    def usable_handle(self) -> str:
        """Return the handle if it stands for all that was said, else ""."""
        return self.memory.usable_handle(self._turns.unanswered_items)

    def is_quiet(self) -> bool:
        """Return whether nobody speaks, nothing is asked for and nothing is being answered."""
        return not (
            self.replies.busy
            or self.replies.waits_for_tools
            or self._turns.waiting
            or self._turns.transcript_is_late
            or self._session.floor.caller_speaking
        )

    def was_quiet(self, age_s: float) -> bool:
        """Return whether nothing goes on but speech of the caller that began less than `age_s` ago."""
        at = self._session.now() - age_s
        if self.replies.busy or self.replies.waits_for_tools:
            return False
        return all(utterance.start_s >= at for utterance in self._turns.waiting)

    def waits_since(self) -> float | None:
        """Return the loop time since which the provider owes an answer, None if it owes none."""
        connection = self.provider.connection
        ignored = self.caller.ignored_since(connection.told_at) if connection is not None else None
        return min((at for at in (ignored, self.replies.waits_since) if at is not None), default=None)

    def hold(self, held: bool) -> None:
        """Hold the caller's audio back, or go on; a change of engines goes on holding it."""
        self._ring.hold(held or self._leaving)

    def take(self, connection: Connection[Dialect] | None, resumed: bool) -> str:
        """Use a connection in place of the one before, None for no connection. Returns how it knows the log."""
        before, self.provider.connection = self.provider.connection, connection
        how = "resumed by handle" if resumed else "fresh"
        if before is not None:
            self._detach(lost=connection is None)
        if connection is not None:
            self.memory.connected(resumed=resumed)
            if self.provider.live:
                if not resumed and (replayed := self._replay(connection)):
                    how = f"replayed {replayed} messages"
                self.caller.attach(connection)
                # For readers of the log. It has no text: the model is not sent it.
                data = {"engine": self.name, "connection": how}
                self._session.conversation.add("note", "system", name="connection", data=data)
        self.provider.notify()
        return how

    def _replay(self, connection: Connection[Dialect]) -> int:
        """Send a session that knows nothing the latest messages. Returns how many of caller and agent."""
        replayed = self.memory.replay()
        if replayed:
            connection.send(connection.dialect.history(replayed))
        return sum(message.role in ("user", "assistant") for message in replayed)

    def _detach(self, *, lost: bool) -> None:
        """The connection is gone: the next one owes what it owed."""
        self._reconfigure.lost()
        for ask in self.replies.abandon():
            self._owe_again(ask)
        self.caller.detach(lost=lost)

    def _owe_again(self, ask: Ask) -> None:
        if ask.utterance is not None and ask.utterance.text is None:
            # Its words are not known, but the audio will be heard again: the answer begins anew.
            if ask.said:
                self._session.interrupt("connection lost")
        elif ask.said:
            self._service.owe_continuation()
        else:
            self._service.owe_answer("connection lost")
        self._service.settle(ask.turn)

    def given_up(self, error: Exception) -> None:
        """There is no connection, and there will be none."""
        self.provider.given_up = True
        self._ring.tell_lost()
        self.provider.notify()
        self._session.report(error, self.name, fatal=not self.replaceable)

    def reached_limit(self) -> None:
        """The session's limit is reached, and the connection is not to be replaced: end the call."""
        self._service.spawn(self._session.end, "cap")

    # -- the provider's events -------------------------------------------------------------------------------------

    async def _read(self, connection: Connection[Dialect], event: Event) -> None:
        if connection is not self.provider.connection:
            return
        replies, caller = self.replies, self.caller
        match event:
            case Voiced():
                replies.on_voiced(event)
            case Said():
                replies.on_said(event)
            case TurnTranscribed():
                await caller.on_transcribed(event)
            case SpeechBegan():
                await caller.on_speech_began(event)
            case SpeechCeased():
                await caller.on_speech_ceased(event)
            case TurnTaken():
                await caller.on_turn_taken(event)
            case ResponseBegan():
                replies.on_began(event)
            case AudioComplete():
                replies.on_given(event)
            case Called():
                replies.on_called(event)
            case CallsCancelled():
                replies.on_calls_cancelled(event)
            case ResponseFinished():
                replies.on_finished(event)
            case Consumed():
                replies.on_consumed(event.usage)
            case CutShort():
                if may_interrupt(self._session):
                    self._session.interrupt()
                replies.expect_none()
            case Configured():
                self._reconfigure.on_configured(event)
            case HandleGiven():
                self._on_handle(event.handle)
            case GoingAway():
                self._keeper.going_away(event.left_s)
            case Refused():
                self._on_refused(event)
            case Unknown():
                error = ServiceError(f"the provider sent {event.kind!r}, which is not known here")
                self._session.report(error, self.name)

    def _on_handle(self, handle: str) -> None:
        if handle:
            self.memory.handle_given(handle)
            self._service.broadcast(ResumptionHandle(engine=self.name, handle=handle))

    def _on_refused(self, event: Refused) -> None:
        if self._reconfigure.on_refused(event):
            return
        self.replies.on_refused(event.about)
        error = f"{event.code}: {event.message}"
        self._session.report(ServiceError(error), self.name)
        if event.fatal and self.provider.connection is not None:
            self._keeper.lost(self.provider.connection, ConnectionLost(error, fatal=True))

    def _on_asked(
        self, utterance: Utterance, transcript: UserTranscript, allowed: UserTranscript | None
    ) -> Awaitable[None]:
        return self.caller.on_asked(utterance, transcript, allowed)

    def _owe(self, utterance: Utterance) -> None:
        self._service.owe_answer("turn", utterance.end_s)

    def _account(self, usage: Usage) -> None:
        """Broadcast consumption. That of a reply or of a transcript accounts for the audio sent since the last one."""
        service = self._service
        if usage.model in ("", service.model):
            sent_s = self._ring.take_sent_s()
            usage = msgspec.structs.replace(usage, model=service.model, input_audio_s=sent_s)
        service.broadcast(msgspec.structs.replace(usage, service=service.name))

    def _dropped(self, samples: int) -> None:
        kept = f"{self._settings.ring_s:g} s are kept without a connection"
        self._session.report(ServiceError(f"{samples} samples of the caller's audio were dropped: {kept}"), self.name)
