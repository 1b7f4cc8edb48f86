"""`Events`: hands the events of a native engine's provider to the parts of the engine."""

from __future__ import annotations

import re

from ...agents.engine import EngineConfig
from ...errors import BadInput, ServiceError
from ...frames import ResumptionHandle
from ...processors.turns.interruption import may_interrupt
from ..remote.connection import Connection
from ..remote.errors import ConnectionLost
from ..remote.ids import Recent
from ..remote.keeper import Keeper
from .dialect import (
    AudioComplete,
    Called,
    CallsCancelled,
    Configured,
    Consumed,
    Crossed,
    CutShort,
    Dialect,
    Event,
    GoingAway,
    HandleGiven,
    Odd,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from .parts import Parts
from .provider import NativeService
from .reconfigure import Reconfigure

MAX_REPORTED = 64
"""The most kinds of odd messages that are remembered as reported."""


class Events:
    """Hands each event of the connection in use to the part that acts on it, and drops those of other connections."""

    def __init__(
        self, service: NativeService, parts: Parts, keeper: Keeper[EngineConfig, Dialect], reconfigure: Reconfigure
    ) -> None:
        self._service, self._session = service, service.session
        self._parts, self._provider = parts, parts.provider
        self._keeper, self._reconfigure = keeper, reconfigure
        self._reported = Recent[bool](MAX_REPORTED)

    def act_now(self, connection: Connection[Dialect], event: Event) -> bool:
        """Act on a piece of audio, the most frequent event, without a task. Returns False for other events."""
        if not isinstance(event, Voiced):
            return False
        if connection is self._provider.connection:
            self._parts.replies.on_voiced(event)
        return True

    async def read(self, connection: Connection[Dialect], event: Event) -> None:
        """Hand an event to the part that acts on it."""
        if connection is not self._provider.connection:
            return
        asks, replies, caller = self._parts.asks, self._parts.replies, self._parts.caller
        match event:
            case Voiced():
                replies.on_voiced(event)
            case Said():
                replies.on_said(event)
            case TurnTranscribed():
                await caller.on_transcribed(event)
            case SpeechBegan():
                await caller.on_speech_began(event)
            case SpeechCeased():
                await caller.on_speech_ceased(event)
            case TurnTaken():
                await caller.on_turn_taken(event)
            case ResponseBegan():
                replies.on_began(event)
            case AudioComplete():
                replies.on_given(event)
            case Called():
                replies.on_called(event)
            case CallsCancelled():
                replies.on_calls_cancelled(event)
            case ResponseFinished():
                replies.on_finished(event)
            case Consumed():
                self._parts.consumption.on_consumed(event.usage)
            case CutShort():
                if may_interrupt(self._session):
                    self._session.interrupt()
                asks.expect_none()
            case Configured():
                self._reconfigure.on_configured(event)
            case HandleGiven():
                self._on_handle(event.handle)
            case GoingAway():
                self._keeper.going_away(event.left_s)
            case Refused():
                self._on_refused(event)
            case Crossed():
                replies.on_refused(event.tag)
            case Odd():
                self._report_once(BadInput(f"a message of the provider was read without a field: {event.problem}"))
            case Unknown():
                self._report_once(ServiceError(f"the provider sent {event.kind!r}, which is not known here"))

    def _on_handle(self, handle: str) -> None:
        if handle:
            self._parts.memory.handle_given(handle)
            self._service.broadcast(ResumptionHandle(engine=self._service.name, handle=handle))

    def _report_once(self, error: Exception) -> None:
        """Report an error that is likely to come back, once."""
        kind = re.sub(r"\d+", "0", str(error))
        if kind not in self._reported:
            self._reported[kind] = True
            self._session.report(error, self._service.name)

    def _on_refused(self, event: Refused) -> None:
        if self._reconfigure.on_refused(event):
            return
        error = f"{event.code}: {event.message}"
        self._parts.replies.on_refused(event.about, error)
        self._session.report(ServiceError(error), self._service.name)
        if event.fatal and self._provider.connection is not None:
            self._keeper.lost(self._provider.connection, ConnectionLost(error, fatal=True))
