"""`Parts`: the parts of a native engine, and the moves that concern several of them."""

from __future__ import annotations

import anyio

from ...errors import ServiceError
from ...frames import Input, Interrupted, Respond, ToolResult
from ..remote.connection import Connection, ConnectionSettings
from .asks import CONTINUE, Ask, Asks
from .audio_ring import AudioRing
from .caller import Caller
from .dialect import Dialect
from .provider import NativeService, Provider, ProviderMemory
from .replies import Outlet, Replies
from .turns import TRANSCRIPT_WAIT_S, Turns


class Parts:
    """Each part knows those before it: provider and ring, turns, asks, replies, caller.

    The provider hears the caller from `activate` on: with the first frame of a call, or when the engine takes over.
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
        """The engine has the call from now on: the provider hears the caller, and knows what was said so far."""
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
        """Nothing goes out any more."""
        self._closed = True
        self.provider.live = False
        self.memory.stop()
        self.outlet.close()
        self.caller.close()

    # -- the caller, and texts for the model -----------------------------------------------------------------------

    def send_due(self) -> None:
        """Send the model the items of the log that are due, unless it answers or is about to."""
        dialect = self.provider.dialect
        if dialect is not None and self.memory.is_due and not self.asks.goes_on:
            self.provider.send(self.memory.take_due(dialect))

    def give_result(self, result: ToolResult) -> None:
        """Send a logged result to the connection that asked for it; any other learns of it as text."""
        if self.asks.give_result(result):
            self.memory.result_given(result.call_id)
            return
        self.send_due()
        dialect = self.provider.dialect
        if result.respond and dialect is not None and dialect.holds_text and self._session.floor.caller_speaking:
            self._service.spawn(self._ask_when_quiet)

    async def _ask_when_quiet(self) -> None:
        """The next answer will not have a text in view that the provider holds back: ask for another after it."""
        await self.provider.until(lambda: not (self.asks.goes_on or self.turns.waiting))
        if self.provider.live:
            self._service.owe_answer("tool result")

    def interrupt(self, signal: Interrupted) -> None:
        """Stop the provider, and have it forget what the caller has not heard."""
        self.replies.interrupt(signal)
        if not self.asks.busy and (unasked := self.caller.awaits_unasked) is not None:
            self.asks.expect_unwanted(Ask("", signal.turn, unasked, void=True))  # it may begin without an announcement
        self.provider.notify()

    # -- changes of the connection ---------------------------------------------------------------------------------

    def join(self, connection: Connection[Dialect], *, resumed: bool) -> str:
        """Follow a new connection, whose session may have been resumed. Returns how it knows the log."""
        self.memory.connected(resumed=resumed)
        how = "resumed by handle" if resumed else "fresh"
        if self.provider.live:
            if not resumed and (replayed := self._replay(connection)):
                how = f"replayed {replayed} messages"
            self.caller.attach(connection)
            # For readers of the log. It has no text: the model is not sent it.
            data = {"engine": self._service.name, "connection": how}
            self._session.conversation.add("note", "system", name="connection", data=data)
        self.provider.notify()
        return how

    def _replay(self, connection: Connection[Dialect]) -> int:
        """Send a session that knows nothing the latest messages. Returns how many of caller and agent."""
        replayed = self.memory.replay()
        if replayed:
            connection.send(connection.dialect.history(replayed))
        return sum(message.role in ("user", "assistant") for message in replayed)

    def part(self, *, lost: bool) -> None:
        """The connection is gone: the next one owes what it owed."""
        for ask in self.replies.abandon():
            self._owe_again(ask)
        self.caller.detach(lost=lost)

    def _owe_again(self, ask: Ask) -> None:
        if ask.utterance is not None and ask.utterance.text is None:
            # Its words are not known, but the audio will be heard again: the answer begins anew.
            if ask.said:
                self._session.interrupt("connection lost")
        elif ask.said:
            self._service.queue(Respond(instructions=CONTINUE))
        else:
            self._service.owe_answer("connection lost")
        self._service.settle(ask.turn)

    def give_up(self) -> None:
        """There is no connection, and there will be none."""
        self.provider.given_up = True
        self.ring.tell_lost()
        self.provider.notify()

    # -- changes of the engine -------------------------------------------------------------------------------------

    def leave(self, leaving: bool) -> None:
        """Send nothing of the caller's any more since another engine takes over, or go on."""
        self.leaving = leaving
        self.ring.hold(leaving)

    async def finish(self) -> None:
        """Wait until the replies, their transcripts and their output are through."""
        await self.until_idle()
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.provider.until(lambda: not self.turns.transcript_is_late)
        await self.outlet.drain()

    async def until_idle(self) -> None:
        """Wait until no reply goes on."""
        await self.provider.until(lambda: not self.asks.busy or self.provider.given_up)

    def release(self) -> tuple[tuple[Input, ...], bool, bool]:
        """Another engine has the call. Returns the same as `Caller.release`."""
        self.provider.live = False
        self.memory.stop()
        return self.caller.release()

    def _dropped(self, samples: int) -> None:
        kept = f"{self._ring_s:g} s are kept without a connection"
        error = ServiceError(f"{samples} samples of the caller's audio were dropped: {kept}")
        self._session.report(error, self._service.name)
