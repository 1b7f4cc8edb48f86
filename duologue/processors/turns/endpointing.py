"""`Endpointing` and `PushToTalk`: decide when the caller's turn is over."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence

import anyio

from ...errors import ConfigurationError, IllegalState
from ...frames import (
    EagerEndOfTurn,
    End,
    EndOfTurn,
    Frame,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    UserAudio,
    UserTranscript,
)
from ..kernel.node import Node
from ..processor import Processor, handles
from .interruption import may_interrupt
from .vad import INPUT_MISSING, STALL_S, StreamTime, split

log = logging.getLogger("duologue")


def check_turns(node: Node, before: Sequence[Node], after: Sequence[Node]) -> None:
    """Check the place of a service that takes the caller's turns from the processors before it.

    Raises ConfigurationError if speech is detected there, but not the ends of turns. If neither is, the service takes
    only typed text: the log has a warning.
    """
    if any(EndOfTurn in other.gives for other in before):
        return
    if any(SpeechStarted in other.gives for other in before):
        raise ConfigurationError(f"{node.name} gets no EndOfTurn frames: put Endpointing before it, behind Vad")
    late = next((other for other in after if EndOfTurn in other.gives), None)
    if late is not None:
        raise ConfigurationError(
            f"{node.name} stands before {late.name}, which gives the caller's turns: put it behind"
        )
    if any(UserAudio in other.gives for other in before):
        log.warning(
            "%s takes only typed text: for speech, put Vad and Endpointing, or PushToTalk, before it", node.name
        )


class Endpointing(Processor):
    """Ends the caller's turn: pushes `EndOfTurn(by="silence")` once `silence_ms` have passed since the last speech.

    Silence is measured in the audio, and `EndOfTurn` has its place among the audio; if the audio stops, the clock
    measures. Speech within that time continues the turn. A turn that lasts `max_turn_s` is ended (by="limit"); if the
    caller speaks on, the next turn starts at the same sample. The `End` also ends the turn (by="end").

    Speech shorter than `min_speech_ms` does not start a turn: its audio passes, its `SpeechStarted` and
    `SpeechStopped` do not. Every `SpeechStarted` that passes is followed by an `EndOfTurn`. Words that are recognised
    outside a turn start a turn. Raises ConfigurationError for a setting out of range.

    With `eager_ms`, a silence of that length becomes an `EagerEndOfTurn`, and speech within the turn after it a
    `TurnResumed`. The speech-to-text adds the text, if it has interim texts; the model begins its answer then.
    """

    gives = frozenset({EndOfTurn})
    needs: Mapping[type[Frame], str] = {SpeechStarted: "put Vad before it"}

    def __init__(
        self, *, silence_ms: int = 600, min_speech_ms: int = 100, max_turn_s: float = 60.0, eager_ms: int = 0
    ) -> None:
        if not 0 < silence_ms <= 60_000:
            raise ConfigurationError(f"silence_ms is {silence_ms!r}: it lies above 0 and up to 60000")
        if not 0 <= min_speech_ms <= 10_000:
            raise ConfigurationError(f"min_speech_ms is {min_speech_ms!r}: it lies between 0 and 10000")
        if not 0 <= eager_ms < silence_ms:
            raise ConfigurationError(f"eager_ms is {eager_ms!r}: it lies between 0, for never, and below silence_ms")
        _check_limit(max_turn_s)
        self._silence_s = silence_ms / 1000
        self._eager_s = eager_ms / 1000
        self._min_speech_s = min_speech_ms / 1000
        self._max_turn_s = max_turn_s
        self._time = StreamTime()
        self._open = False
        self._speaking = False
        self._began_at = 0.0
        self._spoke_until = 0.0
        self._ends_at = math.inf  # audio time at which the turn ends, if nothing more is said
        self._due_at = math.inf  # the same, or an earlier time at which its probable end is told
        self._eager = False  # that was told, and the caller has been silent since
        self._ended_at = 0.0  # audio time of the latest EndOfTurn
        self._candidate: SpeechStarted | None = None  # speech that is still too short
        self._voice_start = self._voice_end = -1.0  # session times of the latest speech; none yet
        self._watched = False
        self._arrived_at: float | None = None  # loop time of the latest audio; None while it is being passed on

    async def open(self) -> None:
        """Follow the length of the caller's speech."""
        self._now = asyncio.get_running_loop().time
        self._stop_listening = self.session.floor.on_voice(self._voiced)

    async def close(self) -> None:
        """Stop following it."""
        self._stop_listening()

    def _voiced(self, start_s: float, end_s: float) -> None:
        self._voice_start, self._voice_end = start_s, end_s

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass the audio on, with an `EndOfTurn` at its place in it."""
        self._arrived_at = None
        start = self._time.start_of(frame)
        while self._due_at <= self._time.end_s:
            samples = round((self._due_at - start) * frame.sample_rate)
            if samples >= len(frame.audio) // (2 * frame.channels):
                break
            if samples > 0:
                head, frame = split(frame, samples)
                start += samples / frame.sample_rate
                await self.push(head)
            await self._end_due()
        await self.push(frame)
        if self._candidate is not None or self._due_at <= self._time.end_s + 1e-6:
            await self._settle()
        self._arrived_at = self._now()

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        """Begin or continue a turn."""
        if self._open:
            self._speaking = True
            self._due_at = self._ends_at = self._began_at + self._max_turn_s
            if self._eager:
                self._eager = False
                await self.push(TurnResumed(at=frame.at))
            await self.push(frame)
        elif self._voice_start == frame.at:
            self._candidate = frame
        else:  # the detector does not announce the length of the speech
            await self._begin(frame)
        await self._settle()

    @handles(SpeechStopped)
    async def stopped(self, frame: SpeechStopped) -> None:
        """Begin to measure the silence."""
        if self._candidate is not None:
            candidate, self._candidate = self._candidate, None
            if frame.at - candidate.at < self._min_speech_s - 1e-6:
                return
            await self._begin(candidate)
        if not self._open:
            return
        self._speaking = False
        self._silent_since(frame.at)
        await self.push(frame)
        await self._settle()

    @handles(UserTranscript, upstream=True)
    async def transcript(self, frame: UserTranscript) -> None:
        """Begin a turn for words outside a turn, if they are from after the last one: the detector missed them."""
        # Do not push downstream from here: the transcribing service would wait for itself.
        if not self._open and frame.end_s > self._ended_at and frame.text.strip():
            self._open_at(frame.start_s)
            self._silent_since(frame.end_s)
        await self.push_up(frame)

    @handles(End)
    async def end(self, frame: End) -> None:
        """End the turn with the call."""
        if self._open:
            await self._end_turn("end")

    async def _settle(self) -> None:
        """Begin or end the turn if that is due at the end of the present audio."""
        candidate = self._candidate
        if candidate is not None and self._voice_start == candidate.at and self._is_long_enough():
            self._candidate = None
            await self._begin(candidate)
        while self._due_at <= self._time.end_s + 1e-6:
            await self._end_due()

    def _is_long_enough(self) -> bool:
        return self._voice_end - self._voice_start >= self._min_speech_s - 1e-6

    async def _begin(self, frame: SpeechStarted) -> None:
        self._speaking = True
        self._open_at(frame.at)
        await self.push(frame)

    def _open_at(self, at: float) -> None:
        self._open, self._began_at = True, at
        self._due_at = self._ends_at = at + self._max_turn_s
        if not self._watched:
            self._watched = True
            self.spawn(self._watch)

    def _silent_since(self, at: float) -> None:
        self._spoke_until = at
        self._due_at = self._ends_at = min(at + self._silence_s, self._began_at + self._max_turn_s)
        if self._eager_s:
            self._due_at = min(at + self._eager_s, self._ends_at)

    async def _end_due(self) -> None:
        """End the turn, or tell that it has probably ended."""
        if self._due_at < self._ends_at:
            self._due_at = self._ends_at
            self._eager = True
            await self.push(EagerEndOfTurn(at=self._spoke_until))
            return
        silent = not self._speaking and self._due_at >= self._spoke_until + self._silence_s - 1e-6
        await self._end_turn("silence" if silent else "limit")

    async def _end_turn(self, by: str) -> None:
        """End the turn at `_ends_at` or at the end of the audio, whichever is earlier."""
        place = min(self._ends_at, self._time.end_s)
        speaking, self._speaking = self._speaking, False
        self._open = self._eager = False
        self._due_at = self._ends_at = math.inf
        self._ended_at = place
        if speaking:
            self._spoke_until = place
            await self.push(SpeechStopped(at=place))
        await self.push(EndOfTurn(at=self._spoke_until, by=by))
        if speaking and by == "limit":
            await self._begin(SpeechStarted(at=place))

    async def _watch(self) -> None:
        """End the turn if no more audio comes."""
        while self._open:
            idle = 0.0 if self._arrived_at is None else self._now() - self._arrived_at
            silence = idle if self._speaking else idle + self._time.end_s - self._spoke_until
            wait = max(STALL_S - idle, self._silence_s - silence)
            if wait > 1e-6:
                await anyio.sleep(wait)
            else:
                await self._end_turn("silence")
        self._watched = False


class PushToTalk(Processor):
    """Takes the caller's turn from `start_turn` to `end_turn`. Other audio is dropped.

    It replaces `Vad` and `Endpointing`. `start_turn` interrupts the agent, unless its speech is protected. A turn that
    lasts `max_turn_s` is ended (by="limit"), and the next turn begins at the same sample. Raises ConfigurationError for
    a limit out of range.
    """

    gives = frozenset[type[Frame]]((SpeechStarted, EndOfTurn))
    needs: Mapping[type[Frame], str] = {UserAudio: INPUT_MISSING}

    def __init__(self, *, max_turn_s: float = 60.0) -> None:
        _check_limit(max_turn_s)
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


def _check_limit(max_turn_s: float) -> None:
    if not 1 <= max_turn_s <= 3600:
        raise ConfigurationError(f"max_turn_s is {max_turn_s!r}: it lies between 1 and 3600")
