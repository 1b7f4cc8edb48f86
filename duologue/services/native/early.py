"""`Early`: an answer that the provider begins before the caller's turn has certainly ended, and that is kept back."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..remote.dialect import Event
from .asks import Asks
from .audio_ring import AudioRing, Utterance
from .dialect import AudioComplete, Called, Crossed, Refused, ResponseBegan, ResponseFinished, Said, Voiced
from .provider import NativeService, Provider, ProviderMemory
from .replies import Replies
from .reply import Ask

log = logging.getLogger("duologue")

KEEP_S = 20.0
"""Seconds that an answer is kept for a turn that neither ends nor goes on."""
MAX_EVENTS = 4_096
"""The most pieces of an answer that are kept. One with more is thrown away, and asked for again."""
_ACTIONS: dict[type[Event], Any] = {
    ResponseBegan: Replies.on_began,
    Said: Replies.on_said,
    Voiced: Replies.on_voiced,
    AudioComplete: Replies.on_given,
    Called: Replies.on_called,
    ResponseFinished: Replies.on_finished,
}


class Early:
    """Asks for the answer at a probable end of the caller's turn, at most `eager_starts` times in a turn.

    The provider takes the caller's turn as it is then, and begins. Nothing of its answer leaves this object before the
    turn has ended. If the caller goes on, the response is cancelled and its items are deleted; what they say from then
    on becomes another part of the same turn.
    """

    def __init__(
        self,
        service: NativeService,
        provider: Provider,
        ring: AudioRing,
        asks: Asks,
        replies: Replies,
        memory: ProviderMemory,
    ) -> None:
        self._service, self._session = service, service.session
        self._provider, self._memory = provider, memory
        self._ring, self._asks, self._replies = ring, asks, replies
        self._count = self._starts = 0
        self._tag = ""  # of the answer that is kept back, "" without one
        self._response = ""  # its id, "" before it has begun
        self._utterance: Utterance | None = None
        self._events: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None
        asks.early = self

    def begin(self, utterance: Utterance) -> None:
        """Let the provider begin the answer to a turn that has probably ended, if it can take the answer back."""
        asks, provider, session = self._asks, self._provider, self._session
        connection, dialect = provider.connection, provider.dialect
        if connection is None or dialect is None or not dialect.takes_back:
            return
        if self._starts >= self._service.eager_starts or session.draining or session.floor.owner == "agent":
            return
        if asks.goes_on or self._ring.held or not self._ring.uplink.take_early():
            return
        utterance.commits += 1
        self._utterance = utterance
        self._starts += 1
        self._count += 1
        self._tag = f"early_{self._count}"
        connection.send(self._memory.take_due(dialect))
        connection.send(dialect.respond(self._tag))
        self._timer = asyncio.get_running_loop().call_later(KEEP_S, self.discard, "the turn does not end")

    def turn_ended(self) -> None:
        """Note the end of the caller's turn: the next one has its own `eager_starts`."""
        self._starts = 0

    def keeps(self, event: Event) -> bool:
        """Return True for an event of the answer that is kept back, which is kept as well."""
        if not self._tag:
            return False
        match event:
            case Refused() | Crossed() if self._tag in (getattr(event, "about", ""), getattr(event, "tag", "")):
                log.info("session %s: no answer in advance: %r", self._session.id, event)
                self.forget()
                return not getattr(event, "fatal", False)
            case ResponseBegan() if not self._response and event.tag in ("", self._tag):
                self._response = event.response
            case _ if not self._response or getattr(event, "response", "") != self._response:
                return False
        self._events.append(event)
        failed = isinstance(event, ResponseFinished) and event.status == "failed"
        if failed or len(self._events) > MAX_EVENTS:
            self.discard("it has failed" if failed else "it is too long")
        return True

    # -- for `Asks` --------------------------------------------------------------------------------------------------

    def make_way(self, utterance: Utterance | None, *, plain: bool) -> None:
        """Throw the answer away, if there is one and it is not the one that is about to be asked for.

        That is a `plain` request, without settings, for the answer to this turn of the caller.
        """
        if self._tag and not (plain and utterance is self._utterance and not self._memory.is_due):
            self.discard("another request")

    def take(self, ask: Ask) -> bool:
        """Make the answer the reply to an ask. Returns False if there is none."""
        if not self._tag:
            return False
        ask.tag = self._tag
        self._let_out()
        return True

    def _let_out(self) -> None:
        """Give what has come of the answer to the replies, and keep nothing more of it."""
        events = self._events
        self.forget()
        for event in events:
            _ACTIONS[type(event)](self._replies, event)

    # -- thrown away ---------------------------------------------------------------------------------------------------

    def discard(self, why: str) -> None:
        """Cancel the answer, if there is one, and delete its items from the provider's memory."""
        if self._tag:
            log.info("session %s: a prepared answer is thrown away: %s", self._session.id, why)
            self._asks.expect(0, None, unwanted=self._tag)
            self._let_out()

    def forget(self) -> None:
        """Forget the answer: its connection has ended."""
        self._tag = self._response = ""
        self._utterance, self._events = None, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
