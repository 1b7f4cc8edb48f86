"""What happens in a call, told to WebSocket clients that do not speak RTVI."""

from __future__ import annotations

from collections import deque

from ..frames import (
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    SessionStarted,
    Transcribed,
)
from ..session.conversation import Item
from ..session.session import Session
from ..transports.client import ClientTransport
from ..transports.websocket.transport import WebSocketTransport

REMEMBERED = 64
"""Messages of the agent that are known to have been told to their end."""


class WireEvents:
    """Tells of transcripts, of who speaks, and of the beginning: the events of `F1Serializer`.

    What the agent says is told when it begins to be heard, and once more, final, as what was heard of it.
    """

    def __init__(self, transport: WebSocketTransport, session: Session) -> None:
        self._transport, self._session = transport, session
        self._told: deque[str] = deque(maxlen=REMEMBERED)

    def attach(self) -> None:
        """Listen to the session."""
        session = self._session
        session.on(SessionStarted, self._started)
        session.on(Transcribed, self._transcribed)
        session.on(CallerStartedSpeaking, lambda signal: self._speaking("user", True))
        session.on(CallerStoppedSpeaking, lambda signal: self._speaking("user", False))
        session.on(BotStartedSpeaking, lambda signal: self._speaking("assistant", True))
        session.on(BotStoppedSpeaking, lambda signal: self._speaking("assistant", False))
        session.conversation.listen(self._item)

    def _started(self, signal: SessionStarted) -> None:
        transport = self._transport
        transport.send_event(
            "session_started",
            session_id=transport.id,
            input_sample_rate=transport.serializer.input_sample_rate,
            output_sample_rate=transport.serializer.output_sample_rate,
        )

    def _speaking(self, who: str, speaking: bool) -> None:
        self._transport.send_event("speaking", speaking=speaking, who=who)

    def _transcribed(self, signal: Transcribed) -> None:
        if signal.text:
            self._say(signal.text, "user", signal.final)

    def _item(self, item: Item) -> None:
        if item.kind != "message" or item.role != "agent" or item.id in self._told:
            return
        if item.status == "in_progress":
            if text := self._session.ledger.text_of(item.id):
                self._say(text, "assistant", False)
        elif item.text:
            self._told.append(item.id)
            self._say(item.text, "assistant", True)

    def _say(self, text: str, role: str, final: bool) -> None:
        self._transport.send_event("transcription", text=text, role=role, is_final=final)


def attach(transport: ClientTransport, session: Session) -> None:
    """Tell the client of a session what happens in it, if it is one that came by a WebSocket."""
    if isinstance(transport, WebSocketTransport):
        WireEvents(transport, session).attach()
