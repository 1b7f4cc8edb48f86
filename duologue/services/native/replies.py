"""`Replies`: what a native engine asks of its provider, and the responses that come of it, as frames."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from ...errors import ServiceError, ToolError
from ...frames import BotAudio, BotText, Interrupted, ResponseEnded, ResponseStarted, ResponseStatus, Usage
from ..answers import MAX_CALLS_PER_TURN
from .audio_ring import Utterance
from .dialect import Dialect
from .events import AudioComplete, Called, ResponseBegan, ResponseFinished, Said, Voiced

if TYPE_CHECKING:
    from .engine import SpeechToSpeech

KEPT_REPLIES = 64
"""Responses that may still be cut while they are played."""

UNWANTED_S = 5.0
"""So long an answer may take to begin that was interrupted before, by somebody else than the caller."""

Outcome = Literal["finished", "lost", "again"]

CONTINUE = (
    "The connection broke while you were speaking, and the caller has heard only the beginning of your answer. "
    "Go on from there, without repeating it."
)


@dataclass(slots=True, eq=False)
class Ask:
    """A response that is wanted, or that the provider will begin by itself (then there is no `tag`)."""

    tag: str
    turn: int
    utterance: Utterance | None = None
    """The latest of the caller's turns that it answers."""
    sent_at: float = 0.0
    void: bool = False
    """The caller has interrupted: should it begin, it is stopped."""
    answer: asyncio.Future[Outcome] | None = None
    """For whoever waits for it."""

    said: bool = False
    """Something was said before the connection was lost."""

    def settle(self, outcome: Outcome) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(slots=True, eq=False)
class Reply:
    """A response of the provider's."""

    id: str
    turn: int
    provider_id: str
    ask: Ask
    void: bool = False
    """Nothing of it goes out any more."""
    said: bool = False
    """Something of it has gone out."""
    given: bool = False
    """All of its audio has come."""
    audio_s: float = 0.0
    items: dict[str, int] = field(default_factory=dict)
    """Bytes of audio that came of each of its items, in order."""
    cut: set[str] = field(default_factory=set)
    """Items that were truncated."""
    calls: list[Called] = field(default_factory=list)


class Replies:
    """Asks for one response at a time, and turns what comes into frames of one turn each.

    After an interruption nothing of a response goes out but its end; what the caller has not heard of it is taken out
    of the provider's memory, where the provider lets us.
    """

    def __init__(self, engine: SpeechToSpeech) -> None:
        self._engine = engine
        self._asked: list[Ask] = []
        self._active: dict[str, Reply] = {}  # by the provider's id
        self._kept: deque[Reply] = deque(maxlen=KEPT_REPLIES)
        self._tags = 0
        self._unwanted: Ask | None = None  # the provider will begin by itself what was interrupted before it began
        self._cut_last: Reply | None = None  # it has ended, and what it consumed is still to be told
        self.begun = 0
        """How many responses have begun."""

    # -- asking ----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """The provider answers, or is about to."""
        return bool(self._asked or self._active)

    @property
    def waits_since(self) -> float | None:
        """Loop time since which a response is waited for that has not begun."""
        return min((ask.sent_at for ask in self._asked), default=None)

    def expect(self, turn: int, utterance: Utterance | None) -> None:
        """The provider will answer the caller's turn by itself."""
        self._unwanted = None
        self._asked.append(Ask("", turn, utterance, sent_at=asyncio.get_running_loop().time()))

    async def ask(self, turn: int, extra: str = "", *, by_itself: bool = False) -> bool:
        """Have a response given in this turn, with `extra` instructions; returns when the provider has given it all.

        False if there is no connection and will be none.
        `by_itself`: the provider begins without being asked. Asks again if the connection is lost meanwhile, or if
        the provider fails before it has said anything, the latter once.
        """
        engine, failures = self._engine, 0
        while True:
            await engine.until(lambda: engine.is_given_up or (engine.connection is not None and not self.busy))
            connection = engine.connection
            if connection is None:
                return False
            loop = asyncio.get_running_loop()
            ask = Ask("", turn, engine.listening.taken, sent_at=loop.time(), answer=loop.create_future())
            assert ask.answer is not None
            self._asked.append(ask)
            if not by_itself:
                engine.notes.tell()
                self._tags += 1
                ask.tag = f"ask_{self._tags}"
                connection.send(connection.dialect.respond(ask.tag, extra))
            try:
                outcome = await ask.answer
            finally:
                ask.void = True  # matters if the wait was cancelled before the response has begun
            if outcome == "finished" or (outcome == "again" and failures):
                return True
            spoken = engine.listening.hearing.utterances
            if outcome == "lost" and CONTINUE in extra and spoken and spoken[-1] is not ask.utterance:
                return True  # what the caller says meanwhile will be answered
            failures += outcome == "again"
            by_itself = False
            if ask.said and CONTINUE not in extra:
                extra = f"{extra}\n\n{CONTINUE}".strip()

    # -- what the provider tells -----------------------------------------------------------------------------------

    def on_began(self, event: ResponseBegan) -> None:
        """A response begins: whose turn it belongs to is known by its tag, or by the order."""
        engine = self._engine
        ask = next((ask for ask in self._asked if ask.tag == event.tag), None)
        self._cut_last = None
        if ask is None:
            ask = self._take_unwanted() or engine.unasked_turn()
        else:
            self._asked.remove(ask)
        if not ask.tag:  # what was asked for meanwhile has been refused: there is one response at a time
            for other in [other for other in self._asked if other.tag]:
                self._asked.remove(other)
                other.settle("again")
        session = engine.session
        reply = Reply("", ask.turn, event.response, ask)
        self._active[event.response] = reply
        self.begun += 1
        if ask.void or ask.turn <= session.floor.fence:
            reply.void = True
            engine.send(lambda dialect: dialect.cancel(event.response))
            return
        reply.id = session.ledger.new_id()
        config = engine.config
        session.ledger.open(reply.id, reply.turn, config.agent)
        engine.put(ResponseStarted(turn=reply.turn, response_id=reply.id, agent=config.agent, voice=config.voice))

    def _take_unwanted(self) -> Ask | None:
        ask, self._unwanted = self._unwanted, None
        recent = ask is not None and asyncio.get_running_loop().time() - ask.sent_at < UNWANTED_S
        return ask if recent else None

    def on_refused(self, tag: str) -> None:
        """The provider will not begin what was asked for with this tag."""
        for ask in [ask for ask in self._asked if tag and ask.tag == tag]:
            self._asked.remove(ask)
            ask.settle("again")
            self._engine.notify()

    def on_said(self, event: Said) -> None:
        """Text of a response."""
        reply = self._active.get(event.response)
        if reply is None or reply.void or not event.text:
            return
        reply.said = True
        self._engine.session.ledger.add_text(reply.id, event.text)
        self._engine.put(BotText(turn=reply.turn, response_id=reply.id, text=event.text))

    def on_voiced(self, event: Voiced) -> None:
        """Audio of a response."""
        reply = self._active.get(event.response)
        if reply is None or not event.pcm:
            return
        reply.items[event.item] = reply.items.get(event.item, 0) + len(event.pcm)
        if reply.void:
            return
        rate = self._engine.output_rate
        reply.said = True
        reply.audio_s += len(event.pcm) / (2 * rate)
        self._engine.put(BotAudio(turn=reply.turn, response_id=reply.id, audio=event.pcm, sample_rate=rate))

    def on_given(self, event: AudioComplete) -> None:
        """All of a response's audio has come: the loss of the connection cannot break it off any more."""
        if reply := self._active.get(event.response):
            reply.given = True

    def on_called(self, event: Called) -> None:
        """A tool call of a response that stands."""
        reply = self._active.get(event.response)
        if reply is not None and not reply.void:
            reply.calls.append(event)

    def on_cancelled(self, call_ids: tuple[str, ...]) -> None:
        """The provider wants no results of these calls any more; what still comes is told as text."""
        self._engine.session.calls.disown(self._engine.connection, call_ids)

    def on_finished(self, event: ResponseFinished) -> None:
        """A response is over."""
        reply = self._active.pop(event.response, None)
        if reply is None:
            return
        engine = self._engine
        if event.usage is not None:
            engine.consumed(
                msgspec.structs.replace(
                    event.usage, turn=reply.turn, response_id=reply.id, output_audio_s=reply.audio_s
                )
            )
        if reply.void:
            self._cut_last = reply if event.usage is None else None
            self._truncate(reply, 0.0)
            reply.ask.settle("finished")
            engine.finished(reply.ask)
            return
        self._kept.append(reply)
        if event.status == "completed":
            self._call(reply)
        elif event.status == "failed":
            engine.session.report(ServiceError(f"no answer: {event.reason or 'the model failed'}"), engine.name)
        self._end(reply, event.status, event.reason)
        reply.ask.settle("again" if event.status == "failed" and not reply.said else "finished")
        engine.finished(reply.ask)

    def on_consumed(self, usage: Usage) -> None:
        """Consumption that is told by itself: of a response that was cut short, or of a transcript."""
        reply = self._cut_last
        if reply is not None and usage.model in ("", self._engine.model):
            self._cut_last = None
            usage = msgspec.structs.replace(usage, turn=reply.turn, response_id=reply.id, output_audio_s=reply.audio_s)
        self._engine.consumed(usage)

    def _end(self, reply: Reply, status: ResponseStatus, reason: str = "") -> None:
        self._engine.put(ResponseEnded(turn=reply.turn, response_id=reply.id, status=status, reason=reason))

    def _call(self, reply: Reply) -> None:
        """Log the calls, then make them."""
        engine = self._engine
        before = engine.session.calls.asked_in(reply.turn)
        calls = engine.log_calls(reply.turn, reply.id, engine.config.agent, reply.calls, engine.connection)
        for number, call in enumerate(calls, before + 1):
            if number <= MAX_CALLS_PER_TURN:
                engine.put(call)
            else:
                error = f"{number} tool calls in one turn: answer without them"
                engine.session.report(ToolError(error), engine.name)
                engine.refuse_call(call, error)

    # -- what is cut -----------------------------------------------------------------------------------------------

    def interrupt(self, signal: Interrupted) -> None:
        """Nothing of these turns goes out any more, and the provider forgets what was not heard of them."""
        for ask in [ask for ask in self._asked if ask.turn <= signal.turn]:
            ask.void = True
            if not ask.tag:
                self._asked.remove(ask)
                self._expect_no_more(ask)
        if (waiting := self._engine.listening.waiting_unasked) is not None:
            self._expect_no_more(Ask("", signal.turn, waiting, void=True))
        for reply in [*self._kept, *self._active.values()]:
            if reply.turn > signal.turn or reply.void:
                continue
            going_on = reply.provider_id in self._active
            if going_on:
                self._end(reply, "interrupted")
                self._engine.send(partial(_cancel, reply.provider_id))
            reply.void = True
            item = self._engine.session.conversation.get(reply.id)
            if item is None or item.status != "complete":
                self._truncate(reply, item.heard_s if item is not None else 0.0)
            reply.cut.update(reply.items)
            if not going_on:
                self._kept.remove(reply)

    def _truncate(self, reply: Reply, heard_s: float) -> None:
        bytes_per_ms = 2 * self._engine.output_rate / 1000
        left_ms = heard_s * 1000
        for item, size in reply.items.items():
            length_ms = size / bytes_per_ms
            if left_ms < length_ms and item not in reply.cut:
                reply.cut.add(item)
                heard_ms = int(max(0.0, left_ms))
                self._engine.send(partial(_truncate, item, heard_ms))
            left_ms -= length_ms

    def _expect_no_more(self, ask: Ask) -> None:
        # If the caller has spoken since, the next answer is to that.
        if all(utterance is ask.utterance for utterance in self._engine.listening.hearing.utterances):
            ask.sent_at = asyncio.get_running_loop().time()
            self._unwanted = ask

    def forget_expected(self) -> None:
        """The caller goes on to speak: the provider will not answer what it had so far."""
        self._unwanted = None
        self._asked = [ask for ask in self._asked if ask.tag]

    def abandon(self) -> list[Ask]:
        """The connection is gone: what it had begun ends as it is. Returns what the provider had owed by itself."""
        owed = []
        for reply in self._active.values():
            if reply.given and not reply.void:
                self._end(reply, "completed")
                reply.ask.settle("finished")
                self._engine.finished(reply.ask)
                continue
            if not reply.void:
                self._end(reply, "failed", "the connection was lost")
                reply.ask.said = reply.said
                if reply.ask.answer is None:
                    owed.append(reply.ask)
            reply.ask.settle("lost")
        for ask in self._asked:
            if ask.answer is None and not ask.void:
                owed.append(ask)
            ask.settle("lost")
        self._active.clear()
        self._asked.clear()
        self._unwanted = self._cut_last = None
        self._kept.clear()  # the items of a connection that is gone cannot be truncated
        return owed


def _cancel(response: str, dialect: Dialect) -> list[str]:
    return dialect.cancel(response)


def _truncate(item: str, heard_ms: int, dialect: Dialect) -> list[str]:
    return dialect.truncate(item, heard_ms)
