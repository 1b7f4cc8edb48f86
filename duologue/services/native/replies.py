"""`Replies`: the responses that a native engine asks of its provider, as frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ...agents.engine import EngineConfig
from ...errors import ServiceError, ToolError
from ...frames import (
    BotAudio,
    BotText,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    ToolCall,
    ToolResult,
    Usage,
)
from ...session.session import Session
from ..answers import MAX_CALLS_PER_TURN
from .asks import Ask, Asks, ReplyOutcome
from .audio_ring import Utterance
from .dialect import Dialect
from .events import AudioComplete, Called, CallsCancelled, ResponseBegan, ResponseFinished, Said, Voiced
from .provider import Provider
from .turns import Turns

KEPT_REPLIES = 64
"""Finished replies that may still be cut while they are played."""

CONTINUE = (
    "The connection broke while you were speaking, and the caller has heard only the beginning of your answer. "
    "Go on from there, without repeating it."
)


@dataclass(slots=True, eq=False)
class Reply:
    """A reply that has begun."""

    id: str
    """Of the response."""
    turn: int
    provider_id: str
    ask: Ask
    void: bool = False
    """Nothing of it goes out any more."""
    said: bool = False
    """Something of it has gone out."""
    given: bool = False
    """All of its audio has come."""
    audio_bytes: int = 0
    """Audio that went out."""
    items: dict[str, int] = field(default_factory=dict)
    """Bytes of audio that came of each of the provider's items, in order."""
    cut: set[str] = field(default_factory=set)
    """Items that were truncated."""
    calls: list[Called] = field(default_factory=list)


class OutputQueue(Protocol):
    """Takes output in order, without waiting."""

    def put(self, frame: Output) -> None: ...


class DueNotes(Protocol):
    """The texts that the model must be sent before it is asked."""

    def take_due(self, dialect: Dialect) -> list[str]: ...


class Answerer(Protocol):
    """The engine, as replies see it: its configuration, its tool calls, and its account of turns."""

    @property
    def name(self) -> str: ...

    config: EngineConfig
    model: str

    def log_calls(
        self, turn: int, response_id: str, agent: str, asked: Sequence[Called], owner: object
    ) -> list[ToolCall]: ...

    def refuse_call(self, call: ToolCall, error: str) -> None: ...

    def settle(self, turn: int) -> None: ...


class Replies:
    """Asks for one reply at a time, and turns each into the frames of one response.

    After an interruption only the end of a response goes out. The part that the caller has not heard is taken out of
    the provider's memory, where the provider allows that.
    """

    def __init__(
        self,
        session: Session,
        answerer: Answerer,
        provider: Provider,
        turns: Turns,
        notes: DueNotes,
        output: OutputQueue,
        account: Callable[[Usage], None],
        sample_rate: int,
    ) -> None:
        self._session = session
        self._answerer = answerer
        self._provider = provider
        self._turns = turns
        self._notes = notes
        self._output = output
        self._account = account
        self._rate = sample_rate
        self._asks = Asks(turns)
        self._active: dict[str, Reply] = {}  # by the provider's id
        self._kept: deque[Reply] = deque(maxlen=KEPT_REPLIES)
        self._cut_last: Reply | None = None  # it has ended, and its consumption is still to come
        self._begun = 0  # how many replies have begun
        self._results_given: set[int] = set()  # turns whose results went to the connection that had asked

    # -- asking ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """True while the provider answers, or is about to because it was asked or has taken a turn."""
        return self._asks.any_open or bool(self._active)

    @property
    def waits_for_tools(self) -> bool:
        """True while the connection in use waits for results of tools."""
        connection = self._provider.connection
        return connection is not None and self._session.calls.owned(connection)

    @property
    def goes_on(self) -> bool:
        """True while the model answers, or will without being asked."""
        return self.busy or self.waits_for_tools or bool(self._results_given) or self._turns.any_taken

    @property
    def waits_since(self) -> float | None:
        """Loop time since which a reply is waited for that has not begun, None if there is none."""
        return self._asks.waits_since

    def expect(self, turn: int, utterance: Utterance | None) -> None:
        """The provider will answer the caller's turn by itself."""
        self._asks.expect(turn, utterance)

    def expect_none(self) -> None:
        """The caller goes on to speak: the provider will not answer the part of the turn that it has heard."""
        self._asks.expect_none()

    async def go_on(self, turn: int) -> bool:
        """Have a turn continued with the results of its tools. Returns False if no connection is left."""
        dialect, by_itself = self._provider.dialect, False
        begun = self._begun
        if turn in self._results_given and dialect is not None and dialect.answers_results:
            by_itself = True
        else:
            await self._provider.until(lambda: not (self.busy or self._turns.waiting) or self._provider.given_up)
            if self._begun > begun:
                self._results_given.discard(turn)
                return True  # the caller has spoken meanwhile, and the answer to that had the results in view
        try:
            return await self.ask(turn, by_itself=by_itself)
        finally:
            self._results_given.discard(turn)

    async def ask(self, turn: int, extra: str = "", *, by_itself: bool = False) -> bool:
        """Have a response given in a turn, with `extra` instructions. Returns False if no connection is left.

        Returns when the provider has sent all of it. `by_itself`: the provider begins without being asked. Asks again
        if the connection is lost meanwhile, and once if the provider fails before it has said anything.
        """
        provider, failures = self._provider, 0
        while True:
            await provider.until(lambda: provider.given_up or (provider.connection is not None and not self.busy))
            connection = provider.connection
            if connection is None:
                return False
            ask = self._asks.add(turn, tagged=not by_itself)
            assert ask.answer is not None
            if ask.tag:
                connection.send(self._notes.take_due(connection.dialect))
                connection.send(connection.dialect.respond(ask.tag, extra))
            try:
                outcome = await ask.answer
            finally:
                ask.void = True  # matters if the wait was cancelled before the reply has begun
            if outcome == "finished" or (outcome == "again" and failures):
                return True
            if outcome == "lost" and CONTINUE in extra and self._spoken_since(ask):
                return True  # that will be answered
            failures += outcome == "again"
            by_itself = False
            if ask.said and CONTINUE not in extra:
                extra = f"{extra}\n\n{CONTINUE}".strip()

    def _spoken_since(self, ask: Ask) -> bool:
        """Whether the caller's latest turn is another than the one that is answered."""
        return any(utterance is not ask.utterance for utterance in list(self._turns.waiting)[-1:])

    # -- the provider's events -------------------------------------------------------------------------------------

    def on_began(self, event: ResponseBegan) -> None:
        """A reply begins. Its tag, or else the order, tells the turn that it belongs to."""
        self._cut_last = None
        ask = self._asks.take(event.tag) or self._unasked()
        if not ask.tag:  # there is one reply at a time: the provider has refused those that were asked for meanwhile
            self._asks.refuse()
        reply = Reply("", ask.turn, event.response, ask)
        self._active[event.response] = reply
        self._begun += 1
        if ask.void or ask.turn <= self._session.floor.fence:
            reply.void = True
            self._cancel(reply)
            return
        reply.id = self._session.ledger.new_id()
        config = self._answerer.config
        self._session.ledger.open(reply.id, reply.turn, config.agent)
        self._output.put(ResponseStarted(turn=reply.turn, response_id=reply.id, agent=config.agent, voice=config.voice))

    def _unasked(self) -> Ask:
        turn = self._session.floor.begin()
        return Ask("", turn, self._turns.take_unasked(turn))

    def on_refused(self, tag: str) -> None:
        """The provider refuses the reply that was asked for with this tag."""
        if tag and self._asks.refuse(tag):
            self._provider.notify()

    def on_said(self, event: Said) -> None:
        """Text of a reply."""
        reply = self._active.get(event.response)
        if reply is None or reply.void or not event.text:
            return
        reply.said = True
        self._session.ledger.add_text(reply.id, event.text)
        self._output.put(BotText(turn=reply.turn, response_id=reply.id, text=event.text))

    def on_voiced(self, event: Voiced) -> None:
        """Audio of a reply."""
        reply = self._active.get(event.response)
        if reply is None or not event.pcm:
            return
        size = len(event.pcm)
        reply.items[event.item] = reply.items.get(event.item, 0) + size
        if reply.void:
            return
        reply.said = True
        reply.audio_bytes += size
        self._output.put(BotAudio(turn=reply.turn, response_id=reply.id, audio=event.pcm, sample_rate=self._rate))

    def on_given(self, event: AudioComplete) -> None:
        """All audio of a reply has come: the loss of the connection cannot break it off any more."""
        if reply := self._active.get(event.response):
            reply.given = True

    def on_called(self, event: Called) -> None:
        """A tool call of a reply."""
        reply = self._active.get(event.response)
        if reply is not None and not reply.void:
            reply.calls.append(event)

    def on_calls_cancelled(self, event: CallsCancelled) -> None:
        """The provider takes no results of these calls any more: they become text."""
        self._session.calls.disown(self._provider.connection, event.call_ids)

    def on_finished(self, event: ResponseFinished) -> None:
        """A reply is over."""
        reply = self._active.pop(event.response, None)
        if reply is None:
            return
        if event.usage is not None:
            self._account(self._with_reply(event.usage, reply))
        if reply.void:
            self._cut_last = reply if event.usage is None else None
            self._truncate(reply, 0.0)
            self._finish(reply.ask, "finished")
            return
        self._kept.append(reply)
        if event.status == "completed":
            self._call(reply)
        elif event.status == "failed":
            error = ServiceError(f"no answer: {event.reason or 'the model failed'}")
            self._session.report(error, self._answerer.name)
        self._end(reply, event.status, event.reason)
        self._finish(reply.ask, "again" if event.status == "failed" and not reply.said else "finished")

    def on_consumed(self, usage: Usage) -> None:
        """Consumption that is reported by itself: of a reply that was cut, or of a transcript."""
        reply = self._cut_last
        if reply is not None and usage.model in ("", self._answerer.model):
            self._cut_last = None
            usage = self._with_reply(usage, reply)
        self._account(usage)

    def _with_reply(self, usage: Usage, reply: Reply) -> Usage:
        audio_s = reply.audio_bytes / (2 * self._rate)
        return msgspec.structs.replace(usage, turn=reply.turn, response_id=reply.id, output_audio_s=audio_s)

    def _finish(self, ask: Ask, outcome: ReplyOutcome) -> None:
        ask.settle(outcome)
        if ask.utterance is not None:
            self._turns.answered(ask.utterance)
        if ask.answer is None:
            self._answerer.settle(ask.turn)
        self._provider.notify()

    def _end(self, reply: Reply, status: ResponseStatus, reason: str = "") -> None:
        self._output.put(ResponseEnded(turn=reply.turn, response_id=reply.id, status=status, reason=reason))

    # -- tools -----------------------------------------------------------------------------------------------------

    def _call(self, reply: Reply) -> None:
        """Log the calls, then make them."""
        answerer = self._answerer
        before = self._session.calls.asked_in(reply.turn)
        calls = answerer.log_calls(reply.turn, reply.id, answerer.config.agent, reply.calls, self._provider.connection)
        for number, call in enumerate(calls, before + 1):
            if number <= MAX_CALLS_PER_TURN:
                self._output.put(call)
            else:
                error = f"{number} tool calls in one turn: answer without them"
                self._session.report(ToolError(error), answerer.name)
                answerer.refuse_call(call, error)

    def give_result(self, result: ToolResult) -> bool:
        """Send a result to the connection that waits for it. Returns False if none does."""
        provider_id = self._session.calls.claim(result.call_id, self._provider.connection)
        if provider_id is None:
            return False
        self._results_given.add(result.turn)
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.tool_result(provider_id, result.name, result.result, respond=result.respond))
        return True

    # -- what is cut -----------------------------------------------------------------------------------------------

    def interrupt(self, signal: Interrupted, unasked: Utterance | None) -> None:
        """Stop the replies of these turns, and have the provider forget the part of them that was not heard.

        `unasked` is a turn that the provider may be about to answer without having said so.
        """
        self._asks.interrupt(signal.turn)
        if unasked is not None and not self.busy:
            self._asks.expect_unwanted(Ask("", signal.turn, unasked, void=True))
        for reply in [*self._kept, *self._active.values()]:
            if reply.turn > signal.turn or reply.void:
                continue
            going_on = reply.provider_id in self._active
            if going_on:
                self._end(reply, "interrupted")
                self._cancel(reply)
            reply.void = True
            item = self._session.conversation.get(reply.id)
            if item is None or item.status != "complete":
                self._truncate(reply, item.heard_s if item is not None else 0.0)
            reply.cut.update(reply.items)
            if not going_on:
                self._kept.remove(reply)

    def _cancel(self, reply: Reply) -> None:
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.cancel(reply.provider_id))

    def _truncate(self, reply: Reply, heard_s: float) -> None:
        dialect = self._provider.dialect
        bytes_per_ms = 2 * self._rate / 1000
        left_ms = heard_s * 1000
        for item, size in reply.items.items():
            length_ms = size / bytes_per_ms
            if left_ms < length_ms and item not in reply.cut:
                reply.cut.add(item)
                if dialect is not None:
                    self._provider.send(dialect.truncate(item, int(max(0.0, left_ms))))
            left_ms -= length_ms

    def abandon(self) -> list[Ask]:
        """The connection is gone: each reply ends as it is. Returns the asks that the provider still owed by itself."""
        owed = []
        self._results_given.clear()
        for reply in self._active.values():
            if reply.given and not reply.void:
                self._end(reply, "completed")
                self._finish(reply.ask, "finished")
                continue
            if not reply.void:
                self._end(reply, "failed", "the connection was lost")
                reply.ask.said = reply.said
                if reply.ask.answer is None:
                    owed.append(reply.ask)
            reply.ask.settle("lost")
        owed += self._asks.abandon()
        self._active.clear()
        self._cut_last = None
        self._kept.clear()  # the items of a connection that is gone cannot be truncated
        return owed
