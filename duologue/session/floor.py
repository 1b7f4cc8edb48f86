"""`Floor`: the turns of a call, its fence, and the holds on the agent's speech."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sized
from types import TracebackType
from typing import Any, Literal, Self

from ..errors import ConfigurationError
from ..frames import (
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Frame,
    Output,
    Signal,
)

INSIST_S = 1.0
"""Seconds after which work that ignores its cancellation is cancelled once more, for the last time."""
_NO_TURNS: frozenset[int] = frozenset()  # CPython makes a new one, of 216 bytes, each time
Owner = Literal["caller", "agent"]
Expected = Literal["digits", "yes_no"]
VoiceListener = Callable[[float, float], None]
"""Called with the session times of the first and the latest voiced frame of the caller's speech, in seconds."""
Edge = Callable[[tuple[str, ...]], None]
"""Called with the names of the owners of the holds when the agent's speech is put on hold, or resumes."""


class TurnScope:
    """A block of work on a turn: see `Floor.scope`.

    It cancels with asyncio, at most twice: an anyio scope cancels again at every iteration of the loop while the block
    goes on, and work that ignores it would keep the loop busy.
    """

    __slots__ = ("_cancelling", "_cancels", "_entered", "_timer", "_void", "cancel_called", "task", "turn")

    def __init__(self, turn: int, entered: dict[TurnScope, None], *, void: bool) -> None:
        self.turn = turn
        self.task: asyncio.Task[Any] | None = None
        """The task in the block; None outside of it."""
        self.cancel_called = False
        """True once an interruption has made the work void."""
        self._entered = entered
        self._void = void
        self._cancels = 0
        self._cancelling = 0  # number of the task's cancellations before the block
        self._timer: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Cancel the block, at its next await if it runs now."""
        if not self.cancel_called:
            self.cancel_called = True
            if self.task is asyncio.current_task():
                # At once, the cancellation could hit an await behind the block.
                self._timer = asyncio.get_running_loop().call_soon(self._cancel)
            else:
                self._cancel()

    def _cancel(self) -> None:
        self._timer = None
        if self.task is not None:
            self._cancels += 1
            self.task.cancel()
            if self._cancels == 1:
                self._timer = asyncio.get_running_loop().call_later(INSIST_S, self._cancel)

    def __enter__(self) -> Self:
        self.task = asyncio.current_task()
        assert self.task is not None
        self._cancelling = self.task.cancelling()
        self._entered[self] = None
        if self._void:
            self.cancel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self.task = self.task, None
        assert task is not None
        if self._timer is not None:
            self._timer.cancel()
        del self._entered[self]
        for _ in range(self._cancels):
            task.uncancel()
        return (
            bool(self._cancels) and isinstance(error, asyncio.CancelledError) and task.cancelling() <= self._cancelling
        )


class Floor:
    """The turn counter of a call, its fence, its holds, and which side is active.

    A turn is one exchange: it begins when the agent takes the floor. `Output` of a turn up to `fence` is stale
    everywhere at once, because everything that handles output asks the floor.
    """

    def __init__(self, broadcast: Callable[[Signal], None] = lambda signal: None) -> None:
        self._broadcast = broadcast
        self.pending: Sized = ()
        """The responses that are not settled: those of the ledger."""
        self.turn = 0
        """The latest turn that has begun."""
        self.fence = -1
        """Output of this turn and of those before it is void."""
        self.agent_speaking = False
        """True while the caller hears the agent or its speech is on hold. The transport's playout sets it."""
        self.caller_speaking = False
        """True while the caller speaks. Set by `caller_speaks`."""
        self.dismissed = False
        """True if the caller's turn that is ending was a backchannel: see `take_dismissed`."""
        self.caller_may_speak = False
        """True while the latest sound is a voice, if only for a moment: speech may begin. A detector sets it."""
        self.expected: Expected | None = None
        """The probable content of the caller's next turn. `Session.expect` sets it, the end of the turn clears it."""
        self._working = self._protected = _NO_TURNS
        self._scopes: dict[TurnScope, None] = {}
        self._holds = Holds()
        self._voice_listeners: tuple[VoiceListener, ...] = ()
        self._life_listeners: tuple[Callable[[], None], ...] = ()

    def touched(self) -> None:
        """Record a sign of life. Code that changes one of the attributes above calls it too."""
        for listener in self._life_listeners:
            listener()

    def on_life(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` at every sign of life of either side. Returns a function that removes it."""
        self._life_listeners = (*self._life_listeners, listener)

        def stop() -> None:
            self._life_listeners = tuple(other for other in self._life_listeners if other != listener)

        return stop

    def caller_speaks(self, speaking: bool, at: float) -> None:
        """Record that the caller has spoken, or been silent, since session time `at`. Broadcasts a change."""
        changed, self.caller_speaking = speaking != self.caller_speaking, speaking
        self.touched()
        if changed:
            self._broadcast(CallerStartedSpeaking(at=at) if speaking else CallerStoppedSpeaking(at=at))

    def caller_voiced(self, start_s: float, end_s: float) -> None:
        """Record that the caller's speech, which began at session time `start_s`, has gone on until `end_s`.

        A detector calls this with every piece of audio that prolongs the speech, before it passes the piece on.
        """
        for listener in self._voice_listeners:
            listener(start_s, end_s)

    def on_voice(self, listener: VoiceListener) -> Callable[[], None]:
        """Call `listener` whenever the caller's speech goes on. Returns a function that removes it."""
        self._voice_listeners = (*self._voice_listeners, listener)

        def stop() -> None:
            self._voice_listeners = tuple(other for other in self._voice_listeners if other != listener)

        return stop

    @property
    def owner(self) -> Owner:
        """The side that has the floor: the agent while it works on a turn, speaks or is about to, else the caller."""
        return "agent" if self._working or self.agent_speaking or self.pending else "caller"

    def begin(self, *, protected: bool = False) -> int:
        """Begin a new turn of the agent and return its number. The caller cannot interrupt a protected turn."""
        self.turn += 1
        if not self.pending:
            self._protected &= self._working
        self._working |= {self.turn}
        if protected:
            self._protected |= {self.turn}
        self.touched()
        return self.turn

    def finish(self, turn: int) -> None:
        """Record that the engine has finished this turn, including its tool calls and their continuations."""
        self._working -= {turn}
        self.touched()

    def is_stale(self, frame: Frame) -> bool:
        """Return True if an interruption has made this frame void."""
        return isinstance(frame, Output) and frame.turn <= self.fence and not frame.survives_fence

    def is_protected(self, turn: int) -> bool:
        """Return True if the caller may not interrupt this turn.

        Protection ends when the next turn begins after this one is finished and heard.
        """
        return turn in self._protected

    def take_dismissed(self) -> bool:
        """Clear `dismissed`. Return True if it was set while the agent has the floor: the agent then keeps it."""
        dismissed, self.dismissed = self.dismissed, False
        return dismissed and self.owner == "agent"

    # -- holds -----------------------------------------------------------------------------------------------------

    def hold(
        self,
        owner: str,
        *,
        patience_s: float | None,
        lasting: bool = False,
        on_expired: Callable[[], None] | None = None,
    ) -> Hold:
        """Put the agent's speech on hold, at once and without loss, and return the hold.

        The agent stays silent while any hold is out. The hold ends when it is released, when it expires after
        `patience_s` seconds (this calls `on_expired`), or at an interruption unless it is `lasting`. `patience_s=None`
        is for an owner that is sure to release it. Raises ConfigurationError for a `patience_s` that is not positive.
        """
        return self._holds.begin(owner, patience_s=patience_s, lasting=lasting, on_expired=on_expired)

    @property
    def held(self) -> bool:
        """True while the agent's speech is on hold."""
        return bool(self._holds.out)

    @property
    def held_by(self) -> tuple[str, ...]:
        """The owners of the holds that are out, oldest first."""
        return tuple(hold.owner for hold in self._holds.out)

    def on_hold(self, held: Edge, resumed: Edge) -> Callable[[], None]:
        """Register functions that silence and resume the agent's speech. Returns a function that removes them.

        `held` is called with the owner when the first hold begins. `resumed` is called when the last hold is released
        or expires, with the owners of all holds since. An interruption that ends the last hold calls neither.
        """
        return self._holds.on_edge(held, resumed)

    # -- interruptions ---------------------------------------------------------------------------------------------

    def scope(self, turn: int) -> TurnScope:
        """Return a block for work on a turn: `with floor.scope(turn):`. The fence cancels it when it reaches the turn.

        If it has reached the turn already, the first await is cancelled. The block then ends without an exception, and
        the scope's `cancel_called` is True.
        """
        return TurnScope(turn, self._scopes, void=turn <= self.fence)

    def raise_fence(self) -> int:
        """Make all output up to the latest turn void, end the holds that are not lasting, and return that turn."""
        self.fence = self.turn
        self._working = self._protected = _NO_TURNS
        if self.held:
            self._holds.end(lasting=False)
        for scope in [scope for scope in self._scopes if scope.turn <= self.fence]:
            scope.cancel()
        self.touched()
        return self.fence

    def close(self) -> None:
        """End all holds without resuming the speech: the call ends."""
        self._holds.end(lasting=True)


class Hold:
    """A hold on the agent's speech by `owner`. It lasts until `release`, its expiry, or an interruption.

    Made by `Floor.hold`. Other holds neither end it nor change its time.
    """

    __slots__ = ("_holds", "_on_expired", "_timer", "expired", "lasting", "owner")

    def __init__(self, holds: Holds, owner: str, *, lasting: bool, on_expired: Callable[[], None] | None) -> None:
        self.owner = owner
        self.lasting = lasting
        """True if an interruption does not end it: its cause is the client, not the agent's words."""
        self.expired = False
        """True once it has ended because its time was over."""
        self._holds = holds
        self._on_expired = on_expired
        self._timer: asyncio.TimerHandle | None = None

    @property
    def out(self) -> bool:
        """True until it is released, expires or is ended by an interruption."""
        return self in self._holds.out

    def release(self) -> None:
        """End the hold. The speech resumes if no other hold is out. Does nothing if the hold has ended already."""
        if self.out:
            self._stop_timer()
            self._holds._ended(self)

    def release_after(self, seconds: float) -> None:
        """End the hold after `seconds` at the latest. An earlier limit stays."""
        if not self.out:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        self._stop_timer()
        self._timer = loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._timer, self.expired = None, True
        self._holds._ended(self)
        if self._on_expired is not None:
            self._on_expired()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Holds:
    """The holds of one call that are out, the only record of them."""

    def __init__(self) -> None:
        self.out: dict[Hold, None] = {}
        """The holds that are out, oldest first."""
        self._owners: dict[str, None] = {}  # of all holds since the silence began
        self._edges: list[tuple[Edge, Edge]] = []

    def on_edge(self, held: Edge, resumed: Edge) -> Callable[[], None]:
        """Call `held` when the first hold begins, `resumed` when the last one is released or expires.

        An interruption that ends the last hold calls neither. Returns a function that removes both.
        """
        edge = held, resumed
        self._edges.append(edge)

        def stop() -> None:
            if edge in self._edges:
                self._edges.remove(edge)

        return stop

    def begin(
        self, owner: str, *, patience_s: float | None, lasting: bool, on_expired: Callable[[], None] | None
    ) -> Hold:
        """See `Floor.hold`."""
        if patience_s is not None and not (math.isfinite(patience_s) and patience_s > 0):
            raise ConfigurationError(f"patience_s is {patience_s!r}: it must be a positive number of seconds, or None")
        hold = Hold(self, owner, lasting=lasting, on_expired=on_expired)
        first = not self.out
        self.out[hold] = None
        self._owners[owner] = None
        if patience_s is not None:
            hold.release_after(patience_s)
        if first:
            for held, _ in tuple(self._edges):
                held((owner,))
        return hold

    def _ended(self, hold: Hold) -> None:
        del self.out[hold]
        if not self.out:
            owners, self._owners = tuple(self._owners), {}
            for _, resumed in tuple(self._edges):
                resumed(owners)

    def end(self, *, lasting: bool) -> None:
        """End all holds without calling an edge; lasting holds only if `lasting`."""
        for hold in list(self.out):
            if lasting or not hold.lasting:
                hold._stop_timer()
                del self.out[hold]
        self._owners = {hold.owner: None for hold in self.out}
