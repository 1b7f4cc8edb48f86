"""`CallerTurns`: the caller's turns as the client knows them, and their place in its audio."""

from __future__ import annotations

from typing import Any

from ...frames import UserAudio, UserTranscript
from ...processors.turns.interruption import may_interrupt
from ...protocols.openai_realtime.response import ServerItem
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...session.session import Session
from .transcripts import TurnTranscripts

SILENCE_MS = 500
"""Silence that ends a turn, until the client says otherwise."""


class CallerTurns:
    """Shared by the processors of a call: tells the client of the caller's turns and their texts."""

    def __init__(self, protocol: RealtimeServerSession) -> None:
        self.protocol = protocol
        self.silence_ms: float = SILENCE_MS
        """Silence that ends a turn."""
        self.under_way = 0
        """Turns whose end has not passed the engine yet."""
        self.waits = False
        """A spoken turn is answered when the client asks for it."""
        self._ending = False
        self._transcripts = TurnTranscripts(protocol.transcribed)
        self._passed_ms = 0.0
        self._offset_ms = 0.0  # session time minus place in the client's audio

    @property
    def detection(self) -> dict[str, Any] | None:
        """How turns are found: the client's `turn_detection`; None if the client commits them."""
        return self.protocol.turn_detection

    def passed(self, frame: UserAudio) -> None:
        """A piece of the client's audio enters the pipeline."""
        self._offset_ms = frame.at * 1000 - self._passed_ms
        self._passed_ms += frame.duration_s * 1000

    def place_ms(self, at: float) -> float:
        """The place of a session time in the client's audio."""
        return max(0.0, at * 1000 - self._offset_ms)

    # -- turns that are found here ---------------------------------------------------------------------------------

    def speech_started(self, session: Session, at: float) -> None:
        """The caller speaks: tell the client, and interrupt the agent if the client wants it."""
        detection = self.detection
        interrupt = session.floor.owner != "agent" or may_interrupt(session)
        self.protocol.input.speech_started(self.place_ms(at), interrupt=interrupt)
        if detection is not None and detection["interrupt_response"] and may_interrupt(session):
            session.interrupt()  # it was still thinking

    def turn_ended(self, at: float) -> bool:
        """The caller's turn, which ends at session time `at`, is complete. Returns True if it is answered by itself."""
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
        """The client knows of this turn."""
        self._transcripts.committed(item, start_ms, end_ms)

    def said(self, frame: UserTranscript) -> None:
        """The text of some of the caller's speech, told to the client as soon as the turn is over."""
        self._transcripts.said(frame.text, self.place_ms(frame.start_s), self.place_ms(frame.end_s))
        if not self.under_way:
            self._transcripts.settle()

    def passed_engine(self) -> None:
        """The end of a turn has passed the engine. A native engine may know its text only later."""
        self.under_way = max(0, self.under_way - 1)
        self._transcripts.settle()
