"""`TurnHoldingSTT`: speech-to-text of a vendor that decides itself when the caller's turn begins and is over."""

from __future__ import annotations

import anyio

from ...audio.convert import MonoAt
from ...errors import DeadlineExceeded
from ...frames import EndOfTurn, Input, SpeechStarted, SpeechStopped, Usage, UserAudio, UserTranscript
from ...processors.processor import handles
from ...processors.turns.interruption import may_interrupt
from .connection import Connection, ConnectionSettings
from .dialect import Event
from .stt import RemoteSTT, SpokenAudio, STTDialect

BETWEEN_TURNS_S = 2.0
"""Seconds of audio between turns that a new connection receives: the vendor may tell late that a turn has begun."""


class TurnBegan(Event, frozen=True, kw_only=True):
    """The vendor hears the caller begin a turn, `at_s` seconds into the connection's audio; None for now."""

    at_s: float | None = None


class TurnEnded(Event, frozen=True, kw_only=True):
    """The caller's turn is over; its text has come as `Recognized`. An `eager` end may still be taken back."""

    at_s: float | None = None
    eager: bool = False


class TurnHoldingSTT(RemoteSTT):
    """Speech-to-text whose vendor tells `TurnBegan` and `TurnEnded`, and receives all audio, without gaps.

    Stands in the place of `Vad` and `Endpointing`: it interrupts the agent when a turn begins, and pushes
    `SpeechStarted` and `EndOfTurn` (by="server"). With detectors before it, their ends of turns stay here. A turn that
    lasts `max_utterance_s` is ended by `STTDialect.finish`; one that the vendor does not end within `timeout_s` after
    that ends with the text that has come. An eager end is shown as an interim text.
    """

    def __init__(self, *, connection: ConnectionSettings | None = None) -> None:
        super().__init__(connection=connection)
        self._stream_at = 0.0  # session time at the end of the audio that was sent
        self._in_turn = False
        self._turns = 0

    async def open(self) -> None:
        """Connect, and listen."""
        self._spoken = self._between_turns()
        await super().open()

    def _between_turns(self) -> SpokenAudio:
        spoken = SpokenAudio(int(BETWEEN_TURNS_S * self.sample_rate) * 2)
        spoken.begun = self._spoken is not None and self._spoken.begun  # once for a connection
        return spoken

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserAudio, queued=True)
    async def audio(self, frame: UserAudio) -> None:
        """Send the audio, and pass it on."""
        await self._stream(frame)
        if self._in_turn and self._fed_s >= self.max_utterance_s:
            self._fed_s = 0.0
            self.spawn(self._force_end, self._turns)
        await self.push(frame)

    async def _stream(self, frame: UserAudio) -> None:
        if self._mono is None:
            self._mono = MonoAt(self.sample_rate)
        self._stream_at = frame.at + frame.duration_s
        if self._in_turn:
            self._fed_s += frame.duration_s
            self._utterance.append(frame)
        elif frame.audio:
            self._keep(frame)
        pcm = self._mono.process(frame.audio, frame.sample_rate, frame.channels)
        if pcm and self._spoken is not None:
            await self.feed(pcm)

    async def _relive(self, frame: Input) -> None:
        # Speech that another engine has released: the vendor finds the turns in its audio.
        if isinstance(frame, UserAudio):
            await self._stream(frame)

    @handles(SpeechStarted, queued=True)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """A detector's, which does not count here."""

    @handles(SpeechStopped, queued=True)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """A detector's, which does not count here."""

    @handles(EndOfTurn, queued=True)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """A detector's, which does not count here."""

    # -- the vendor ------------------------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Take a turn's beginning, its text and its end."""
        if isinstance(event, TurnBegan):
            await self._turn_began(self._session_time(event.at_s))
        elif isinstance(event, TurnEnded):
            if not event.eager:
                await self._turn_ended(self._session_time(event.at_s))
        else:
            await super().on_event(event)

    def _session_time(self, at_s: float | None) -> float:
        return self._stream_at if at_s is None else self._stream_at - (self._sent_s - at_s)

    async def _turn_began(self, at: float) -> None:
        if self._spoken is None:
            return
        self._spoken.began_s = self._sent_s - (self._stream_at - at)
        if self._in_turn:
            return  # on a new connection, which hears the turn once more
        self._in_turn, self._turns = True, self._turns + 1
        self._utterance_id = self.session.conversation.new_id()
        started = SpeechStarted(at=at, utterance=self._utterance_id)
        self._utterance = [*self._recent, started]
        self._recent.clear()
        self._recent_s = 0.0
        self._listening, self._started_at, self._fed_s = True, at, 0.0
        self._spoken.keep(int(self.connection_settings.ring_s * self.sample_rate) * 2)
        self.session.floor.caller_speaks(True, at)
        if may_interrupt(self.session):
            self.session.interrupt()
        await self.push(started)

    async def _turn_ended(self, at: float) -> None:
        spoken = self._spoken
        if not self._in_turn or spoken is None:
            return
        said = self._transcription(spoken)
        self._in_turn = self._listening = False
        self._interim = ""
        self._spoken = self._between_turns()
        self._spoken.began_s = self._sent_s
        self.session.floor.caller_speaks(False, at)
        self.broadcast(Usage(service=self.name, model=self.model, input_audio_s=self._fed_s))
        transcript = UserTranscript(
            text=said.text,
            start_s=self._started_at,
            end_s=at,
            confidence=said.confidence,
            language=said.language,
            words=said.words,
            utterance=self._utterance_id,
        )
        end = EndOfTurn(at=at, by="server")
        self._utterance.append(end)
        # In the lane, because a hook may be slow and the vendor's reader must not wait.
        assert self._lane is not None
        self._lane.put_all(self._let_out, [SpeechStopped(at=at), transcript, end], up=False)

    async def _let_out(self, frame: SpeechStopped | UserTranscript | EndOfTurn) -> None:
        if isinstance(frame, UserTranscript):
            await self._tell(frame)
        elif not self._released:
            if isinstance(frame, EndOfTurn) and not self._in_turn:
                self._utterance.clear()
            await self.push(frame)

    async def _force_end(self, turn: int) -> None:
        """The turn is too long: ask the vendor to end it, and end it without the vendor if that does not help."""
        if self.connection is not None:
            self.connection.send(self.connection.dialect.finish())
        await anyio.sleep(self.timeout_s)
        if self._in_turn and self._turns == turn:
            self.report(DeadlineExceeded(f"the vendor did not end a turn of {self.max_utterance_s:g} s"))
            await self._turn_ended(self._stream_at)

    def attached(self, connection: Connection[STTDialect]) -> None:
        """Send the turn in progress from before its start, or the latest audio."""
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
