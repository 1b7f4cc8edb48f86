"""`Asks`: asks the provider for replies, and tracks the pending asks and the replies in progress."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

import anyio

from ...errors import ServiceError
from ...frames import ToolResult
from ...processors.kernel.tasks import loop_time
from ...session.session import Session
from ...session.tool_calls import RegisteredCall
from ..remote.connection import Connection
from ..remote.errors import named_wait_s
from ..tool_log import MAX_CALLS_PER_TURN
from .audio_ring import Utterance
from .dialect import Dialect
from .provider import Provider, ProviderMemory
from .reply import Ask, Reply, ReplyOutcome, Stray
from .turns import Turns

UNWANTED_S = 5.0
"""Seconds for which a reply that was interrupted before it began is still recognised and discarded."""
MAX_WAIT_S = 10.0
"""The longest time that a provider may name before it is asked once more, in seconds."""
MAX_LOSSES = 2
"""The most losses of a connection after which the same reply is asked for on the next one."""
MAX_CROSSED = 3
"""The most requests for one reply that may cross another reply of the provider."""
CROSSED_S = 0.25
"""Seconds before the next request after the first that crossed another reply; twice as long after the second."""
CONTINUE = (
    "The connection broke while you were speaking, and the caller has heard only the beginning of your answer. "
    "Go on from there, without repeating it."
)


class Results:
    """Gives results to the connection that made the calls, and counts by turn those that no answer includes yet."""

    def __init__(self, session: Session, provider: Provider) -> None:
        self._session = session
        self._provider = provider
        self._given: Counter[int] = Counter()
        self._begun_before: dict[int, int] = {}  # by turn, at its latest result
        self.begun = 0
        """The number of replies that have begun."""

    @property
    def awaited(self) -> bool:
        """True while the connection in use waits for a result."""
        connection = self._provider.connection
        return connection is not None and self._session.calls.owned(connection)

    @property
    def given(self) -> bool:
        """True while a result that was given has no answer."""
        return bool(self._given)

    def of(self, turn: int) -> int:
        """Return the number of results of a turn that were given and have no answer."""
        return self._given[turn]

    def give(self, result: ToolResult) -> bool:
        """Send a result to the connection that waits for it. Returns False if none is waiting."""
        provider_id = self._session.calls.claim(result.call_id, self._provider.connection)
        if provider_id is None:
            return False
        self._given[result.turn] += 1
        self._begun_before[result.turn] = self.begun
        if (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.tool_result(provider_id, result.name, result.result, respond=result.respond))
        return True

    def give_again(self, call: RegisteredCall, turn: int) -> ToolResult | None:
        """Let the connection in use have the result of a call that it tells again: now, or when it comes.

        Returns the result that was sent, None if it is still to come. An answer to it is due in this turn.
        """
        call.owner = self._provider.connection
        if (result := self._session.conversation.get(call.result_id)) is None:
            return None
        frame = ToolResult(call_id=call.id, name=call.name, turn=turn, result=result.data)
        self.give(frame)
        return frame

    def answered_by_itself(self, turn: int) -> bool:
        """Return True if the provider answers the results of a turn that were given without a request."""
        dialect = self._provider.dialect
        return dialect is not None and dialect.answers_results and self._given[turn] > 0

    def no_reply_since(self, turn: int) -> bool:
        """Return True if results of a turn were given, and no reply has begun since."""
        return self._given[turn] > 0 and self._begun_before[turn] == self.begun

    def forget(self, turn: int, given: int) -> None:
        """Forget the results of a turn that the model has answered, unless there are more than these."""
        if self._given[turn] == given:
            del self._given[turn]
            self._begun_before.pop(turn, None)

    def clear(self) -> None:
        """Forget the results of a connection that has ended."""
        self._given.clear()
        self._begun_before.clear()


class EarlyAnswer(Protocol):
    """The part of `Early` that `Asks` uses."""

    def make_way(self, utterance: Utterance | None, *, plain: bool) -> None: ...
    def take(self, ask: Ask) -> bool: ...


class Asks:
    """Asks for one reply at a time. Replies that nobody asked for begin in the order of the caller's turns."""

    def __init__(self, session: Session, provider: Provider, turns: Turns, memory: ProviderMemory) -> None:
        self.active: dict[str, Reply] = {}
        """The replies in progress, by the provider's id."""
        self.stray: Stray | None = None
        self.early: EarlyAnswer
        self.results = Results(session, provider)
        self._session = session
        self._provider = provider
        self._turns = turns
        self._memory = memory
        self._open: list[Ask] = []  # pending asks, oldest first
        self._tags = 0
        self._unwanted: Ask | None = None  # interrupted before the provider began the reply by itself
        self._echoes = False  # True once the provider has repeated a tag

    @property
    def busy(self) -> bool:
        """True while the provider answers, or is about to answer a request or a turn."""
        return bool(self._open or self.active)

    @property
    def _free(self) -> bool:
        """True if a request can be sent: nothing is in progress, or only what nobody wants and the request stops."""
        stops = (dialect := self._provider.dialect) is not None and dialect.requests_stop
        return not self._open and (stops or not self.active) and all(reply.void for reply in self.active.values())

    @property
    def goes_on(self) -> bool:
        """True while the model answers, or will answer without a request."""
        return self.busy or self.results.awaited or self.results.given or self._turns.any_taken

    @property
    def waits_since(self) -> float | None:
        """Loop time of the oldest pending ask, None without one."""
        return min((ask.sent_at for ask in self._open), default=None)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def go_on(self, turn: int) -> bool:
        """Continue a turn with the results of its tools. Returns False if no connection is left."""
        begun, given = self.results.begun, self.results.of(turn)
        by_itself = self.results.answered_by_itself(turn)
        if not by_itself:
            await self._provider.until(lambda: not (self.busy or self._turns.waiting) or self._provider.given_up)
            if self.results.begun > begun:
                self.results.forget(turn, given)
                return True  # the caller spoke meanwhile, and the answer to that included the results
        try:
            return await self.ask(turn, by_itself=by_itself)
        finally:
            self.results.forget(turn, given)

    async def ask(
        self,
        turn: int,
        extra: str = "",
        *,
        tool_choice: str = "",
        spoken: Utterance | None = None,
        by_itself: bool = False,
        again: bool = False,
    ) -> bool:
        """Get a response for a turn, with `extra` instructions. Returns False if no connection is left.

        Returns when the provider has sent the whole response, or has answered `spoken`, a turn of the caller, before it
        was asked. With `by_itself` the provider begins without a request.

        Asks anew if the connection is lost meanwhile, and once more, unless this is asked `again`, if the reply fails
        unheard and the caller has neither spoken nor written since.
        """
        provider, crossed, losses = self._provider, 0, 0
        while True:
            self.early.make_way(self._turns.latest_taken, plain=not (by_itself or extra or tool_choice))
            provider.want()
            await provider.until(lambda: provider.given_up or (provider.connection is not None and self._free))
            connection = provider.connection
            if connection is None:
                return False
            if spoken is not None and spoken not in self._turns.waiting:
                return True  # the provider has answered it by itself meanwhile
            spoken = None
            self.drop_stray()
            ask = self._expected(turn, by_itself=by_itself, again=again)
            if not (by_itself or self.early.take(ask)):
                self._send(ask, connection, extra, tool_choice)
            assert ask.answer is not None
            try:
                outcome = await ask.answer
            finally:
                ask.void = True  # for a wait that was cancelled before the reply began
            by_itself = False
            if outcome == "finished":
                return True
            if outcome == "again":
                if not await self._may_go_on_after(ask):
                    return True
                again = True
            elif outcome == "crossed":
                crossed += 1
                if crossed > MAX_CROSSED:
                    self._turns.answered(ask.utterance)
                    raise ServiceError(f"no answer: the provider has not taken {crossed} requests")
                await anyio.sleep(CROSSED_S * crossed)
            else:
                losses += 1
                if losses > MAX_LOSSES:
                    self._turns.answered(ask.utterance)
                    raise ServiceError(f"no answer: {losses} connections were lost before it was there")
                if CONTINUE in extra and any(turn is not ask.utterance for turn in list(self._turns.waiting)[-1:]):
                    return True  # the caller has begun another turn, which will be answered
                if ask.said and CONTINUE not in extra:
                    extra = f"{extra}\n\n{CONTINUE}".strip()

    async def ask_once_more(self, failed: Ask) -> bool:
        """Get the response that the provider has failed to give by itself. Returns False if no connection is left."""
        return not await self._may_go_on_after(failed) or await self.ask(failed.turn, again=True)

    def _expected(self, turn: int, *, by_itself: bool, again: bool) -> Ask:
        """Add an ask whose outcome this task waits for."""
        answer: asyncio.Future[ReplyOutcome] = asyncio.get_running_loop().create_future()
        utterance, moves = self._turns.latest_taken, self._turns.moves
        ask = Ask("", turn, utterance, sent_at=loop_time(), answer=answer, again=again, moves=moves)
        calls = self._session.calls.asked_in(turn)
        # Going on by itself, a provider knows the limit once it has the refusal of a call beyond it.
        ask.last = calls > MAX_CALLS_PER_TURN if by_itself else calls >= MAX_CALLS_PER_TURN
        self._open.append(ask)
        return ask

    def _send(self, ask: Ask, connection: Connection[Dialect], extra: str, tool_choice: str) -> None:
        self._tags += 1
        ask.tag = f"ask_{self._tags}"
        connection.send(self._memory.take_due(connection.dialect))
        connection.send(connection.dialect.respond(ask.tag, extra, "none" if ask.last else tool_choice))

    def may_ask_again(self, ask: Ask, failure: str) -> bool:
        """Return True if a reply that failed unheard is to be asked for once more."""
        ask.wait_s = named_wait_s(failure)
        stands = ask.awaited and not (ask.void or ask.again) and ask.turn > self._session.floor.fence
        return stands and ask.wait_s <= MAX_WAIT_S and ask.moves == self._turns.moves

    async def _may_go_on_after(self, failed: Ask) -> bool:
        """Wait as long as the provider wants. Returns False if the caller has spoken or written meanwhile."""
        await anyio.sleep(failed.wait_s)
        if failed.moves == self._turns.moves:
            return True
        self._turns.answered(failed.utterance)
        return False

    # -- expected replies ------------------------------------------------------------------------------------------

    def expect(self, turn: int, utterance: Utterance | None, *, unwanted: str = "") -> None:
        """Expect the provider to answer the caller's turn by itself, or to begin the reply with the tag `unwanted`."""
        self._unwanted, void = None, bool(unwanted)
        self._open.append(Ask(unwanted, turn, utterance, loop_time(), void, moves=self._turns.moves, early=void))

    def expect_none(self) -> None:
        """Expect no unasked answer: the caller goes on speaking, and the provider waits for the rest of the turn."""
        self._unwanted = None
        self._open = [ask for ask in self._open if ask.tag]

    def caller_moved(self) -> None:
        """Note that the caller has begun to speak, or has written."""
        self._turns.moves += 1
        self.drop_stray()

    @property
    def expects_reply(self) -> bool:
        """True if a reply is due: one was asked for, or the caller has spoken."""
        return bool(self._open or self._turns.waiting or self._unwanted is not None)

    def begin(self, tag: str, provider_id: str) -> Reply:
        """Begin a reply. Its tag, or without one its order, identifies the ask that it answers."""
        self._echoes = self._echoes or bool(tag)
        ask = self._take(tag) or self._unasked()
        reply = Reply(provider_id, ask, ask.turn)
        if not ask.tag:  # one reply at a time: the provider has refused those it was asked for
            self.refuse()
        self.results.begun += 1
        self.active[provider_id] = reply
        return reply

    def _take(self, tag: str) -> Ask | None:
        ask = next((ask for ask in self._open if ask.tag == tag), None)
        if self._open and not (tag or self._echoes):
            ask = self._open[0]  # a provider that repeats no tags
        if ask is None:
            ask, self._unwanted = self._unwanted, None
            return ask if ask is not None and loop_time() - ask.sent_at < UNWANTED_S else None
        self._open.remove(ask)
        return ask

    def _unasked(self) -> Ask:
        """Return the ask for an unexpected reply."""
        turn = self._session.floor.begin(protected=self._provider.uninterruptible)
        return Ask("", turn, self._turns.take_unasked(turn), moves=self._turns.moves)

    def refuse(self, tag: str = "", failure: str = "") -> bool:
        """Take the refusal of the ask with this tag, or of every tagged ask if `tag` is "".

        Without the reason of a `failure` another reply is in the way. Returns True if an ask was refused.
        """
        refused = [ask for ask in self._open if ask.tag and ask.tag == (tag or ask.tag)]
        for ask in refused:
            self._open.remove(ask)
            if not failure:
                ask.settle("crossed")
            elif self.may_ask_again(ask, failure):
                ask.settle("again")
            else:
                self._turns.answered(ask.utterance)
                ask.settle("finished")
        return bool(refused)

    def drop_stray(self) -> None:
        """Drop a stray: it was the end of the reply before."""
        stray, self.stray = self.stray, None
        if stray is not None and (dialect := self._provider.dialect) is not None:
            self._provider.send(dialect.give_up(stray.provider_id))

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
        self.results.clear()
        self._unwanted = self.stray = None
        return owed
