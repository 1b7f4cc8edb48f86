"""`Parts`: the parts of a native engine, and the operations that involve several of them."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from ...errors import ServiceError
from ...frames import Input, Interrupted, Respond, ToolResult
from ..context import Message
from ..remote.connection import Connection, ConnectionSettings
from .asks import CONTINUE, Ask, Asks
from .audio_ring import AudioRing
from .caller import Caller
from .dialect import Dialect
from .provider import NativeService, Provider, ProviderMemory
from .replies import Outlet, Replies
from .turns import TRANSCRIPT_WAIT_S, Turns


class Parts:
    """Holds the parts of an engine: provider, ring, turns, asks, replies, caller. Each uses only earlier parts.

    The provider receives the caller's audio from `activate` on: from the first frame of a call, or from a take-over.
    """

    def __init__(self, service: NativeService, settings: ConnectionSettings) -> None:
        session = service.session
        self._service = service
        self._session = session
        self._ring_s = settings.ring_s
        self._closed = False
        self.leaving = False
        """True while another engine is about to take over: the caller's audio is held back."""
        self.provider = Provider()
        self.outlet = Outlet(service)
        self.memory = ProviderMemory(session.conversation, session.ledger, settings.replay_messages)
        self.ring = AudioRing(service.capabilities.input_sample_rate, settings.ring_s, self._dropped)
        self.turns = Turns(session, self.ring, self.provider)
        self.asks = Asks(session, self.provider, self.turns, self.memory)
        self.replies = Replies(service, self.provider, self.ring, self.turns, self.asks, self.outlet)
        self.caller = Caller(service, self.provider, self.ring, self.turns, self.asks)
        self.provider.on_change(self.send_due)

    def activate(self) -> None:
        """Take the call: replay the conversation to the provider, and send it the caller's audio from now on."""
        if self.provider.live or self._closed:
            return
        self.provider.live = True
        connection = self.provider.connection
        if connection is not None:
            if not self.memory.resumed:
                self._replay(connection)
            self.caller.attach(connection)
        self.provider.notify()

    def close(self) -> None:
        """Stop all output."""
        self._closed = True
        self.provider.live = False
        self.memory.stop()
        self.outlet.close()
        self.caller.close()

    # -- the caller, and texts for the model -----------------------------------------------------------------------

    def send_due(self) -> None:
        """Send the model the due items of the log, unless it is answering or about to answer."""
        dialect = self.provider.dialect
        if dialect is not None and self.memory.is_due and not self.asks.goes_on:
            self.provider.send(self.memory.take_due(dialect))

    def give_result(self, result: ToolResult) -> None:
        """Send a logged result to the connection that made the call. Another connection receives it as text."""
        if self.asks.give_result(result):
            self.memory.result_given(result.call_id)
            return
        self.send_due()
        dialect = self.provider.dialect
        if result.respond and dialect is not None and dialect.holds_text and self._session.floor.caller_speaking:
            self._service.spawn(self._ask_when_quiet)

    async def _ask_when_quiet(self) -> None:
        """Ask for another answer after the next one, which will not know a text that the dialect holds back."""
        await self.provider.until(lambda: not (self.asks.goes_on or self.turns.waiting))
        if self.provider.live:
            self._service.owe_answer("tool result")

    def interrupt(self, signal: Interrupted) -> None:
        """Stop the provider, and remove the unheard speech from its memory."""
        self.replies.interrupt(signal)
        if not self.asks.busy and (unasked := self.caller.awaits_unasked) is not None:
            self.asks.expect_unwanted(Ask("", signal.turn, unasked, void=True))  # may begin unannounced
        self.provider.notify()

    # -- changes of the connection ---------------------------------------------------------------------------------

    def join(self, connection: Connection[Dialect], *, resumed: bool) -> str:
        """Use a new connection, whose session may be a resumed one. Returns a text on how it knows the log."""
        self.memory.connected(resumed=resumed)
        how = "resumed by handle" if resumed else "fresh"
        if self.provider.live:
            if not resumed and (replayed := self._replay(connection)):
                how = f"replayed {replayed} messages"
            self.caller.attach(connection)
            # For readers of the log only: without a text it is not sent to the model.
            data = {"engine": self._service.name, "connection": how}
            self._session.conversation.add("note", "system", name="connection", data=data)
        self.provider.notify()
        return how

    def _replay(self, connection: Connection[Dialect]) -> int:
        """Send the latest messages to a new session. Returns the number of messages of caller and agent."""
        replayed = self.memory.replay()
        if replayed:
            wire, replayed = self._history(connection.dialect, replayed)
            connection.send(wire)
        return sum(message.role in ("user", "assistant") for message in replayed)

    def _history(self, dialect: Dialect, told: tuple[Message, ...]) -> tuple[Sequence[str], tuple[Message, ...]]:
        """Return the wire messages of a replay, and what they tell: without the messages that cannot be sent.

        A connection that knows less of the conversation is better than one that is not set up.
        """
        try:
            return dialect.history(told), told
        except Exception as error:
            self._session.report(ServiceError(f"not all of the conversation is replayed: {error}"), self._service.name)
        told = tuple(message for message in told if _can_be_sent(dialect, message))
        calls = {call.call_id for message in told for call in message.calls}
        told = tuple(message for message in told if message.role != "tool" or message.call_id in calls)
        try:
            return dialect.history(told), told
        except Exception:
            return (), ()

    def part(self, *, lost: bool) -> None:
        """Leave a connection that has ended. The next one owes the same answers."""
        for ask in self.replies.abandon():
            self._owe_again(ask)
        self.caller.detach(lost=lost)

    def _owe_again(self, ask: Ask) -> None:
        if ask.utterance is not None and ask.utterance.text is None:
            # The turn has no transcript, but its audio is sent again: the answer begins again too.
            if ask.said:
                self._session.interrupt("connection lost")
        elif ask.said:
            self._service.queue(Respond(instructions=CONTINUE))
        else:
            self._service.owe_answer("connection lost")
        self._service.settle(ask.turn)

    def give_up(self) -> None:
        """Give up connecting for good."""
        self.provider.given_up = True
        self.ring.tell_lost()
        self.provider.notify()

    # -- changes of the engine -------------------------------------------------------------------------------------

    def leave(self, leaving: bool) -> None:
        """Hold the caller's audio back because another engine takes over, or release it."""
        self.leaving = leaving
        self.ring.hold(leaving)

    async def finish(self) -> None:
        """Wait until the replies, the late transcripts and the output are complete."""
        await self.until_idle()
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.provider.until(lambda: not self.turns.transcript_is_late)
        await self.outlet.drain()

    async def until_idle(self) -> None:
        """Wait until no reply is owed or in progress."""
        await self.provider.until(lambda: not self.asks.busy or self.provider.given_up)

    def release(self) -> tuple[tuple[Input, ...], bool, bool]:
        """Leave the call to another engine. Returns the result of `Caller.release`."""
        self.provider.live = False
        self.memory.stop()
        return self.caller.release()

    def _dropped(self, samples: int) -> None:
        kept = f"{self._ring_s:g} s are kept without a connection"
        error = ServiceError(f"{samples} samples of the caller's audio were dropped: {kept}")
        self._session.report(error, self._service.name)


def _can_be_sent(dialect: Dialect, message: Message) -> bool:
    try:
        dialect.history((message,))
    except Exception:
        return False
    return True
