"""`Resumed`: the earlier call that a call goes on from. `CallResume`: the interface by which it is found and read."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from ..frames import CallResumed, ConnectionChanged

How = Literal["", "handle", "replay", "fresh"]
"""How the agent knows the earlier call: by the provider's handle, by a replay of the log, or not at all. "" before the
engine has connected."""
NATIVE = "resumed by handle"
"""The text of a connection's state if the provider has resumed its session."""


class CallResume(Protocol):
    """Finds an earlier call, and restores it in a session. `duologue.trace.Resume` is one."""

    async def take(self, session: Any) -> None:
        """Restore the earlier call in a session that has not opened its pipeline, set its `resumed`, and begin its
        trace. Raises an error if there is no such call, or another process has it."""


class Place:
    """The place of a call in its flow of agents, as the log of the earlier call has it."""

    __slots__ = ("agent", "engine", "handoffs", "phases")

    def __init__(self, agent: str = "", engine: str = "", phases: tuple[str, ...] = (), handoffs: int = 0) -> None:
        self.agent, self.engine, self.phases, self.handoffs = agent, engine, phases, handoffs


class Handle:
    """A provider's handle, and the ids of the items in the log that its session knows."""

    __slots__ = ("known", "text")

    def __init__(self, text: str, known: frozenset[str]) -> None:
        self.text, self.known = text, known


class Resumed:
    """What a call goes on from: `session.resumed`."""

    __slots__ = ("_handles", "_offered", "call", "how", "items", "place", "session_id", "why")

    def __init__(self, call: str, why: str = "", *, session_id: str = "", items: int = 0) -> None:
        self.call = call
        """The name of the earlier call in the store; "" if this call begins anew."""
        self.session_id = session_id
        """The id of the session that had it."""
        self.items = items
        """The number of items that were restored in the log."""
        self.how: How = "" if call else "fresh"
        """How the agent knows the earlier call."""
        self.why = why
        """The reason, if there is a better way that was not taken."""
        self.place = Place()
        """The agent that had the call, and its place in the flow."""
        self._handles: dict[str, Handle] = {}
        self._offered = False

    def __repr__(self) -> str:
        return f"<Resumed {self.call or 'no call'}: {self.how or 'not connected'}>"

    def give(self, handles: dict[str, Handle]) -> None:
        """Keep the handles of the earlier call by the names of the engines."""
        self._handles = handles

    def take_handle(self, engine: str) -> Handle | None:
        """Return the handle of an engine, once; None without one."""
        return self._handles.pop(engine, None)

    def offers(self, handle: str) -> None:
        """Note that an engine connects with a handle; "" if its handle does not cover all that was said."""
        self._offered = bool(handle)
        if not handle:
            self.why = "the log goes beyond the provider's handle"

    def connected(self, signal: ConnectionChanged) -> None:
        """Note how the first connection of an engine knows the earlier call."""
        if self.how or signal.state != "active" or not signal.how:
            return
        self.how = "handle" if signal.how == NATIVE else "replay"
        if self._offered and self.how == "replay":
            self.why = "the provider did not take its handle: it may have expired"

    def told(self) -> CallResumed:
        """Return the signal that says it. Without a connection that could have a handle, the log was replayed."""
        self.how = self.how or "replay"
        return CallResumed(call=self.call, how=self.how, why=self.why, items=self.items)


def goes_on(resumed: Resumed | None) -> bool:
    """Return True if a call goes on from an earlier one: nobody is greeted again."""
    return resumed is not None and bool(resumed.call)
