"""`Replies`: turns the replies of a native engine's provider into frames, and pushes them into the pipeline."""

from __future__ import annotations

from collections import deque

import msgspec

from ...errors import ConfigurationError, ServiceError
from ...frames import (
    BotAudio,
    BotText,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    Usage,
)
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from ..sentences import SentenceSplitter
from .asks import Ask, Asks, Reply, ReplyOutcome, Turns
from .audio_ring import AudioRing
from .dialect import AudioComplete, Called, CallsCancelled, ResponseBegan, ResponseFinished, Said, Voiced
from .provider import NativeService, Provider

KEPT_REPLIES = 64
"""The most finished replies that are kept, because they may still be cut while they are played."""
MAX_SPEECH = 16_384
"""The most frames of speech that wait for the playout. Further speech is refused, a response's brackets never."""
MAX_SENTENCES = 256
"""The most sentences that wait for a hook."""


class Replies:
    """Turns each reply into the frames of one response.

    After an interruption only the end of a response goes out. The unheard part is removed from the provider's memory,
    if the provider allows that.
    """

    def __init__(
        self, service: NativeService, provider: Provider, ring: AudioRing, turns: Turns, asks: Asks, outlet: Outlet
    ) -> None:
        self._service = service
        self._session = service.session
        self._provider = provider
        self._ring = ring
        self._turns = turns
        self._asks = asks
        self._outlet = outlet
        self._rate = service.capabilities.output_sample_rate
        self._kept: deque[Reply] = deque(maxlen=KEPT_REPLIES)
        self._cut_last: Reply | None = None  # a cut reply that has ended, but whose consumption is still to come

    # -- the provider's events -------------------------------------------------------------------------------------

    def on_began(self, event: ResponseBegan) -> None:
        """Begin a reply, and its response unless it is void."""
        self._cut_last = None
        reply, session = self._asks.begin(event.tag, event.response), self._session
        if reply.ask.void or reply.turn <= session.floor.fence:
            reply.void = True
            self._cancel(reply)
            return
        reply.id = session.ledger.new_id()
        config = self._service.config
        session.ledger.open(reply.id, reply.turn, config.agent)
        self._outlet.put(ResponseStarted(turn=reply.turn, response_id=reply.id, agent=config.agent, voice=config.voice))

    def on_refused(self, tag: str) -> None:
        """Take the provider's refusal of the ask with this tag."""
        if tag and self._asks.refuse(tag):
            self._provider.notify()

    def on_said(self, event: Said) -> None:
        """Put out text of a reply."""
        reply = self._asks.active.get(event.response)
        if reply is not None and not reply.void and event.text:
            self._say(reply, reply.text.feed(event.text))

    def _say(self, reply: Reply, text: str) -> None:
        if text:
            reply.said = True
            self._session.ledger.add_text(reply.id, text)
            self._outlet.put(BotText(turn=reply.turn, response_id=reply.id, text=text))

    def on_voiced(self, event: Voiced) -> None:
        """Put out audio of a reply."""
        reply = self._asks.active.get(event.response)
        if reply is None or not event.pcm:
            return
        size = len(event.pcm)
        reply.items[event.item] = reply.items.get(event.item, 0) + size
        if reply.void:
            return
        reply.said = True
        reply.audio_bytes += size
        if pcm := reply.whole.take(event.pcm):
            self._outlet.put(BotAudio(turn=reply.turn, response_id=reply.id, audio=pcm, sample_rate=self._rate))

    def on_given(self, event: AudioComplete) -> None:
        """Mark a reply's audio as complete: a loss of the connection no longer breaks the reply off."""
        if reply := self._asks.active.get(event.response):
            reply.given = True

    def on_called(self, event: Called) -> None:
        """Keep a reply's tool call until the reply is over."""
        reply = self._asks.active.get(event.response)
        if reply is not None and not reply.void:
            reply.calls.append(event)

    def on_calls_cancelled(self, event: CallsCancelled) -> None:
        """Note that the provider no longer takes the results of these calls: they are sent as text."""
        self._session.calls.disown(self._provider.connection, event.call_ids)

    def on_finished(self, event: ResponseFinished) -> None:
        """End a reply and its response, and make its tool calls."""
        reply = self._asks.active.pop(event.response, None)
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
        self._say(reply, reply.text.flush())
        if event.status == "completed":
            self._call(reply)
        elif event.status == "failed":
            error = ServiceError(f"no answer: {event.reason or 'the model failed'}")
            self._session.report(error, self._service.name)
        self._end(reply, event.status, event.reason)
        self._finish(reply.ask, "again" if event.status == "failed" and not reply.said else "finished")

    def on_consumed(self, usage: Usage) -> None:
        """Take consumption that is not reported with a reply: that of a cut reply, or of a transcript."""
        reply = self._cut_last
        if reply is not None and usage.model in ("", self._service.model):
            self._cut_last = None
            usage = self._with_reply(usage, reply)
        self._account(usage)

    def _account(self, usage: Usage) -> None:
        """Broadcast consumption. For the engine's own model it includes the audio sent since the last report."""
        service = self._service
        if usage.model in ("", service.model):
            sent_s = self._ring.uplink.take_sent_s()
            usage = msgspec.structs.replace(usage, model=service.model, input_audio_s=sent_s)
        service.broadcast(msgspec.structs.replace(usage, service=service.name))

    def _with_reply(self, usage: Usage, reply: Reply) -> Usage:
        audio_s = reply.audio_bytes / (2 * self._rate)
        return msgspec.structs.replace(usage, turn=reply.turn, response_id=reply.id, output_audio_s=audio_s)

    def _finish(self, ask: Ask, outcome: ReplyOutcome) -> None:
        ask.settle(outcome)
        if ask.utterance is not None:
            self._turns.answered(ask.utterance)
        if ask.answer is None:
            self._service.settle(ask.turn)
        self._provider.notify()

    def _end(self, reply: Reply, status: ResponseStatus, reason: str = "") -> None:
        self._outlet.put(ResponseEnded(turn=reply.turn, response_id=reply.id, status=status, reason=reason))

    # -- tools -----------------------------------------------------------------------------------------------------

    def _call(self, reply: Reply) -> None:
        """Log the calls, then make them. Those beyond the limit of the turn are refused.

        If the model was told of the limit before, it is not asked again in this turn.
        """
        service, provider, turn = self._service, self._provider, reply.turn
        made = service.log_calls(turn, reply.id, service.config.agent, reply.calls, provider.connection)
        allowed = service.allowed(turn, made)
        for call in allowed:
            self._outlet.put(call)
        last, dialect = reply.ask.last, provider.dialect
        if last and dialect is not None and dialect.answers_results:  # it would answer the refusals by itself
            self._session.calls.disown(provider.connection, {call.call_id for call in reply.calls})
        service.refuse(made[len(allowed) :], respond=not last)

    # -- cut replies -----------------------------------------------------------------------------------------------

    def interrupt(self, signal: Interrupted) -> None:
        """Stop the replies of these turns, and remove their unheard part from the provider's memory."""
        self._asks.interrupt(signal.turn)
        for reply in [*self._kept, *self._asks.active.values()]:
            if reply.turn > signal.turn or reply.void:
                continue
            going_on = reply.provider_id in self._asks.active
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
        """End each reply as it is, without its connection. Returns the asks that the provider still owed by itself."""
        owed: list[Ask] = []
        for reply in self._asks.active.values():
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
        self._cut_last = None
        self._kept.clear()  # items of a closed connection cannot be truncated
        return owed


class Outlet:
    """Pushes output in order, in a task of its own: the playout may make it wait, but never the provider's reader.

    Each response is bracketed: a `ResponseEnded` follows a `ResponseStarted` that was pushed, and no other.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        # A lane refuses frames beyond four times its capacity. Only brackets and tool calls may exceed MAX_SPEECH.
        self._lane = DrainableLane(owner, MAX_SPEECH)
        self._begun: set[str] = set()  # responses whose ResponseStarted was pushed
        self._sentences = SpokenSentences(owner)
        self._refused = ""  # the latest response with refused speech

    def put(self, frame: Output) -> None:
        """Queue a frame. Never waits. Speech beyond `MAX_SPEECH` frames is refused, and reported once per response."""
        if isinstance(frame, BotAudio) and len(self._lane) < MAX_SPEECH:  # the most frequent frame
            self._lane.put(self._owner.push, frame)
            return
        if isinstance(frame, BotText):
            self._sentences.add(frame)
        elif isinstance(frame, ResponseStarted | ResponseEnded):
            if isinstance(frame, ResponseEnded):
                self._sentences.end(frame)
            self._lane.put_up(self._push_bracket, frame)
            return
        if len(self._lane) < MAX_SPEECH or not isinstance(frame, BotAudio | BotText):
            self._lane.put_up(self._owner.push, frame)
        elif self._refused != frame.response_id:
            self._refused = frame.response_id
            error = f"{MAX_SPEECH} frames of speech wait for the playout: the rest of the response is dropped"
            self._session.report(ServiceError(error), self._owner.name)

    async def _push_bracket(self, frame: ResponseStarted | ResponseEnded) -> None:
        fence = self._session.floor.fence
        if isinstance(frame, ResponseStarted):
            if frame.turn > fence:
                self._begun.add(frame.response_id)
        elif frame.response_id not in self._begun:
            return  # it was interrupted before its ResponseStarted was pushed
        else:
            self._begun.remove(frame.response_id)
            if frame.turn <= fence:
                frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self._owner.push(frame)

    async def drain(self) -> None:
        """Wait until all queued frames have been pushed."""
        await self._lane.drain()

    def close(self) -> None:
        """Drop the queued frames."""
        self._sentences.close()
        self._lane.close()


class SpokenSentences:
    """Asks the hooks about one sentence at a time, in a task of its own: the provider's reader does not wait.

    The audio of a sentence arrives before its text is known, and cannot be changed. If a hook blocks the sentence, the
    response is interrupted, and its remaining audio is not played. If a hook changes the sentence, an error is reported
    and the sentence stays.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        self._lane = DrainableLane(owner, MAX_SENTENCES)
        self._splitter: SentenceSplitter | None = None
        self._response_id = ""  # the response whose sentences are being split

    def add(self, frame: BotText) -> None:
        """Add text of a response."""
        if not self._session.hooks.has(BotText):
            return
        if self._splitter is None or frame.response_id != self._response_id:
            self._splitter, self._response_id = SentenceSplitter(), frame.response_id
        for sentence in self._splitter.feed(frame.text):
            self._put(msgspec.structs.replace(frame, text=sentence))

    def end(self, frame: ResponseEnded) -> None:
        """End a response: the rest of its text counts as a sentence."""
        if self._splitter is None or frame.response_id != self._response_id:
            return
        rest, self._splitter = self._splitter.flush(), None
        if rest.strip():
            self._put(BotText(turn=frame.turn, response_id=frame.response_id, text=rest))

    def _put(self, sentence: BotText) -> None:
        self._lane.put_up(self._ask, sentence)

    async def _ask(self, sentence: BotText) -> None:
        name, report = self._owner.name, self._session.report
        allowed = await self._session.hooks.sentence(sentence)
        if allowed is None:
            ledger = self._session.ledger
            if any(response.id == sentence.response_id for response in ledger.unsettled):
                self._session.interrupt("blocked")
            else:
                report(ServiceError("a hook blocked a sentence after it had been heard"), name, sentence)
        elif allowed.text != sentence.text:
            error = f"{name} has spoken a sentence before its text is known: a hook can block it, not change it"
            report(ConfigurationError(error), name, sentence)

    def close(self) -> None:
        """Stop asking the hooks."""
        self._lane.close()
