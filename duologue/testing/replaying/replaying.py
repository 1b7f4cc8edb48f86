"""`Replaying`: the boundary of a replay. What entered the recorded call enters again, at the same places in time."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from ...errors import DuologueError
from ...services.remote.errors import ConnectionLost
from ...session.boundary import AnswerHead, as_code_of
from ...session.session import Session
from ...trace.recording import STATE, Steps, mark_of
from ..clock import VirtualClockLoop
from .channel import Channel
from .entering import Entering
from .script import AHEAD_S, Ahead, Given, Script
from .values import error_of, value_of
from .wires import ReplayedHead, ReplayedWire

T = TypeVar("T")

AFTER_S = 30.0
"""Seconds for which a replay goes on after the last record."""
MAX_DIFFERENCES = 100
_ENTERS = frozenset({"pcm", "values"})
"""The data of something that the caller or the application does."""
ENOUGH_S = AHEAD_S / 2
SAME_TIME_S = 5e-10
"""Times that are nearer than this are the same for the virtual clock."""


class NotRecorded(DuologueError):
    """The replay asks for something that the recorded call did not."""

    category = "service"


class Replaying:
    """Answers from a script, and lets in what entered, between the same two steps of the session.

    With `live`, another provider answers: that of a scripted server in this program.
    """

    replays = True

    def __init__(self, script: Script, session: Session[Any], entering: Entering, *, live: bool = False) -> None:
        self._live = live
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        self.loop = loop
        self.steps = Steps(loop)
        self.differences: list[str] = []
        """What the replay does otherwise than the recorded call, at most 100 lines."""
        self._script = script
        self._session = session
        self._entering = entering
        self._ahead = Ahead(script)
        self._asked: defaultdict[str, set[int]] = defaultdict(set)
        self._found: dict[str, Any] = {}
        self._channels: dict[tuple[str, int], Channel] = {}
        self._wires: dict[tuple[str, int], ReplayedWire] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timed = self._over_at = 0.0
        self._next_t, self._next_n = math.inf, -1

    def begin(self) -> None:
        """Begin to let in."""
        self._entering.begin(self, self._session)
        self.loop.serve_between_steps(self._serve, self._serve_late)
        self._look()

    def time(self) -> float:
        """Return the loop's time."""
        return self.loop.time()

    def fire(self, when: float) -> None:
        """Timers of the session are due."""

    def diverge(self, what: str) -> None:
        """Note a difference from the recorded call."""
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(f"{self._session.now():.3f} s: {what}")

    def conclude(self) -> None:
        """Note what the recorded call got and the replay has not asked for."""
        for channel in self._channels.values():
            if channel.unasked and (channel.of_tool or not self._live):
                self.diverge(f"{channel.name} was asked {channel.number} times, and is not asked as often")

    # -- in order --------------------------------------------------------------------------------------------------

    def _serve(self, late: bool = False) -> bool:
        """Let in what is due between these two steps. Returns True if something came."""
        if self._next_t > self.loop.time() + SAME_TIME_S or not (late or self._next_n <= self.steps.here):
            return False  # after nearly all steps
        served = False
        while (given := self._read_ahead().head) is not None and self._is_due(given, late):
            self._ahead.pop()
            served, late = True, False
            if given.kind == "input" and not given.data.keys().isdisjoint(_ENTERS):
                self._entering.enter(given)
            elif "pushed" in given.data:
                self._answer(given)
            else:
                self.loop.run_first(partial(self._answer, given))
        self._look()
        return served

    def _look(self) -> None:
        """Look at what comes next, and wake at its time."""
        now = self.loop.time()
        head = self._read_ahead().head
        if head is None:
            self._next_t = math.inf
            if not self._over_at:
                self._over_at = self._script.last_t + self._rest_s
                self.loop.call_at(self._over_at, self._over)
            return
        self._next_t, self._next_n = head.t, -1 if head.n is None else head.n
        if head.t > now and head.t != self._timed:
            if self._timer is not None:
                self._timer.cancel()
            self._timed = head.t
            self._timer = self.loop.call_first_at(head.t, _nothing)

    def _read_ahead(self) -> Ahead:
        """Return what comes within the next seconds."""
        now = self.loop.time()
        if self._ahead.until < now + ENOUGH_S:
            self._ahead.read(now)
        return self._ahead

    def _serve_late(self) -> bool:
        """Let in what is due although the session does not make the steps that it made before it."""
        return self._serve(late=True)

    def _is_due(self, given: Given, late: bool) -> bool:
        if given.t > self.loop.time() + SAME_TIME_S:
            return False
        return late or given.n is None or given.n <= self.steps.here

    @property
    def _rest_s(self) -> float:
        """Seconds from the last thing that entered to the end of the replay."""
        script = self._script
        return max(0.0, script.began + script.until - script.last_t) + (AFTER_S if script.ended else 0.001)

    def _over(self) -> None:
        if self._session.host.life.running:
            if self._script.ended:
                self.diverge("the recorded call was over here; the replay goes on, and is ended")
            with as_code_of(self):
                self._session.cancel("the recording ends here")

    def _answer(self, given: Given) -> None:
        if given.kind == "input":
            if "found" in given.data:
                self._found[given.name] = given.data["found"]
            return
        channel = self._channel(given.name, given.number)
        wire = self._wires.get((given.name, given.number))
        if "asked" in given.data:
            channel.asked_t = given.t
        elif wire is not None and not channel.late_s:
            wire.deliver(given)
        elif wire is not None:
            self.loop.call_at(given.t + channel.late_s, wire.deliver, given)
        else:
            channel.deliver(given)

    def _channel(self, name: str, number: int) -> Channel:
        key = name, number
        if key not in self._channels:
            self._channels[key] = Channel(self, name, number)
        return self._channels[key]

    # -- looking ahead ---------------------------------------------------------------------------------------------

    def due_now(self, channel: Channel, what: str, value: Any) -> Given | None:
        """Return and take an answer of a channel that the session gets in this step, None for none."""
        now = self.loop.time() + SAME_TIME_S
        for given in self._read_ahead():
            if given.t > now:
                return None
            if given.data.get(what) == value and (given.name, given.number) == (channel.name, channel.number):
                self._ahead.remove(given)
                return given
        return None

    def comes(self, channel: Channel, what: str, value: Any) -> bool:
        """Return True if this is among the next records of a channel."""
        return any(
            given.data.get(what) == value and (given.name, given.number) == (channel.name, channel.number)
            for given in self._read_ahead()
        )

    def comes_to(self, channel: Channel) -> bool:
        """Return True if something more comes to a channel within the next seconds."""
        return any((given.name, given.number) == (channel.name, channel.number) for given in self._read_ahead())

    # -- the boundary ----------------------------------------------------------------------------------------------

    def enter(self, name: str, values: tuple[Any, ...], run: Callable[[], T], **named: Any) -> T:
        """Ignore what comes from outside: what enters is in the file."""
        return self._entering.outside(run)

    def observed(self, name: str, look: Callable[[], T]) -> T:
        """Return what the recorded call found outside."""
        now = self.loop.time() + SAME_TIME_S
        for given in self._read_ahead():
            state = name.startswith(STATE)
            if state and (given.t > now or (given.n or 0) > self.steps.here):
                break
            if given.name == name and "found" in given.data:
                self._ahead.remove(given)
                self._found[name] = given.data["found"]
                break
        if name not in self._found:
            with as_code_of(None):
                self._found[name] = look()
        found: T = self._found[name]
        return found

    async def answer(self, kind: str, name: str, ask: Callable[[], Awaitable[Any]], about: Any = None) -> Any:
        """Return the answer of the recorded call, or raise its error.

        A hook that is asked something else than in the recorded call answers itself. A tool never runs.
        """
        channel = self._ask(name, mark_of(about), live=kind == "hook")
        if channel is None and kind == "hook":
            with as_code_of(None):
                return await ask()
        if channel is None:
            raise NotRecorded(f"the recorded call has no answer of this: {name}")
        given = await channel.outcome()
        if "error" in given.data:
            raise error_of(given.data["error"])
        return value_of(given.data.get("answer"))

    async def dial(self, name: str, dial: Callable[[], Awaitable[Any]]) -> Any:
        """Return a wire that gives what came on the recorded connection."""
        if self._live:
            with as_code_of(None):
                return await dial()
        channel, _ = await self._reached(name, "connection of")
        wire = self._wires[name, channel.number] = ReplayedWire(channel)
        return wire

    async def head(self, name: str, send: Callable[[], Awaitable[AnswerHead]]) -> AnswerHead:
        """Return the recorded answer to a request over HTTP."""
        if self._live:
            with as_code_of(None):
                return await send()
        return ReplayedHead(*await self._reached(name, "request"))

    async def _reached(self, name: str, what: str) -> tuple[Channel, Given]:
        """Return the recorded connection or request, and its outcome. Raises the error with which it was refused."""
        channel = self._ask(name)
        if channel is None:
            raise ConnectionLost(f"the recorded call has no further {what} {name}", fatal=True)
        given = await channel.outcome()
        if "refused" in given.data:
            raise error_of(given.data["refused"])
        return channel, given

    def _ask(self, name: str, about: str = "", *, live: bool = False) -> Channel | None:
        """Return the answers to a question, None if the recorded call has none to it."""
        asked = self._script.asked.get(name, [])
        left = [number for number in range(1, len(asked) + 1) if number not in self._asked[name]]
        same = [number for number in left if asked[number - 1] == about]
        if not same and live:
            return None
        if not same and not left:
            self.diverge(f"{name} is asked for what the recorded call has no answer to")
            return None
        if not same:
            self.diverge(f"{name} is asked for something else, and answers as in the recorded call")
        number = (same or left)[0]
        self._asked[name].add(number)
        channel = self._channel(name, number)
        channel.ask()
        return channel


def _nothing() -> None:
    pass
