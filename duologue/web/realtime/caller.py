"""`CallerTurns`: the caller's turns as the client knows them, and their place in its audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...frames import UserAudio, UserTranscript
from ...protocols.openai_realtime.response import ServerItem
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...session.interrupting import may_interrupt
from ...session.session import Session
from .transcripts import TurnTranscripts

SILENCE_MS = 500
"""Milliseconds of silence that end a turn, by default."""


class CallerTurns:
    """Announces the caller's turns and their texts to the client. Shared by the processors of a call."""

    def __init__(self, protocol: RealtimeServerSession) -> None:
        self.protocol = protocol
        self.forget: Callable[[str], None] = lambda log_id: None
        """Removes an item from the log."""
        self.silence_ms: float = SILENCE_MS
        """Milliseconds of silence that end a turn."""
        self.under_way = 0
        """The number of turns whose end has not passed the engine yet."""
        self.waits = False
        """True while a spoken turn waits for the client to ask for its answer."""
        self._ending = False
        self._transcripts = TurnTranscripts(protocol.transcribed, lambda log_id: self.forget(log_id))
        self._passed_ms = 0.0
        self._offset_ms = 0.0  # session time minus position in the client's audio

    @property
    def detection(self) -> dict[str, Any] | None:
        """The client's `turn_detection`, None if the client commits its turns."""
        return self.protocol.turn_detection

    def passed(self, frame: UserAudio) -> None:
        """Count a piece of the client's audio that enters the pipeline."""
        self._offset_ms = frame.at * 1000 - self._passed_ms
        self._passed_ms += frame.duration_s * 1000

    def place_ms(self, at: float) -> float:
        """Return the position of a session time in the client's audio, in milliseconds."""
        return max(0.0, at * 1000 - self._offset_ms)

    # -- turns that are found here ---------------------------------------------------------------------------------

    def speech_started(self, session: Session, at: float) -> None:
        """Announce that the caller speaks, and interrupt the agent if the client wants that."""
        detection = self.detection
        interrupt = session.floor.owner != "agent" or may_interrupt(session)
        self.protocol.input.speech_started(self.place_ms(at), interrupt=interrupt)
        if detection is not None and detection["interrupt_response"] and may_interrupt(session):
            session.interrupt()  # an answer that has no sound yet is interrupted too

    def turn_ended(self, at: float) -> bool:
        """Commit the caller's turn, which ends at session time `at`. Returns True if it is answered unasked."""
        self._ending = True
        try:
            end_ms = min(self.place_ms(at) + self.silence_ms, self.protocol.input.received_ms)
            self.protocol.input.speech_stopped(end_ms, respond=False)
        finally:
            self._ending = False
        detection = self.detection
        self.waits = detection is None or not detection["create_response"]
        return not self.waits

    @property
    def ending(self) -> bool:
        """True while the server commits a turn that it has found."""
        return self._ending

    # -- transcripts -----------------------------------------------------------------------------------------------

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Note a turn that was announced to the client."""
        self._transcripts.committed(item, start_ms, end_ms)

    def said(self, frame: UserTranscript) -> None:
        """Note the text of some of the caller's speech. It is sent to the client once the turn is over."""
        start_ms, end_ms = self.place_ms(frame.start_s), self.place_ms(frame.end_s)
        self._transcripts.said(frame.text, start_ms, end_ms, frame.utterance)
        if not self.under_way:
            self._transcripts.settle()

    def passed_engine(self) -> None:
        """Note that the end of a turn has passed the engine. A native engine may know the text only later."""
        self.under_way = max(0, self.under_way - 1)
        self._transcripts.settle()
