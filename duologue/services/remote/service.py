"""`RemoteService`: the base of services that use one connection to a vendor for the whole call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeAlias

import msgspec

from ...agents.engine import Billing
from ...errors import DeadlineExceeded, ServiceError
from ...frames import ConnectionChanged, SessionStarted, Signal
from ...processors.processor import Processor, handles
from ...session.boundary import dial_outside
from ...session.running import Clock
from .connection import Connection, ConnectionSettings, D, dial
from .dialect import Event, GoingAway, Refused, Wire
from .errors import ConnectionLost
from .keeper import Keeper

Setup: TypeAlias = tuple[str, ...]
"""The settings with which a connection is made, such as a language. A change of them needs a new connection."""


class RemoteService(Processor, Generic[D]):
    """Opens a connection with the session, keeps it, and closes it.

    A service implements `dial` and `dialect`; the bases `RemoteSTT` and `RemoteTTS` implement the rest.
    """

    extra: str = ""
    """The extra of Duologue that installs the service's packages."""
    reopens: bool = False
    """False: the keeper opens the connection again."""
    replaceable: bool = False
    """True if another engine can take the call when the connection is given up."""
    model: str
    billing: Billing

    given_up_to: Callable[[Exception], None] | None = None
    """Takes the error of a connection that is given up, in a `Fallback`: another service is in reserve."""

    def __init__(self, connection: ConnectionSettings | None = None) -> None:
        self.connection_settings = connection or ConnectionSettings()
        self.config: Setup = ()
        self.held = False
        """True while nothing may be sent because the connection is being replaced."""
        self.failure: Exception | None = None
        """The error with which the connection was given up."""
        self._keeper: Keeper[Setup, D] = Keeper(self, self.connection_settings)
        self._not_opened: Exception | None = None

    # -- implemented by a service ----------------------------------------------------------------------------------

    async def dial(self, setup: Setup) -> Wire:
        """Open a wire. Raises ConnectionLost."""
        raise NotImplementedError

    def dialect(self, setup: Setup) -> D:
        """Return a translator for one connection."""
        raise NotImplementedError

    # -- implemented by a base -------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Return True if the connection may be replaced now."""
        raise NotImplementedError

    def waits_since(self) -> float | None:
        """Return the loop time since which the vendor owes an answer, None if it owes none."""
        return None

    def look(self) -> None:
        """Check that what the vendor has begun goes on."""

    def attached(self, connection: Connection[D]) -> None:
        """Send to this connection from now on, beginning with the messages that the vendor still needs."""

    def detached(self) -> None:
        """Act on the loss of the connection. Another connection or `given_up` follows."""

    async def on_event(self, event: Event) -> None:
        """Act on an event of the current connection."""

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection[D] | None:
        """The connection in use."""
        return self._keeper.connection

    @property
    def connections_made(self) -> int:
        """The number of connections that were set up. One serves many utterances or responses."""
        return self._keeper.attempts.made

    async def configured(self) -> None:
        """Wait until the first agent has configured the engine: its parts open at the same time."""
        await asyncio.sleep(0)

    async def connect_first(self) -> None:
        """Make the first connection. Raises ConnectionLost, DeadlineExceeded or ConfigurationError.

        If another engine can take the call, a first connection that cannot be made is given up after the session has
        started.
        """
        self.failure = self._not_opened = None
        self._keeper = Keeper(self, self.connection_settings)
        try:
            await self._keeper.open()
        except (ConnectionLost, DeadlineExceeded) as error:
            if not (self.replaceable and not self.session.live):
                raise
            self._not_opened = error

    @handles(SessionStarted)
    async def started_without(self, signal: SessionStarted) -> None:
        """Give up a connection that could not be made before the session started."""
        if self._not_opened is not None:
            self._keeper.give_up(self._not_opened)

    async def disconnect(self) -> None:
        """Close the connection."""
        await self._keeper.close()

    async def use_setup(self, setup: Setup) -> None:
        """Change to a connection with this setup, unless it is in use. Raises the errors of `Keeper.replace`."""
        if setup == self.config:
            return
        if self.connection is None:
            self.config = setup  # the next connection uses it
        else:
            await self._keeper.replace(setup, "a change that takes a new connection")

    async def renew(self, reason: str) -> None:
        """Replace the connection. If that fails, the error is reported, and the old one stays."""
        try:
            await self._keeper.replace(self.config, reason)
        except Exception as error:
            self.report(ServiceError(f"{self.name} stays with its connection: {error}"))

    # -- for the keeper --------------------------------------------------------------------------------------------

    async def connect(self, config: Setup, handle: str) -> Connection[D]:
        """Return a connection that is set up."""
        dialect = self.dialect(config)
        return await dial(
            dial_outside(self.name, lambda: self.dial(config)),
            lambda wire: Connection(self, wire, dialect, self._on_event, self._keeper.lost),
        )

    async def _on_event(self, connection: Connection[D], event: Event) -> None:
        if connection is not self.connection:
            return
        if isinstance(event, GoingAway):
            self._keeper.going_away(event.left_s, event.reason)
        elif isinstance(event, Refused) and event.fatal:
            self._keeper.lost(connection, ConnectionLost(f"{event.code}: {event.message}", fatal=True))
        else:
            await self.on_event(event)

    def usable_handle(self) -> str:
        """Return "": there is nothing to resume."""
        return ""

    def was_quiet(self, age_s: float) -> bool:
        """Return True if the connection may be replaced now."""
        return self.is_quiet()

    def hold(self, held: bool) -> None:
        """Stop sending, or resume."""
        self.held = held

    def take(self, connection: Connection[D] | None, resumed: bool) -> str:
        """Use this connection from now on."""
        if connection is None:
            self.detached()
        else:
            self.attached(connection)
        return "fresh"

    def clock(self) -> Clock | None:
        """Begin to charge the open connection, if the vendor charges by the clock."""
        return self.session.cost.clock(self.name, self.model, self.billing)

    def given_up(self, error: Exception) -> None:
        """Report the error with which the keeper gave up; it is fatal unless another engine can take the call."""
        self.failure = error if isinstance(error, ServiceError) else ServiceError(str(error))
        if self.given_up_to is not None:
            self.given_up_to(self.failure)
        else:
            self.session.report(error, self.name, fatal=not self.replaceable)

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal. With another service in reserve, the loss of the connection is only its end."""
        if self.given_up_to is not None and isinstance(signal, ConnectionChanged) and signal.state == "lost":
            signal = msgspec.structs.replace(signal, state="closed")
        super().broadcast(signal)

    def reached_limit(self) -> None:
        """End the call: the connection has reached its end, and is not to be replaced."""
        self.spawn(self.session.end, "cap")

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that ends with the session."""
        return self.host.start_task(self, work)

    def report(self, error: Exception) -> None:
        """Report an error that the connection survives."""
        self.session.report(error, self.name)
