"""`PushToTalk`: the caller says when their turn begins and ends."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ConfigurationError, IllegalState
from ...frames import End, EndOfTurn, Frame, SpeechStarted, SpeechStopped, UserAudio
from ...session.interrupting import may_interrupt
from ..processor import Processor, handles
from .vad import INPUT_MISSING, split


class PushToTalk(Processor):
    """Takes the caller's turn from `start_turn` to `end_turn`. Other audio is dropped.

    It replaces `Vad` and `Endpointing`. `start_turn` interrupts the agent, unless its speech is protected. A turn that
    lasts `max_turn_s` is ended (by="limit"), and the next turn begins at the same sample. Raises ConfigurationError for
    a limit out of range.
    """

    gives = frozenset[type[Frame]]((SpeechStarted, EndOfTurn))
    judges_speech = True
    needs: Mapping[type[Frame], str] = {UserAudio: INPUT_MISSING}

    def __init__(self, *, max_turn_s: float = 60.0) -> None:
        if not 1 <= max_turn_s <= 3600:
            raise ConfigurationError(f"max_turn_s is {max_turn_s!r}: it lies between 1 and 3600")
        self._max_turn_s = max_turn_s
        self._talking = False
        self._said_s = 0.0

    async def start_turn(self) -> None:
        """Begin the caller's turn: they press the button. Raises IllegalState if it is down already."""
        if self._talking:
            raise IllegalState("the caller's turn has started already: end_turn() comes first")
        self._talking = True
        self.session.floor.caller_speaks(True, self.session.now())
        if may_interrupt(self.session):
            self.session.interrupt("push-to-talk")
        await self._begin()

    async def end_turn(self) -> None:
        """End the caller's turn: they release the button. Raises IllegalState if it is not down."""
        if not self._talking:
            raise IllegalState("the caller's turn has not started: start_turn() comes first")
        self._talking = False
        self.session.floor.caller_speaks(False, self.session.now())
        await self._finish("manual")

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass on the audio of a turn."""
        while self._talking:
            samples = round((self._max_turn_s - self._said_s) * frame.sample_rate)
            if samples >= len(frame.audio) // (2 * frame.channels):
                self._said_s += frame.duration_s
                await self.push(frame)
                return
            head, frame = split(frame, samples)
            await self.push(head)
            await self._finish("limit")
            await self._begin()

    @handles(End)
    async def end(self, frame: End) -> None:
        """End the turn with the call."""
        if self._talking:
            self._talking = False
            self.session.floor.caller_speaks(False, self.session.now())
            await self._finish("end")

    async def _begin(self) -> None:
        self._said_s = 0.0
        await self.push(SpeechStarted(at=self.session.now()))

    async def _finish(self, by: str) -> None:
        at = self.session.now()
        await self.push(SpeechStopped(at=at))
        await self.push(EndOfTurn(at=at, by=by))
