"""`TurnHoldingSTT`: speech-to-text of a vendor that finds the caller's turns itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf

import anyio
import msgspec

from ...errors import DeadlineExceeded
from ...frames import (
    EagerEndOfTurn,
    EndOfTurn,
    Input,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    Usage,
    UserAudio,
    UserTranscript,
)
from ...processors.processor import handles
from ...session.interrupting import may_interrupt
from .connection import Connection, ConnectionSettings
from .dialect import Event
from .stt import RemoteSTT, SpokenAudio, STTDialect

BETWEEN_TURNS_S = 2.0
"""Seconds of audio between turns that a new connection receives, because vendors report the start of a turn late."""


class TurnBegan(Event, frozen=True, kw_only=True):
    """The caller's turn began `at_s` seconds into the connection's audio, or now if `at_s` is None."""

    at_s: float | None = None


class TurnEnded(Event, frozen=True, kw_only=True):
    """The caller's turn is over; its text has come as `Recognized`. The vendor may take back an `eager` end."""

    at_s: float | None = None
    eager: bool = False
    confidence: float = 1.0
    """The probability that the turn has ended, from 0 to 1; 1 if the vendor does not give it."""


class TurnWentOn(Event, frozen=True, kw_only=True):
    """The caller goes on after an eager end."""


class DetectedSpeech:
    """Speech that a detector has found and the vendor has not: another engine gets it, at most `ring_s` seconds."""

    def __init__(self, ring_s: float) -> None:
        self.open = False
        """True while a turn of the detector is in progress."""
        self._ring_s = ring_s
        self._frames: deque[UserAudio | SpeechStarted | EndOfTurn] = deque()
        self._audio_s = 0.0
        self._ended = EndOfTurn(at=-1.0)

    def begins(self, frame: SpeechStarted, before: Sequence[UserAudio], *, in_turn: bool) -> None:
        """The detector has found speech. `before` is the audio from before it, `in_turn` True in a vendor's turn."""
        if not self.open and not in_turn:
            for audio in before:
                self._keep(audio)
            self._frames.append(frame)
        self.open = True

    def hear(self, frame: UserAudio) -> None:
        """Keep audio of a turn."""
        if self.open:
            self._keep(frame)

    def _keep(self, frame: UserAudio) -> None:
        self._frames.append(frame)
        self._audio_s += frame.duration_s
        while self._audio_s > self._ring_s:
            oldest = self._frames.popleft()
            self._audio_s -= oldest.duration_s if isinstance(oldest, UserAudio) else 0.0

    def ends(self, frame: EndOfTurn) -> None:
        """End the turn."""
        self.open, self._ended = False, frame
        if self._frames:
            self._frames.append(frame)

    def end(self, began_at: float, now: float) -> EndOfTurn:
        """Return the end of a vendor's turn as the detector has found it, or one of now."""
        return self._ended if self._ended.at > began_at else EndOfTurn(at=now)

    def clear(self) -> None:
        """Forget the speech: the vendor has found it."""
        self._frames.clear()
        self._audio_s = 0.0

    def take(self, latest: Sequence[Input]) -> tuple[Input, ...]:
        """Return the speech, and the `latest` audio behind it. Forget it here."""
        frames = tuple(self._frames)
        self.clear()
        if not frames:
            return tuple(latest)
        first = next((frame for frame in frames if not isinstance(frame, UserAudio)), None)
        begin = () if isinstance(first, SpeechStarted) else (SpeechStarted(at=frames[0].at),)
        later = [frame for frame in latest if isinstance(frame, UserAudio) and frame.at >= frames[-1].at]
        return (*begin, *frames, *(() if self.open else later))


class TurnHoldingSTT(RemoteSTT):
    """Speech-to-text whose vendor reports `TurnBegan` and `TurnEnded`, and receives all audio without gaps.

    Replaces `Vad` and `Endpointing`: it interrupts the agent when a turn begins, and pushes `SpeechStarted` and
    `EndOfTurn` (by="server"). It drops the turns of detectors before it, which the next engine gets with speech that
    has no transcript. After `max_utterance_s` seconds
    `STTDialect.finish` ends a turn; if the vendor does not end it within `timeout_s` more, it ends with the text that
    has come, and the connection is replaced. An eager end becomes an `EagerEndOfTurn`.
    """

    gives = frozenset({UserTranscript, SpeechStarted, EndOfTurn})
    billing = "clock"  # all audio is sent
    ends_within_s: float = inf
    """Seconds without new text after which a turn is ended as well, because the vendor should have ended it."""

    def __init__(self, *, connection: ConnectionSettings | None = None) -> None:
        super().__init__(connection=connection)
        self._stream_at = 0.0  # session time at the end of the audio that was sent
        self._in_turn = False
        self._turns = 0
        self._eager: str | None = None  # the text of an eager end of the turn in progress
        self._eager_told = False  # it was pushed
        self._detected = DetectedSpeech(self.connection_settings.ring_s)
        self._text = ""  # of the turn in progress, and the loop time since which it is the same
        self._same_since = 0.0

    async def open(self) -> None:
        """Connect, and begin to send audio."""
        self._spoken = self._between_turns()
        self._detected = DetectedSpeech(self.connection_settings.ring_s)
        await super().open()

    def _between_turns(self) -> SpokenAudio:
        spoken = SpokenAudio(int(BETWEEN_TURNS_S * self.sample_rate) * 2)
        spoken.begun = self._spoken is not None and self._spoken.begun  # `begin` is sent once per connection
        return spoken

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserAudio, queued=True)
    async def audio(self, frame: UserAudio) -> None:
        """Send the audio, and pass it on."""
        await self._stream(frame)
        if self._in_turn and self._is_overdue():
            self.spawn(self._force_end, self._turns)
        await self.push(frame)

    def _is_overdue(self) -> bool:
        if self._speech.fed_s >= self.max_utterance_s:
            self._speech.fed_s = 0.0
            return True
        if self.ends_within_s < inf and asyncio.get_running_loop().time() - self._same_since >= self.ends_within_s:
            self._same_since = inf
            return True
        return False

    async def _stream(self, frame: UserAudio) -> None:
        self._stream_at = frame.at + frame.duration_s
        if self._in_turn:
            self._speech.frames.append(frame)
        elif frame.audio:
            self._speech.keep(frame)
        if not self._in_turn:
            self._detected.hear(frame)
        pcm = self._speech.converted(frame)
        if pcm and self._spoken is not None:
            await self.feed(pcm)

    async def _relive(self, frame: Input) -> None:
        # Speech that another engine has released: the vendor finds the turns in its audio itself.
        if isinstance(frame, UserAudio):
            await self._stream(frame)

    @handles(SpeechStarted, queued=True)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """Keep a detector's report for another engine: the vendor's turns count here."""
        self._detected.begins(frame, self._speech.recent, in_turn=self._in_turn)

    @handles(SpeechStopped, queued=True)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Ignore a detector's report: the vendor's turns count."""

    @handles(EndOfTurn, queued=True)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Keep a detector's report for another engine: the vendor's turns count here."""
        self._detected.ends(frame)

    def release(self) -> tuple[Input, ...]:
        """Return the speech without a transcript, with the turns of a detector where the vendor has found none."""
        detected, speech = self._detected, super().release()
        if self._in_turn:
            return speech if detected.open else (*speech, detected.end(self._speech.began_at, self._stream_at))
        return detected.take(speech)

    @handles(EagerEndOfTurn, queued=True)
    async def may_have_ended(self, frame: EagerEndOfTurn) -> None:
        """Ignore a detector's report: the vendor's turns count."""

    @handles(TurnResumed, queued=True)
    async def resumed(self, frame: TurnResumed) -> None:
        """Ignore a detector's report: the vendor's turns count."""

    # -- the vendor ------------------------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Act on the beginning, the text or the end of a turn."""
        if isinstance(event, TurnBegan):
            await self._turn_began(self._session_time(event.at_s))
        elif isinstance(event, TurnEnded):
            at = self._session_time(event.at_s)
            if event.eager:
                self._may_have_ended(at, event.confidence)
            else:
                await self._turn_ended(at)
        elif isinstance(event, TurnWentOn):
            self._went_on()
        else:
            await super().on_event(event)
            if self._spoken is not None and self._spoken.text != self._text:
                self._text, self._same_since = self._spoken.text, asyncio.get_running_loop().time()

    def _session_time(self, at_s: float | None) -> float:
        return self._stream_at if at_s is None else self._stream_at - (self._sent_s - at_s)

    async def _turn_began(self, at: float) -> None:
        if self._spoken is None:
            return
        self._spoken.began_s = self._sent_s - (self._stream_at - at)
        if self._in_turn:
            return  # a new connection reports the same turn again
        self._in_turn, self._turns, self._eager = True, self._turns + 1, None
        self._text, self._same_since = "", asyncio.get_running_loop().time()
        self._spoken.segments.clear()  # of a turn that ended without them
        self._spoken.interim = ""
        self._detected.clear()
        started = SpeechStarted(at=at, utterance=self.session.conversation.new_id())
        self._speech.begin(started)
        self._listening = True
        self._spoken.keep(int(self.connection_settings.ring_s * self.sample_rate) * 2)
        self.session.floor.caller_speaks(True, at)
        if may_interrupt(self.session):
            self.session.interrupt()
        await self.push(started)

    def _may_have_ended(self, at: float, confidence: float) -> None:
        if not self._in_turn or self._spoken is None or self._spoken.text in (self._eager, ""):
            return
        self._went_on()
        self._eager = self._spoken.text
        utterance = self._speech.utterance
        self._put([EagerEndOfTurn(at=at, text=self._eager, utterance=utterance, confidence=confidence)])

    def _went_on(self) -> None:
        if self._in_turn and self._eager is not None:
            self._eager = None
            self._put([TurnResumed(at=self._stream_at, utterance=self._speech.utterance)])

    async def _turn_ended(self, at: float, *, told: bool = True) -> None:
        """End the turn. `told` is False if the vendor has not told its end: its text may not be complete."""
        spoken = self._spoken
        if not self._in_turn or spoken is None:
            return
        said = self._transcription(spoken, complete=told)
        self._in_turn = self._listening = False
        self._detected.clear()
        self._interim = ""
        self._spoken = self._between_turns()
        self._spoken.began_s = self._sent_s
        self.session.floor.caller_speaks(False, at)
        self._transcribing.metering.report(Usage(service=self.name, model=self.model, input_audio_s=self._speech.fed_s))
        transcript = UserTranscript(
            text=said.text,
            start_s=self._speech.began_at,
            end_s=at,
            confidence=said.confidence,
            language=said.language,
            words=said.words,
            utterance=self._speech.utterance,
        )
        end = EndOfTurn(at=at, by="server")
        self._speech.frames.append(end)
        self._put([SpeechStopped(at=at), transcript, end])

    def _put(self, frames: list[Input]) -> None:
        # In the lane, because the vendor's reader must not wait for a slow hook.
        assert self._lane is not None
        self._lane.put_all(self._let_out, frames, up=False)

    async def _let_out(self, frame: Input) -> None:
        if isinstance(frame, UserTranscript):
            await self._tell(frame)
        elif isinstance(frame, EagerEndOfTurn):
            await self._let_out_eager(frame)
        elif isinstance(frame, TurnResumed) and not self._eager_told:
            pass  # it was taken back before it was pushed
        elif not self._speech.released:
            if isinstance(frame, EndOfTurn) and not self._in_turn:
                self._speech.clear()
            self._eager_told = False
            await self.push(frame)

    async def _let_out_eager(self, frame: EagerEndOfTurn) -> None:
        """Push an eager end with its text as the hooks return it, which is how the final text comes."""
        interim = UserTranscript(text=frame.text, final=False, utterance=frame.utterance)
        told = await self.session.hooks.transcript(interim)
        if told is not None and self._eager == frame.text and not self._speech.released:
            self._eager_told = True
            await self.push(msgspec.structs.replace(frame, text=told.text))

    async def _force_end(self, turn: int) -> None:
        """End a turn that is too long: ask the vendor to end it, and end it here if the vendor does not."""
        if self.connection is not None:
            self.connection.send(self.connection.dialect.finish())
        await anyio.sleep(self.timeout_s)
        if self._in_turn and self._turns == turn:
            self.report(DeadlineExceeded(f"the vendor did not end a turn within {self.timeout_s:g} s when asked"))
            await self._turn_ended(self._stream_at, told=False)
            if self.connection is not None:
                self.connection.lose("a turn was not ended")

    def attached(self, connection: Connection[STTDialect]) -> None:
        """Send the turn in progress with its pre-roll, or between turns the latest audio."""
        if self._spoken is not None and not self._in_turn:
            self._spoken.dropped = 0
        super().attached(connection)

    # -- for the keeper --------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Return True between turns."""
        return not self._in_turn

    def was_quiet(self, age_s: float) -> bool:
        """Return True between turns."""
        return not self._in_turn
