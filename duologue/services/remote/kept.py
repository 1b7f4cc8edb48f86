"""`KeptService`: the service that a `Keeper` keeps connected, as the keeper sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ...frames import ConnectionChanged
from .connection import Connection, ConnectionOwner, D

Config = TypeVar("Config")


class KeptService(ConnectionOwner, Protocol[Config, D]):
    """The service that a keeper keeps connected. The keeper compares its configurations and knows nothing of them."""

    config: Config
    """What the next connection is made with."""
    replaceable: bool
    """True if another engine can take the call when this one gives up."""

    async def connect(self, config: Config, handle: str) -> Connection[D]:
        """Return a connection that is set up. Any error means that there is none."""

    def usable_handle(self) -> str:
        """Return the handle with which the session can be resumed now, "" for none."""

    def is_quiet(self) -> bool:
        """Return True if nobody speaks and no answer is owed or being given."""

    def was_quiet(self, age_s: float) -> bool:
        """Return True if all that goes on, if anything does, began less than `age_s` ago."""

    def waits_since(self) -> float | None:
        """Return the loop time since which the provider owes an answer, None if it owes none."""

    def hold(self, held: bool) -> None:
        """Send nothing of the caller's (`held`), or go on."""

    def take(self, connection: Connection[D] | None, resumed: bool) -> str:
        """Use this connection from now on, None for none. Returns how it knows the conversation."""

    def given_up(self, error: Exception) -> None:
        """Learn that there will be no connection any more."""

    def reached_limit(self) -> None:
        """Learn that the connection has reached its end and is not to be replaced."""

    def broadcast(self, signal: ConnectionChanged) -> None:
        """Tell the session about the connection."""

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task that ends with the session."""
