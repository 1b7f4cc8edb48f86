"""`Link`: keeps the parts of a native engine on a connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

import anyio

from ...agents.engine import EngineConfig
from ...errors import BadInput, ServiceError
from ...frames import ConnectionChanged, Respond, ResumptionHandle
from ...session.boundary import dial_outside
from ...session.interrupting import may_interrupt
from ...session.resuming import NATIVE
from ...session.running import Clock
from ..context import own_since
from ..remote.connection import Connection, ConnectionSettings, dial
from ..remote.errors import ConnectionLost
from ..remote.ids import Recent
from ..remote.keeper import Keeper
from ..remote.resting import RestingKeeper
from .asks import CONTINUE, Asks
from .audio_ring import AudioRing
from .caller import Caller
from .consumption import Consumption
from .dialect import (
    AudioComplete,
    Called,
    CallsCancelled,
    Configured,
    Consumed,
    Crossed,
    CutShort,
    Dialect,
    Event,
    GoingAway,
    HandleGiven,
    Odd,
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
from .early import Early
from .outlet import Outlet
from .provider import NativeService, Provider, ProviderMemory
from .reconfigure import Reconfigure
from .replies import Replies
from .reply import Ask
from .transcripts import Transcripts
from .turns import TRANSCRIPT_WAIT_S, Turns

MAX_REPORTED = 64
"""The most kinds of odd messages that are remembered as reported."""


class Parts:
    """The parts of an engine. Each uses only parts above it."""

    def __init__(self, service: NativeService, settings: ConnectionSettings) -> None:
        session, ring_s = service.session, settings.ring_s

        def dropped(samples: int) -> None:
            kept = f"{ring_s:g} s are kept without a connection"
            error = ServiceError(f"{samples} samples of the caller's audio were dropped: {kept}")
            session.report(error, service.name)

        self.leaving = False
        """True while another engine is about to take over: the caller's audio is held back."""
        self.provider = Provider()
        self.outlet = Outlet(service)
        self.memory = ProviderMemory(
            session.conversation, session.ledger, settings.replay_messages, lambda: own_since(session)
        )
        self.ring = AudioRing(service.capabilities.input_sample_rate, ring_s, dropped)
        self.turns = Turns(session, self.ring, self.provider)
        self.asks = Asks(session, self.provider, self.turns, self.memory)
        self.consumption = Consumption(service, self.ring.uplink)
        self.replies = Replies(service, self.provider, self.consumption, self.turns, self.asks, self.outlet)
        self.early = Early(service, self.provider, self.ring, self.asks, self.replies, self.memory)
        self.transcripts = Transcripts(service, self.provider, self.ring, self.turns)
        self.caller = Caller(service, self.provider, self.ring, self.turns, self.asks, self.early, self.transcripts)


class Events:
    """Hands each event of the connection in use to the part that acts on it, and drops those of other connections."""

    def __init__(
        self, service: NativeService, parts: Parts, keeper: Keeper[EngineConfig, Dialect], reconfigure: Reconfigure
    ) -> None:
        self._service, self._session = service, service.session
        self._parts, self._provider = parts, parts.provider
        self._keeper, self._reconfigure = keeper, reconfigure
        self._reported = Recent[bool](MAX_REPORTED)

    def act_now(self, connection: Connection[Dialect], event: Event) -> bool:
        """Act on a piece of audio, the most frequent event, without a task. Returns False for other events."""
        if not isinstance(event, Voiced):
            return False
        if connection is self._provider.connection and not self._parts.early.keeps(event):
            self._parts.replies.on_voiced(event)
        return True

    async def read(self, connection: Connection[Dialect], event: Event) -> None:
        """Hand an event to the part that acts on it."""
        if connection is not self._provider.connection or self._parts.early.keeps(event):
            return
        asks, replies, caller = self._parts.asks, self._parts.replies, self._parts.caller
        match event:
            case Voiced():
                replies.on_voiced(event)
            case Said():
                replies.on_said(event)
            case TurnTranscribed():
                await self._parts.transcripts.on_transcribed(event)
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
                self._parts.consumption.on_consumed(event.usage)
            case CutShort():
                wanted = not asks.active or any(not reply.void for reply in asks.active.values())
                if wanted and may_interrupt(self._session):
                    self._session.interrupt()
                if self._parts.ring.uplink.server_turns or self._parts.ring.going_on is not None:
                    asks.expect_none()  # the rest of a turn is still to come
            case Configured():
                self._reconfigure.on_configured(event)
            case HandleGiven():
                self._on_handle(event.handle)
            case GoingAway():
                self._keeper.going_away(event.left_s)
            case Refused():
                self._on_refused(event)
            case Crossed():
                replies.on_refused(event.tag)
            case Odd():
                self._report_once(BadInput(f"a message of the provider was read without a field: {event.problem}"))
            case Unknown():
                self._report_once(ServiceError(f"the provider sent {event.kind!r}, which is not known here"))

    def _on_handle(self, handle: str) -> None:
        if handle:
            self._parts.memory.handle_given(handle)
            lacks = tuple(item.id for item in self._parts.memory.due())
            self._service.broadcast(ResumptionHandle(engine=self._service.name, handle=handle, lacks=lacks))

    def _report_once(self, error: Exception) -> None:
        """Report an error that is likely to come back, once."""
        kind = re.sub(r"\d+", "0", str(error))
        if kind not in self._reported:
            self._reported[kind] = True
            self._session.report(error, self._service.name)

    def _on_refused(self, event: Refused) -> None:
        if self._reconfigure.on_refused(event):
            return
        error = f"{event.code}: {event.message}"
        self._parts.replies.on_refused(event.about, error)
        self._session.report(ServiceError(error), self._service.name)
        if event.fatal and self._provider.connection is not None:
            self._keeper.lost(self._provider.connection, ConnectionLost(error, fatal=True))


class Link:
    """The service that a `Keeper` keeps connected."""

    def __init__(self, service: NativeService, parts: Parts, settings: ConnectionSettings) -> None:
        self._service = service
        self._session = service.session
        self._parts = parts
        self._provider = parts.provider
        self.spawn = service.spawn
        self._refreshed = ""  # the reason for the replacement in progress
        self._keeper = RestingKeeper(self, settings)
        self.give_up = self._keeper.give_up
        self._provider.want = self._keeper.want
        self._reconfigure = Reconfigure(settings.connect_timeout_s)
        self._patience_s = settings.response_s
        self._events = Events(service, parts, self._keeper, self._reconfigure)

    async def open(self) -> None:
        """Connect. Raises ConnectionLost, DeadlineExceeded or ConfigurationError."""
        await self._keeper.open()

    async def change(self, config: EngineConfig) -> None:
        """Apply a configuration in place or on a new connection. Without a connection the next one gets it.

        Raises ConfigurationError if the provider refuses it, ConnectionLost or DeadlineExceeded without an answer.
        """
        connection = self._provider.connection
        if connection is not None and not await self._reconfigure.apply(connection, config):
            await self._keeper.replace(config, "a change that takes a new connection")
        self._service.config = config

    @property
    def resting(self) -> bool:
        """True while no connection is wanted for now."""
        return self._keeper.resting

    async def rest(self) -> None:
        """Disconnect at the next quiet moment, or after `TRANSCRIPT_WAIT_S`."""
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self._provider.until(self.is_quiet)
        if not self._parts.asks.busy:
            if not self._parts.turns.waiting:
                self._parts.ring.clear()  # no part of it needs to be sent again
            self._keeper.rest()

    async def wake(self) -> None:
        """Connect again after `rest`."""
        await self._keeper.wake()

    async def close(self) -> None:
        """End the connection."""
        await self._keeper.close()
        self._provider.connection = None
        self._provider.notify()

    # -- for the keeper --------------------------------------------------------------------------------------------

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

    async def connect(self, config: EngineConfig, handle: str) -> Connection[Dialect]:
        """Return a connection that is set up. Raises ConnectionLost."""
        dialect = self._service.dialect(config, handle)
        return await dial(
            dial_outside(self._service.name, lambda: self._service.dial(config, handle)),
            lambda wire: Connection(self, wire, dialect, self._events.read, self._keeper.lost, self._events.act_now),
        )

    def broadcast(self, signal: ConnectionChanged) -> None:
        """Broadcast a change of the connection, and let the state of the session follow."""
        refreshes = signal.state == "refreshing"
        self._refreshed = signal.reason if refreshes else ""
        self._session.microphone.refreshes(self.name, refreshes, signal.reason)
        self._service.broadcast(signal)

    def report(self, error: Exception) -> None:
        """Report an error that the connection survives."""
        self._session.report(error, self.name)

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that ends with the session."""
        return self._service.host.start_task(self._service, work)

    def hold(self, held: bool) -> None:
        """Hold the caller's audio back, or release it unless a change of engines holds it too."""
        self._parts.ring.hold(held or self._parts.leaving)

    def usable_handle(self) -> str:
        """Return the handle if it covers the whole conversation, else ""."""
        return self._parts.memory.usable_handle(self._parts.turns.unanswered_items)

    def is_quiet(self) -> bool:
        """Return True if nobody speaks, and no answer is owed or in progress."""
        return not (
            self._parts.asks.busy
            or self._parts.asks.results.awaited
            or self._parts.turns.waiting
            or self._parts.turns.transcript_is_late
            or self._session.floor.caller_speaking
        )

    def was_quiet(self, age_s: float) -> bool:
        """Return True if nothing is in progress except speech of the caller that began less than `age_s` ago."""
        at = self._session.now() - age_s
        if self._parts.asks.busy or self._parts.asks.results.awaited:
            return False
        return all(utterance.start_s >= at for utterance in self._parts.turns.waiting)

    def waits_since(self) -> float | None:
        """Return the loop time since which the provider owes an answer, None if it owes none."""
        connection = self._provider.connection
        ignored = self._parts.caller.ignored_since(connection.told_at) if connection is not None else None
        return min((at for at in (ignored, self._parts.asks.waits_since) if at is not None), default=None)

    def look(self) -> None:
        """End the replies that have brought nothing for too long, and ask for one that the provider does not begin.

        A model that may be silent is not asked, but it says that it is: a turn of which nothing comes is reported.
        """
        parts = self._parts
        parts.replies.look(self._patience_s)
        overdue = parts.caller.overdue(self._patience_s)
        dialect = self._provider.dialect
        if overdue is not None and not overdue.overdue and dialect is not None:
            overdue.overdue = True
            error = f"no answer: the model has sent nothing for {self._patience_s:g} s after the caller's turn"
            self._session.report(ServiceError(error), self.name)
            if dialect.may_be_silent:
                parts.turns.answered(overdue)
                self._provider.notify()
            else:
                self._service.ask_again(Ask("", self._service.begin_turn(), overdue, moves=parts.turns.moves))

    def take(self, connection: Connection[Dialect] | None, resumed: bool) -> str:
        """Use another connection from now on, or none. Returns a text on how its session knows the log."""
        before, self._provider.connection = self._provider.connection, connection
        if before is not None:
            self._reconfigure.lost()
            for ask in self._parts.replies.abandon():  # the next connection owes the same answers
                self._owe_again(ask)
            self._parts.caller.detach(lost=connection is None)
        how = "" if connection is None else self._join(connection, resumed)
        self._provider.notify()
        return how

    def _owe_again(self, ask: Ask) -> None:
        if ask.utterance is not None and ask.utterance.text is None:
            # The turn has no transcript, but its audio is sent again: the answer begins again too.
            if ask.said:
                self._session.interrupt("connection lost")
        elif ask.said:
            self._service.queue(Respond(instructions=CONTINUE))
        else:
            self._service.owe_answer("connection lost")
        self._service.settle(ask.turn)

    def _join(self, connection: Connection[Dialect], resumed: bool) -> str:
        memory = self._parts.memory
        memory.connected(resumed=resumed)
        live, replayed = self._provider.live, 0
        if not resumed:  # before it is live, the replay is still to come
            replayed = memory.replay_on(connection, self.report) if live else memory.to_replay()
        how = NATIVE if resumed else f"replayed {replayed} messages" if replayed else "fresh"
        if live:
            self._parts.caller.attach(connection)
            # For readers of the log only: without a text it is not sent to the model.
            data = {"engine": self.name, "connection": how}
            if self._refreshed:
                data["refreshed"] = self._refreshed
            self._session.conversation.add("note", "system", name="connection", data=data)
        return how

    def clock(self) -> Clock | None:
        """Begin to charge the open connection, if the provider charges by the clock."""
        service = self._service
        return self._session.cost.clock(service.name, service.model, service.capabilities.billing)

    def given_up(self, error: Exception) -> None:
        """Report the error with which the keeper gave up; it is fatal unless another engine takes the call."""
        self._provider.given_up = True
        self._parts.ring.tell_lost()
        self._provider.notify()
        self._session.report(error, self.name, fatal=not self.replaceable)

    def reached_limit(self) -> None:
        """End the call: the connection has reached its limit, and is not to be replaced."""
        self._service.spawn(self._session.end, "cap")
