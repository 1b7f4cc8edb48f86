"""`Link`: keeps the parts of a native engine on a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ...agents.engine import EngineConfig
from ...errors import ServiceError
from ...frames import ConnectionChanged, Respond
from ..remote.connection import Connection, ConnectionSettings, dial
from ..remote.keeper import Keeper
from .asks import CONTINUE
from .dialect import Dialect
from .events import Events
from .parts import Parts
from .provider import NativeService
from .reconfigure import Reconfigure
from .reply import Ask


class Link:
    """The service that a `Keeper` keeps connected."""

    def __init__(self, service: NativeService, parts: Parts, settings: ConnectionSettings) -> None:
        self._service = service
        self._session = service.session
        self._parts = parts
        self._provider = parts.provider
        self._keeper = Keeper(self, settings)
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

    def give_up(self, error: Exception) -> None:
        """Stop connecting for good, and report the error."""
        self._keeper.give_up(error)

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
            self._service.dial(config, handle),
            lambda wire: Connection(self, wire, dialect, self._events.read, self._keeper.lost, self._events.act_now),
        )

    def broadcast(self, signal: ConnectionChanged) -> None:
        """Broadcast a signal."""
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
        how = "resumed by handle" if resumed else f"replayed {replayed} messages" if replayed else "fresh"
        if live:
            self._parts.caller.attach(connection)
            # For readers of the log only: without a text it is not sent to the model.
            data = {"engine": self.name, "connection": how}
            self._session.conversation.add("note", "system", name="connection", data=data)
        return how

    def given_up(self, error: Exception) -> None:
        """Report the error with which the keeper gave up; it is fatal unless another engine takes the call."""
        self._provider.given_up = True
        self._parts.ring.tell_lost()
        self._provider.notify()
        self._session.report(error, self.name, fatal=not self.replaceable)

    def reached_limit(self) -> None:
        """End the call: the connection has reached its limit, and is not to be replaced."""
        self._service.spawn(self._session.end, "cap")
