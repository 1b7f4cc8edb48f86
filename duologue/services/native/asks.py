"""`Turns`: the caller's turns until each has its transcript and its answer. `Asks`: the replies to them that are owed.

`Asks` asks the provider for replies, and tracks the pending asks and the replies in progress.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from ...audio.pcm import WholeSamples
from ...frames import ToolResult
from ...frames.text import TextPieces
from ...processors.kernel.tasks import loop_time
from ...session.session import Session
from ..answers import MAX_CALLS_PER_TURN
from .audio_ring import AudioRing, Utterance
from .dialect import Called
from .provider import Provider, ProviderMemory

TRANSCRIPT_WAIT_S = 2.0
"""Seconds to wait for the transcript of an answered turn before another engine or connection takes over."""
MAX_LATE = 32
"""The most answered turns that wait for their transcript."""
UNWANTED_S = 5.0
"""Seconds for which a reply that was interrupted before it began is still recognised and discarded."""

ReplyOutcome = Literal["finished", "lost", "again"]

CONTINUE = (
    "The connection broke while you were speaking, and the caller has heard only the beginning of your answer. "
    "Go on from there, without repeating it."
)


class Turns:
    """Tracks the caller's turns. A turn waits until it is answered; its transcript may come even later."""

    def __init__(self, session: Session, ring: AudioRing, provider: Provider) -> None:
        self._session = session
        self._ring = ring
        self._provider = provider
        self._late: deque[Utterance] = deque(maxlen=MAX_LATE)

    @property
    def waiting(self) -> Collection[Utterance]:
        """The turns without an answer, oldest first."""
        return self._ring.utterances

    @property
    def latest_taken(self) -> Utterance | None:
        """The latest complete turn without an answer."""
        return next((turn for turn in reversed(self._ring.utterances) if not turn.open), None)

    @property
    def any_taken(self) -> bool:
        """True if a complete turn has no answer."""
        return any(not turn.open for turn in self._ring.utterances)

    @property
    def latest_understood(self) -> Utterance | None:
        """The latest turn with words and without an answer."""
        return next((turn for turn in reversed(self._ring.utterances) if turn.text), None)

    @property
    def unanswered_items(self) -> set[str]:
        """The ids of the log's items for turns without an answer."""
        return {turn.log_id for turn in self._ring.utterances if turn.log_id}

    @property
    def transcript_is_late(self) -> bool:
        """True while a turn that was answered within `TRANSCRIPT_WAIT_S` may still be transcribed.

        A turn without a place in the log was noise: the provider did not answer it, but something else.
        """
        since = loop_time() - TRANSCRIPT_WAIT_S
        return any(turn.log_id and turn.answered_at > since for turn in self._late)

    def __contains__(self, utterance: Utterance) -> bool:
        return utterance in self._late or utterance in self._ring.utterances

    def find(self, item: str) -> Utterance | None:
        """Return the turn with the provider's id `item`, else the oldest turn without an id and a transcript."""
        turns = [*self._late, *self._ring.utterances]
        named = next((turn for turn in turns if item and turn.item == item), None)
        return named or next((turn for turn in turns if not turn.item and not turn.transcribed), None)

    def name(self, utterance: Utterance) -> str:
        """Return our id of an utterance, which its transcripts and its item of the log carry."""
        utterance.id = utterance.id or self._session.conversation.new_id()
        return utterance.id

    def place(self, utterance: Utterance, turn: int) -> None:
        """Give a turn its number and its place in the log before the transcript arrives."""
        utterance.turn = turn
        if not utterance.log_id:
            utterance.log_id = self._session.conversation.add(
                "message",
                "caller",
                id=self.name(utterance),
                turn=turn,
                at=utterance.start_s,
                ended_at=utterance.end_s,
                status="in_progress",
            ).id

    def take_unasked(self, turn: int) -> Utterance | None:
        """Number the turn that the provider answers by itself, and return it. None if all turns have an answer."""
        utterance = next((u for u in self._ring.utterances if not u.turn or u.text is not None), None)
        if utterance is not None:
            self.place(utterance, turn)
        return utterance

    def answered(self, utterance: Utterance) -> None:
        """Mark a turn and those before it as answered: they need no audio any longer, but may still get transcripts."""
        turns = self._ring.utterances
        for turn in turns[: turns.index(utterance) + 1] if utterance in turns else ():
            self._ring.settle(turn)
            if turn.text is None:
                turn.answered_at = loop_time()
                self._late.append(turn)

    def complete(self, utterance: Utterance, text: str) -> None:
        """Give a turn its final transcript, "" if it holds no words."""
        late = utterance in self._late
        if late:
            self._late.remove(utterance)
        elif utterance.open:
            self._ring.end(utterance, utterance.end_s or self._session.now())
        if text:
            self.place(utterance, utterance.turn or self._session.floor.turn + 1)
            utterance.text = text
            if self._session.conversation.get(utterance.log_id) is not None:
                self._session.conversation.update(utterance.log_id, text=text, status="complete")
        if late or not text:
            self.settle(utterance)

    def settle(self, utterance: Utterance) -> None:
        """Forget a turn that needs nothing more. A turn without a transcript is removed from the log."""
        self._ring.settle(utterance)
        if utterance.text is None:
            self._unplace(utterance)
        self._provider.notify()

    def leave_to_the_log(self) -> bool:
        """Settle the transcribed turns, and remove the others from the log because their audio is sent again.

        Returns True if a transcribed turn has no answer.
        """
        for utterance in self._late:
            self._unplace(utterance)
        self._late.clear()
        understood = [utterance for utterance in self._ring.utterances if utterance.text is not None]
        for utterance in understood:
            self._ring.settle(utterance)
        for utterance in self._ring.utterances:
            utterance.transcribed = False
            if utterance.log_id:
                self._unplace(utterance)
        return bool(understood)

    def _unplace(self, utterance: Utterance) -> None:
        self._session.conversation.remove(utterance.log_id)
        utterance.log_id, utterance.turn, utterance.item = "", 0, ""


@dataclass(slots=True, eq=False)
class Ask:
    """A reply that was asked for, or that the provider is expected to begin by itself; the latter has no `tag`."""

    tag: str
    turn: int
    utterance: Utterance | None = None
    """The latest of the caller's turns that it answers."""
    sent_at: float = 0.0
    """Loop time at which it was sent, or at which the provider began to owe the reply."""
    void: bool = False
    """True once the caller has interrupted: the reply is stopped if it begins."""
    answer: asyncio.Future[ReplyOutcome] | None = None
    """The outcome, for the task that asked."""
    said: bool = False
    """True if part of the reply was said before the connection was lost."""
    last: bool = False
    """True if its turn has reached the limit of tool calls, and the model was told."""

    def settle(self, outcome: ReplyOutcome) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(slots=True, eq=False)
class Reply:
    """A reply that has begun."""

    provider_id: str
    ask: Ask
    turn: int
    id: str = ""
    """The id of the response, "" if none was opened."""
    void: bool = False
    """True once its output is dropped."""
    said: bool = False
    """True once part of it has gone out."""
    given: bool = False
    """True once all its audio has come."""
    audio_bytes: int = 0
    """Bytes of audio that have gone out."""
    items: dict[str, int] = field(default_factory=dict)
    """Bytes of audio received for each of the provider's items, in order."""
    cut: set[str] = field(default_factory=set)
    """The items that were truncated."""
    calls: list[Called] = field(default_factory=list)
    text: TextPieces = field(default_factory=TextPieces)
    whole: WholeSamples = field(default_factory=WholeSamples)


class Asks:
    """Asks for one reply at a time. Replies that nobody asked for begin in the order of the caller's turns."""

    def __init__(self, session: Session, provider: Provider, turns: Turns, memory: ProviderMemory) -> None:
        self.active: dict[str, Reply] = {}
        """The replies in progress, by the provider's id."""
        self._session = session
        self._provider = provider
        self._turns = turns
        self._memory = memory
        self._open: list[Ask] = []  # pending asks, oldest first
        self._tags = 0
        self._begun = 0  # the number of replies that have begun
        self._unwanted: Ask | None = None  # interrupted before the provider began the reply by itself
        # The numbers of results, by turn, that went to the connection that made the calls.
        self._results_given: Counter[int] = Counter()

    @property
    def busy(self) -> bool:
        """True while the provider answers, or is about to answer a request or a turn."""
        return bool(self._open or self.active)

    @property
    def waits_for_tools(self) -> bool:
        """True while the connection in use waits for tool results."""
        connection = self._provider.connection
        return connection is not None and self._session.calls.owned(connection)

    @property
    def goes_on(self) -> bool:
        """True while the model answers, or will answer without a request."""
        return self.busy or self.waits_for_tools or bool(self._results_given) or self._turns.any_taken

    @property
    def waits_since(self) -> float | None:
        """Loop time of the oldest pending ask, None without one."""
        return min((ask.sent_at for ask in self._open), default=None)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def go_on(self, turn: int) -> bool:
        """Continue a turn with the results of its tools. Returns False if no connection is left."""
        dialect, by_itself = self._provider.dialect, False
        begun, given = self._begun, self._results_given[turn]
        if given and dialect is not None and dialect.answers_results:
            by_itself = True
        else:
            await self._provider.until(lambda: not (self.busy or self._turns.waiting) or self._provider.given_up)
            if self._begun > begun:
                self._forget_given(turn, given)
                return True  # the caller spoke meanwhile, and the answer to that included the results
        try:
            return await self.ask(turn, by_itself=by_itself)
        finally:
            self._forget_given(turn, given)

    def _forget_given(self, turn: int, given: int) -> None:
        """Forget the results of a turn that the model has answered, unless there are newer ones."""
        if self._results_given[turn] == given:
            del self._results_given[turn]

    async def ask(self, turn: int, extra: str = "", *, tool_choice: str = "", by_itself: bool = False) -> bool:
        """Get a response for a turn, with `extra` instructions. Returns False if no connection is left.

        Returns when the provider has sent the whole response. With `by_itself` the provider begins without a request.
        Asks again if the connection is lost meanwhile, and once if the provider fails before it says anything.
        """
        provider, failures = self._provider, 0
        while True:
            await provider.until(lambda: provider.given_up or (provider.connection is not None and not self.busy))
            connection = provider.connection
            if connection is None:
                return False
            answer: asyncio.Future[ReplyOutcome] = asyncio.get_running_loop().create_future()
            ask = Ask("", turn, self._turns.latest_taken, sent_at=loop_time(), answer=answer)
            self._open.append(ask)
            calls = self._session.calls.asked_in(turn)
            # A provider that goes on by itself has been told once it has the refusal of a call beyond the limit.
            ask.last = calls > MAX_CALLS_PER_TURN if by_itself else calls >= MAX_CALLS_PER_TURN
            if not by_itself:
                self._tags += 1
                ask.tag = f"ask_{self._tags}"
                connection.send(self._memory.take_due(connection.dialect))
                choice = "none" if ask.last else tool_choice
                connection.send(connection.dialect.respond(ask.tag, extra, choice))
            try:
                outcome = await answer
            finally:
                ask.void = True  # for a wait that was cancelled before the reply began
            if outcome == "finished" or (outcome == "again" and failures):
                return True
            if outcome == "lost" and CONTINUE in extra and self._spoken_since(ask):
                return True  # the newer turn will be answered
            failures += outcome == "again"
            by_itself = False
            if ask.said and CONTINUE not in extra:
                extra = f"{extra}\n\n{CONTINUE}".strip()

    def _spoken_since(self, ask: Ask) -> bool:
        """Return True if the caller has begun another turn since the one that the ask answers."""
        return any(utterance is not ask.utterance for utterance in list(self._turns.waiting)[-1:])

    def give_result(self, result: ToolResult) -> bool:
        """Send a result to the connection that waits for it. Returns False if none is waiting."""
        provider_id = self._session.calls.claim(result.call_id, self._provider.connection)
        if provider_id is None:
            return False
        self._results_given[result.turn] += 1
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.tool_result(provider_id, result.name, result.result, respond=result.respond))
        return True

    # -- expected replies ------------------------------------------------------------------------------------------

    def expect(self, turn: int, utterance: Utterance | None) -> None:
        """Expect the provider to answer the caller's turn by itself."""
        self._unwanted = None
        self._open.append(Ask("", turn, utterance, sent_at=loop_time()))

    def expect_none(self) -> None:
        """Expect no unasked answer: the caller goes on speaking, and the provider waits for the rest of the turn."""
        self._unwanted = None
        self._open = [ask for ask in self._open if ask.tag]

    def begin(self, tag: str, provider_id: str) -> Reply:
        """Begin a reply. Its tag, or without one its order, identifies the ask that it answers."""
        ask = self._take(tag) or self._unasked()
        reply = Reply(provider_id, ask, ask.turn)
        if not ask.tag:  # one reply at a time: the provider has refused those it was asked for
            self.refuse()
        self._begun += 1
        self.active[provider_id] = reply
        return reply

    def _take(self, tag: str) -> Ask | None:
        ask = next((ask for ask in self._open if ask.tag == tag), None)
        if ask is None:
            ask, self._unwanted = self._unwanted, None
            return ask if ask is not None and loop_time() - ask.sent_at < UNWANTED_S else None
        self._open.remove(ask)
        return ask

    def _unasked(self) -> Ask:
        """Return the ask for an unexpected reply."""
        turn = self._session.floor.begin()
        return Ask("", turn, self._turns.take_unasked(turn))

    def refuse(self, tag: str = "") -> bool:
        """Give up the ask with this tag, or every tagged ask if `tag` is "". Returns True if there was one."""
        refused = [ask for ask in self._open if ask.tag and ask.tag == (tag or ask.tag)]
        for ask in refused:
            self._open.remove(ask)
            ask.settle("again")
        return bool(refused)

    # -- void replies ----------------------------------------------------------------------------------------------

    def interrupt(self, turn: int) -> None:
        """Void the pending asks of all turns up to this one."""
        for ask in [ask for ask in self._open if ask.turn <= turn]:
            ask.void = True
            if not ask.tag:
                self._open.remove(ask)
                self.expect_unwanted(ask)

    def expect_unwanted(self, ask: Ask) -> None:
        """Expect a void reply, unless the caller has spoken since: then the next reply answers the newer speech."""
        if all(utterance is ask.utterance for utterance in self._turns.waiting):
            ask.sent_at = loop_time()
            self._unwanted = ask

    def abandon(self) -> list[Ask]:
        """Forget a connection that has ended. Returns the asks that the provider still owed by itself."""
        owed = [ask for ask in self._open if ask.answer is None and not ask.void]
        for ask in self._open:
            ask.settle("lost")
        self._open.clear()
        self.active.clear()
        self._results_given.clear()
        self._unwanted = None
        return owed
