"""`Replies`: turns the replies of a native engine's provider into frames, and pushes them into the pipeline."""

from __future__ import annotations

from collections import deque

from ...errors import ServiceError
from ...frames import BotAudio, BotText, Interrupted, ResponseEnded, ResponseStarted, ResponseStatus
from ...processors.kernel.tasks import loop_time
from ...session.ledger import Ledger
from ..tool_log import log_calls, refused
from .asks import Asks
from .consumption import Consumption
from .dialect import AudioComplete, Called, CallsCancelled, Dialect, ResponseBegan, ResponseFinished, Said, Voiced
from .outlet import Outlet
from .provider import NativeService, Provider
from .reply import Ask, Reply, ReplyOutcome, Stray
from .turns import Turns

KEPT_REPLIES = 64
"""The most finished replies that are kept, because they may still be cut while they are played."""
PROACTIVE_S = 0.3
"""Seconds of audio of the shortest reply that a model may give when it likes to."""
STRAY_S = 1.0
"""Seconds of audio after which a reply that nobody expects is not the end of the reply before."""


class Replies:
    """Turns each reply into the frames of one response.

    After an interruption only the end of a response goes out. The unheard part is removed from the provider's memory,
    if the provider allows that.
    """

    def __init__(
        self,
        service: NativeService,
        provider: Provider,
        consumption: Consumption,
        turns: Turns,
        asks: Asks,
        outlet: Outlet,
    ) -> None:
        self._service = service
        self._session = service.session
        self._provider = provider
        self._consumption = consumption
        self._turns = turns
        self._asks = asks
        self._outlet = outlet
        self._rate = service.capabilities.output_sample_rate
        self._kept: deque[Reply] = deque(maxlen=KEPT_REPLIES)  # of the connection in use
        self._strays = Strays(self, provider, consumption, asks, self._session.ledger, self._rate)

    @property
    def latest(self) -> Reply | None:
        """The latest reply of the connection that has ended."""
        return self._kept[-1] if self._kept else None

    # -- the provider's events -------------------------------------------------------------------------------------

    def on_began(self, event: ResponseBegan) -> None:
        """Begin a reply, and its response unless it is void or a stray."""
        self._consumption.begins()
        dialect, asks = self._provider.dialect, self._asks
        announced = bool(event.tag) or dialect is None or dialect.announces_responses
        if not announced and self._kept and not asks.expects_reply:
            asks.stray = Stray(event.response)
            return
        self.begin(event)

    def begin(self, event: ResponseBegan) -> None:
        """Begin a reply, and its response unless it is void."""
        reply, session = self._asks.begin(event.tag, event.response), self._session
        dialect = self._provider.dialect
        if reply.ask.tag and not event.tag and dialect is not None and dialect.announces_responses:
            # Known by its order alone, from a server that repeats no tags: asked for once more, it may come twice.
            reply.ask.again = True
        if reply.ask.void or reply.turn <= session.floor.fence:
            reply.void = True
            self._cancel(reply)
            return
        reply.id = session.ledger.new_id()
        config = self._service.config
        session.ledger.open(reply.id, reply.turn, config.agent)
        self._outlet.put(ResponseStarted(turn=reply.turn, response_id=reply.id, agent=config.agent, voice=config.voice))

    def on_refused(self, tag: str, failure: str = "") -> None:
        """Take the provider's refusal of the ask with this tag. Without a `failure` another reply was in the way."""
        if tag and self._asks.refuse(tag, failure):
            self._provider.notify()

    def on_said(self, event: Said) -> None:
        """Put out text of a reply."""
        reply = self._asks.active.get(event.response)
        if reply is None:
            self._strays.on_said(event)
        elif event.text:
            reply.text_size += len(event.text)
            self._consumption.running.wrote(len(event.text))
            if not reply.void:
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
            self._strays.on_voiced(event)
            return
        size = len(event.pcm)
        reply.items[event.item] = reply.items.get(event.item, 0) + size
        self._consumption.running.spoke(size / (2 * self._rate))  # also what nobody hears is charged
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
        self._strays.take(event.response)
        reply = self._asks.active.get(event.response)
        if reply is not None and not reply.void:
            reply.calls.append(event)

    def on_calls_cancelled(self, event: CallsCancelled) -> None:
        """Note that the provider no longer takes the results of these calls: they are sent as text."""
        self._session.calls.disown(self._provider.connection, event.call_ids)

    def on_finished(self, event: ResponseFinished) -> None:
        """End a reply and its response, and make its tool calls."""
        self._strays.on_finished(event)
        reply = self._asks.active.pop(event.response, None)
        if reply is None:
            return
        self._consumption.ended(reply, event.usage)
        if reply.void:
            self._truncate(reply, 0.0, event.items if reply.ask.early else ())
            self._finish(reply.ask, "finished")
            return
        self._kept.append(reply)
        self._say(reply, reply.text.flush())
        speaks = (dialect := self._provider.dialect) is None or dialect.speaks
        heard = bool(reply.audio_bytes) if speaks else reply.said
        voiceless = reply.said and not heard
        if voiceless:
            self._session.ledger.unvoiced(reply.id)
        if event.status == "completed":
            self._call(reply)
        failure = _failure(event, reply, dialect, voiceless=voiceless)
        if failure:
            self._session.report(ServiceError(f"no answer: {failure}"), self._service.name)
        # Calls go on with the answer, and the words before them are not repeated.
        failed = bool(failure) and not (event.status == "completed" and reply.calls)
        vain = voiceless and dialect is not None and not dialect.gives_voice
        again = failed and not (heard or vain) and self._asks.may_ask_again(reply.ask, failure)
        self._end(reply, "failed" if failed else event.status, failure or event.reason)
        self._finish(reply.ask, "again" if again else "finished")

    def _finish(self, ask: Ask, outcome: ReplyOutcome) -> None:
        ask.settle(outcome)
        if outcome != "again":
            self._turns.answered(ask.utterance)
            if ask.answer is None:
                self._service.settle(ask.turn)
        elif ask.answer is None:
            self._service.ask_again(ask)
        self._provider.notify()

    def _end(self, reply: Reply, status: ResponseStatus, reason: str = "") -> None:
        self._outlet.put(ResponseEnded(turn=reply.turn, response_id=reply.id, status=status, reason=reason))

    # -- replies that do not end, or did not begin -------------------------------------------------------------------

    def look(self, patience_s: float) -> None:
        """End the replies that have brought nothing for `patience_s` seconds. The provider is asked to stop them."""
        dialect = self._provider.dialect
        if dialect is None:
            return
        for reply in list(self._asks.active.values()):
            if reply.quiet_for_s(2 * self._rate) <= patience_s:
                continue
            self._provider.send(dialect.give_up(reply.provider_id))
            if reply.given and not reply.void:  # only its end is missing
                self.on_finished(ResponseFinished(response=reply.provider_id))
            else:
                reason = f"the model has sent nothing for {patience_s:g} s"
                self.on_finished(ResponseFinished(response=reply.provider_id, status="failed", reason=reason))
        stray = self._asks.stray
        if stray is not None and loop_time() - stray.began_at > patience_s:
            self._asks.drop_stray()

    # -- tools -----------------------------------------------------------------------------------------------------

    def _call(self, reply: Reply) -> None:
        """Log the calls, then make them. Those beyond the limit of the turn are refused. If the model knew of the limit
        before, it is not asked again in this turn.
        """
        service, provider, turn = self._service, self._provider, reply.turn
        asked, owner = service.new_calls(reply.calls, turn), provider.connection
        made, beyond = log_calls(self._session, turn, reply.id, service.config.agent, asked, owner)
        for call in made:
            self._outlet.put(call)
        last, dialect = reply.ask.last, provider.dialect
        if last and dialect is not None and dialect.answers_results:  # it would answer the refusals by itself
            self._session.calls.disown(owner, {call.call_id for call in reply.calls})
        for result in refused(self._session, service.name, beyond, respond=not last):
            service.take_result(result)

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

    def _truncate(self, reply: Reply, heard_s: float, unwanted: tuple[str, ...] = ()) -> None:
        dialect = self._provider.dialect
        reply.cut.update(unwanted)
        self._provider.send(message for item in unwanted if dialect for message in dialect.forget(item))
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
        self._consumption.abandon(going_on=bool(self._asks.active))
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
        self._kept.clear()  # items of a closed connection cannot be truncated
        return owed


class Strays:
    """Keeps the reply that nobody expects until it is clear whether it is one, or the end of the reply before."""

    def __init__(
        self, replies: Replies, provider: Provider, consumption: Consumption, asks: Asks, ledger: Ledger, rate: int
    ) -> None:
        self._replies, self._provider, self._asks = replies, provider, asks
        self._consumption, self._ledger, self._rate = consumption, ledger, rate

    def _named(self, response: str) -> Stray | None:
        stray = self._asks.stray
        return stray if stray is not None and stray.provider_id == response else None

    def on_said(self, event: Said) -> None:
        """Take text of the stray. Without audio before it, it belongs to the reply before, if that is still played."""
        stray = self._named(event.response)
        if stray is None:
            return
        last = self._replies.latest
        if stray.audio_bytes or last is None:
            stray.pieces.append(event)
        elif not last.void and last.text_size:
            self._ledger.add_text(last.id, event.text)

    def on_voiced(self, event: Voiced) -> None:
        """Keep audio of the stray. With enough of it the stray becomes a reply."""
        if (stray := self._named(event.response)) is not None:
            stray.pieces.append(event)
            stray.audio_bytes += len(event.pcm)
            if stray.audio_bytes >= STRAY_S * 2 * self._rate:
                self.take(event.response)

    def on_finished(self, event: ResponseFinished) -> None:
        """Drop the stray at its end, unless the model may speak without being asked."""
        stray, dialect = self._named(event.response), self._provider.dialect
        if stray is None:
            return
        whole = stray.audio_bytes >= PROACTIVE_S * 2 * self._rate
        if whole and dialect is not None and dialect.may_be_silent:
            self.take(event.response)  # the model speaks when it likes to
            return
        self._asks.stray = None
        if event.usage is not None:
            self._consumption.account(event.usage)

    def take(self, response: str) -> None:
        """Make a stray a reply."""
        stray = self._named(response)
        if stray is None:
            return
        self._asks.stray = None
        self._replies.begin(ResponseBegan(response=response))
        for piece in stray.pieces:
            if isinstance(piece, Voiced):
                self._replies.on_voiced(piece)
            else:
                self._replies.on_said(piece)


def _failure(event: ResponseFinished, reply: Reply, dialect: Dialect | None, *, voiceless: bool) -> str:
    """Return the reason why a reply is not the answer that was asked for, "" if it is."""
    if event.status == "failed":
        return event.reason or "the model failed"
    if event.status != "completed":
        return ""
    if voiceless:
        return "the model sent words without a voice"
    silent = not (reply.said or reply.calls) and reply.ask.awaited
    # A request, or the result of a tool, must be answered by every model.
    if silent and (reply.ask.answer is not None or dialect is None or not dialect.may_be_silent):
        return f"the model said nothing{f': {event.reason}' if event.reason else ''}"
    return ""
