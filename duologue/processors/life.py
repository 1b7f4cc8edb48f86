"""`IdlePrompts`: asks a silent caller whether they are still there. `CallLimit`: the longest time of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import anyio

from ..errors import ConfigurationError
from ..frames import (
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallerStartedSpeaking,
    Dtmf,
    EndOfTurn,
    Interrupted,
    Respond,
    Say,
    SessionEnding,
    SessionStarted,
    SpeechStarted,
    UserTranscript,
)
from ..session.item import Item
from .processor import Processor, handles

OWED_S = 8.0
"""Seconds after the end of the caller's turn within which an answer to it may begin, behind transcripts and hooks."""
TURN_S = 4.0
"""Seconds within which the answer to a caller who is muted in mid-speech has begun."""
LOOK_S = 0.1
"""Seconds between two looks for a moment in which nobody speaks."""

Stage = Literal["", "prompt", "farewell"]
"""The text in progress, from its request until it was heard or interrupted."""


class _TurnFollower(Processor):
    """Follows the caller's turns. The frames of the processors that find them pass unchanged."""

    def __init__(self) -> None:
        self._in_turn = False
        self._owed: tuple[float, int] | None = None  # session time of the end of the caller's turn, turn of the agent

    @handles(SpeechStarted)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """Note that the caller's turn has begun."""
        self._in_turn = True
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Wait for the answer, if one follows."""
        self._in_turn, self._owed = False, (self.session.now(), self.session.floor.turn)
        await self.push(frame)

    @property
    def _quiet(self) -> bool:
        """True if neither side speaks or works, and no answer is owed."""
        floor = self.session.floor
        if floor.owner == "agent" or floor.caller_speaking or self._in_turn:
            return False
        at, turn = self._owed or (-OWED_S, 0)
        return floor.turn > turn or self.session.now() - at >= OWED_S


class IdlePrompts(_TurnFollower):
    """Asks a caller who says nothing whether they are still there, and ends the call if they stay silent.

    IdlePrompts("Are you still there?", "Hello?", after_s=10, farewell="I will hang up now. Goodbye.")

    A silence of `after_s` seconds, of both sides, brings the first text, another one the next. With `instructions` the
    model words the prompts. After `times` prompts, by default one for each text, a further silence ends the call with
    the reason "idle": after the `farewell`, if there is one, or at once. With `ends=False` the call goes on in silence.

    The silence counts from the start of the call, or from the last sign of life of either side. It does not count while
    an answer is owed, a tool runs, the agent's speech is on hold or the caller is muted. A caller who speaks before a
    prompt is heard prevents it; after that any words interrupt it, even a "yes". The count begins anew with words,
    typed text and keys of the caller, and with any other speech of the agent. Put it behind the processors that take
    turns; it works with every engine. Raises ConfigurationError for a setting out of range.
    """

    def __init__(
        self,
        *texts: str,
        instructions: str = "",
        after_s: float = 10.0,
        times: int | None = None,
        farewell: str = "",
        ends: bool = True,
    ) -> None:
        super().__init__()
        for text in texts:
            if not isinstance(text, str):
                raise ConfigurationError(f'a prompt is a text, not {text!r}: IdlePrompts("…", "…")')
        times = (len(texts) or 2) if times is None else times
        if not 1 <= after_s <= 3600:
            raise ConfigurationError(f"after_s is {after_s!r}: it lies between 1 and 3600")
        if not 0 <= times <= 100:
            raise ConfigurationError(f"times is {times!r}: it lies between 0 and 100")
        if times and bool(texts) == bool(instructions):
            raise ConfigurationError("give either the texts of the prompts or the instructions for them")
        if farewell and not ends:
            raise ConfigurationError("a farewell needs ends=True")
        self._texts, self._instructions, self._farewell = texts, instructions, farewell
        self._after_s, self._times, self._ends = after_s, times, ends
        self._asked = 0  # prompts since the caller's last sign of life
        self._stage: Stage = ""
        self._timer: asyncio.TimerHandle | None = None
        self._stops: tuple[Callable[[], None], ...] = ()  # a call that fails to start ends without a beginning

    @handles(SessionStarted)
    def begin(self, signal: SessionStarted) -> None:
        """Begin to measure the silence."""
        self._stops = (
            self.session.floor.on_life(self._restart),
            self.session.conversation.listen(self._logged),
        )
        self._restart()

    @handles(SessionEnding)
    def stop(self, signal: SessionEnding) -> None:
        """Ask nothing any more."""
        for stop in self._stops:
            stop()
        self._stop_timer()

    def _restart(self) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._passed)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- signs of life -----------------------------------------------------------------------------------------------

    @handles(CallerStartedSpeaking)
    def caller_started(self, signal: CallerStartedSpeaking) -> None:
        """Take a prompt back that is not heard yet."""
        if self._stage and not self.session.floor.agent_speaking:
            self.session.interrupt("the caller is there")

    @handles(UserTranscript, upstream=True)
    async def words(self, frame: UserTranscript) -> None:
        """Break a prompt off at the first words: a "yes" is the answer to it, and no backchannel."""
        if self._stage and frame.text.strip():
            self.session.interrupt("the caller is there")
        await self.push_up(frame)

    @handles(Dtmf)
    async def key(self, frame: Dtmf) -> None:
        """Take a key as a sign of the caller."""
        self._caller_is_there()
        await self.push(frame)

    def _logged(self, item: Item) -> None:
        if item.role == "caller" and item.kind == "message" and not item.author and (item.text or item.name):
            self._caller_is_there()

    def _caller_is_there(self) -> None:
        self._asked = 0
        self._restart()

    @handles(BotStartedSpeaking)
    def agent_started(self, signal: BotStartedSpeaking) -> None:
        """Begin the count anew unless it is a prompt."""
        if not self._stage:
            self._asked = 0

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Forget the prompt: the caller, or the application, has interrupted it."""
        self._stage = ""

    @handles(BotStoppedSpeaking)
    async def agent_stopped(self, signal: BotStoppedSpeaking) -> None:
        """Note that the prompt was heard. End the call after the farewell."""
        if self._stage == "prompt":
            self._stage = ""
        while self._stage == "farewell":
            if self._quiet:
                await self.session.end("idle")
                return
            await anyio.sleep(LOOK_S)

    # -- silence -----------------------------------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        """True if the caller can be heard and waits for nothing."""
        session = self.session
        if session.floor.held or session.draining or session.audio.access != "active":
            return False
        return self._quiet and not (session.calls.open() or session.calls.late())

    def _passed(self) -> None:
        self._restart()
        if self._silent:
            self._stage = ""
            self.spawn(self._go_on)

    async def _go_on(self) -> None:
        """Ask, take leave, or end the call."""
        asked, self._asked = self._asked, self._asked + 1
        if asked < self._times:
            self._stage = "prompt"
            await self.session.send(
                Respond(instructions=self._instructions)
                if self._instructions
                else Say(text=self._texts[min(asked, len(self._texts) - 1)])
            )
        elif not self._ends:
            self._asked = asked
        elif asked == self._times and self._farewell:
            self._stage = "farewell"
            await self.session.send(Say(text=self._farewell))
        else:
            await self.session.end("idle")


class CallLimit(_TurnFollower):
    """Ends the call with the reason "cap" after `max_s` seconds, with a farewell.

    From then on it waits for a moment in which nobody speaks and no answer is owed, at most `grace_s` seconds. Then the
    caller is muted, what the agent still does is interrupted, and the agent says the `farewell`, which is heard to its
    end. Put it behind the processors that take turns; it works with every engine. Raises ConfigurationError for a
    setting out of range.
    """

    def __init__(self, max_s: float, *, farewell: str = "", grace_s: float = 10.0) -> None:
        super().__init__()
        if not 1 <= max_s <= 86_400:
            raise ConfigurationError(f"max_s is {max_s!r}: it lies between 1 and 86400")
        if not 0 <= grace_s <= 300:
            raise ConfigurationError(f"grace_s is {grace_s!r}: it lies between 0 and 300")
        self._max_s, self._grace_s, self._farewell = max_s, grace_s, farewell

    @handles(SessionStarted)
    def begin(self, signal: SessionStarted) -> None:
        """Begin to measure the call."""
        self.spawn(self._limit)

    async def _limit(self) -> None:
        session, floor = self.session, self.session.floor
        await anyio.sleep(self._max_s - session.now())
        with anyio.move_on_after(self._grace_s):
            while not self._quiet:
                await anyio.sleep(LOOK_S)
        if session.draining:
            return
        if session.audio.access == "active":
            session.set_access("muted", by=self.name)
        with anyio.move_on_after(TURN_S):  # the muted caller's turn ends, and its answer begins
            while not (self._quiet or floor.owner == "agent"):
                await anyio.sleep(LOOK_S)
        if floor.owner == "agent":
            session.interrupt("cap")
        if self._farewell:
            await session.send(Say(text=self._farewell, protected=True))
        await session.end("cap")
