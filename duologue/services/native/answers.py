"""`NativeAnswers`: the answers that a native engine asks its provider for, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from ...agents.engine import EngineConfig, Handover
from ...frames import Configure, End, EndOfTurn, Input, Interrupted, Say, ToolResult
from ...processors.processor import handles
from ..answers import tool_choice_of
from ..context import SAY
from .dialect import Called
from .link import Parts
from .provider import NativeService
from .reply import Ask
from .turns import TRANSCRIPT_WAIT_S


class NativeAnswers(NativeService):
    """Asks the provider for the answers that are due, one after the other.

    The provider receives the caller's audio from `activate` on: from the first frame of a call, or from a take-over.
    """

    _parts: Parts | None = None
    _closed = False

    @property
    def parts(self) -> Parts:
        """The parts of the engine, from `open` on."""
        assert self._parts is not None
        return self._parts

    @handles(End)
    async def end(self, frame: End) -> None:
        """Let the call end once all requested responses have been given."""
        await super().end(frame)
        await self._until_idle()
        await self.parts.outlet.drain()

    async def _until_idle(self) -> None:
        """Wait until no reply is owed or in progress."""
        asks, provider = self.parts.asks, self.parts.provider
        await provider.until(lambda: not asks.busy or provider.given_up)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Stop the provider, and remove the unheard speech from its memory."""
        super().interrupted(signal)
        if (parts := self._parts) is None:
            return
        parts.early.discard("an interruption")
        parts.replies.interrupt(signal)
        parts.caller.withheld.give()
        if not parts.asks.busy and (unasked := parts.caller.awaits_unasked) is not None:
            parts.asks.expect_unwanted(Ask("", signal.turn, unasked, void=True))  # may begin unannounced
        parts.provider.notify()

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        self._unanswered = ""
        replies = self.parts.asks
        with self.session.floor.scope(turn):
            if isinstance(asked, ToolResult):
                answered = await replies.go_on(turn)
            else:
                spoken = self.parts.turns.latest_taken if isinstance(asked, EndOfTurn) else None
                answered = await replies.ask(turn, extra, tool_choice=tool_choice_of(asked), spoken=spoken)
            if not answered:
                self._unanswered = "words"
                self._kept.append(asked)  # for the engine that takes over the call

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        with self.session.floor.scope(turn):
            if not await self.parts.asks.ask(turn, SAY + text):
                self._kept.append(Say(text=text))

    def _is_answered_anyway(self, frame: Input) -> bool:
        results = self.parts.asks.results
        return (
            isinstance(frame, ToolResult)
            and results.answered_by_itself(frame.turn)
            and results.no_reply_since(frame.turn)
        )

    def ask_again(self, failed: Ask) -> None:
        """Request once more the answer that the provider has failed to give by itself."""
        self._unanswered = "words"

        async def work(frame: Input) -> None:
            try:
                with self.session.floor.scope(failed.turn):
                    if self._leaving or not await self.parts.asks.ask_once_more(failed):
                        self._kept.append(frame)  # for the engine that takes over the call
                    else:
                        self._unanswered = ""
            except Exception as error:
                self.session.report(error, self.name)
            self.settle(failed.turn)

        self._jobs.put(EndOfTurn(at=self.session.now(), by="no answer"), work, failed.turn)

    def settle(self, turn: int) -> None:
        """End the turn. Instructions that have changed are sent then, if the provider takes them in place."""
        super().settle(turn)
        if self.session.agent is None or not self.session.agent.varies or self._leaving:
            return
        fresh = self.session.prompts.fresh(self.config)
        in_place = "instructions" in self.capabilities.changes_in_session
        if fresh is not self.config and in_place and self.session.live:
            self.spawn(self.configure, Configure(instructions=fresh.instructions))

    async def configure(self, change: Configure) -> None:
        """Apply a change of the configuration."""
        raise NotImplementedError

    def begin_turn(self, *, protected: bool = False) -> int:
        """Begin a turn of the agent. It is protected if the provider is set not to be interrupted."""
        return super().begin_turn(protected=protected or self.parts.provider.uninterruptible)

    async def _not_understood(self, config: EngineConfig) -> int:
        self._unanswered = ""
        return 0

    def take_result(self, frame: ToolResult) -> None:
        """Log a result, and send it to the connection that made the call. Another connection receives it as text."""
        super().take_result(frame)
        parts = self.parts
        if parts.asks.results.give(frame):
            parts.memory.result_given(frame.call_id)
            return
        self._send_due()
        dialect = parts.provider.dialect
        if frame.respond and dialect is not None and dialect.holds_text and self.session.floor.caller_speaking:
            self.spawn(self._ask_when_quiet)

    def new_calls(self, asked: Sequence[Called], turn: int) -> list[Called]:
        """Return the calls that are to be made. One that a resumed session tells again gets its result, if it is there
        already, and an answer in this turn.
        """
        results, new = self.parts.asks.results, []
        for wanted in asked:
            known = self.session.calls.known_as(wanted.call_id, wanted.name) if self.parts.memory.resumed else None
            if known is None:
                new.append(wanted)
            elif (result := results.give_again(known, turn)) is not None:
                self.queue(result)
        return new

    async def _ask_when_quiet(self) -> None:
        """Ask for another answer after the next one, which will not know a text that the dialect holds back."""
        asks, provider = self.parts.asks, self.parts.provider
        await provider.until(lambda: not (asks.goes_on or self.parts.turns.waiting))
        if provider.live:
            self.owe_answer("tool result")

    def _send_due(self) -> None:
        """Send the model the due items of the log, unless it is answering or about to answer."""
        parts = self.parts
        if parts.memory.is_due and (dialect := parts.provider.dialect) is not None and not parts.asks.goes_on:
            parts.early.discard("the log has changed")
            parts.provider.send(parts.memory.take_due(dialect))

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    def activate(self) -> None:
        """Take the call: replay the conversation to the provider, and send it the caller's audio from now on."""
        parts, provider = self.parts, self.parts.provider
        if provider.live or self._closed:
            return
        provider.live = True
        if (connection := provider.connection) is not None:
            if not parts.memory.resumed:
                parts.memory.replay_on(connection, lambda error: self.session.report(error, self.name))
            parts.caller.attach(connection)
        provider.notify()

    async def drain(self) -> None:
        """Finish the responses in progress and the texts to say. Begins nothing else, and holds the caller's audio."""
        parts = self.parts
        parts.early.discard("the engine or its configuration changes")
        parts.leaving = True
        parts.ring.hold(True)
        await super().drain()
        await self._until_idle()
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await parts.provider.until(lambda: not parts.turns.transcript_is_late)
        await parts.outlet.drain()

    def stay(self) -> None:
        """Keep the call after a change of engines that failed."""
        super().stay()
        self.parts.leaving = False
        self.parts.ring.hold(False)

    def release(self) -> Handover:
        """Hand over the unfinished work."""
        left = super().release()
        self.parts.provider.live = False
        self.parts.memory.stop()
        speech, words, over = self.parts.caller.release()
        asked = tuple(frame for frame in left.asked if not (over and isinstance(frame, EndOfTurn)))
        if words and not asked:
            asked = (EndOfTurn(at=self.session.now(), by="hand-off"),)
        return msgspec.structs.replace(
            left, speech=speech, asked=asked, unanswered="words" if words else left.unanswered
        )

    def adopt(self, left: Handover) -> None:
        """Take over the work that another engine has released, before any new frame."""
        self.parts.ring.adopt(left.speech)
        for result in left.results:  # into the log, which the provider receives
            super().take_result(result)
        super().adopt(msgspec.structs.replace(left, results=()))
        self.activate()
