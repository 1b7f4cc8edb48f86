"""`History`: the part of the call that a request carries. `Summary`: when older turns are summarised."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import msgspec

from ..errors import ConfigurationError, ServiceError
from ..frames import Signal, Usage
from ..processors.kernel.host import LaneOwner
from ..processors.kernel.tasks import Stopped, Work
from ..session.item import Item, byte_length
from .answering import Pieces, Spending, Spent
from .context import BYTES_PER_TOKEN, Budget, LogPart, Message, Request, newest_part, own_since, rendered
from .thoughts import ModelText, ThoughtsGiven, begins_with_thoughts

log = logging.getLogger("duologue")

KEPT = 0.6
"""The part of a budget that is kept when older turns must go. So they go rarely, and a provider's cache stays valid."""

SUMMARISE = (
    "You keep the notes of a telephone call. Summarise the conversation so far for the agent that goes on with it: the"
    " caller's name and details, what they want, what was agreed, results of tools, and what is still open. Give names,"
    " numbers and dates exactly. Write in the language of the conversation, without an introduction."
)
"""The default instructions for a summary."""
_ASK = "Summarise the conversation up to here."
_HEADING = "Summary of the call up to here:"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """When the older turns of a call are replaced by a summary in the requests. The log keeps all of them.

    Once the turns of a request have more than `above_tokens`, the model is asked, beside the call, to summarise all but
    the newest `keep_tokens`. Until it has answered, requests carry the turns themselves: no answer waits for a summary.
    A summary longer than `max_characters` is cut. Tokens are estimated as `BYTES_PER_TOKEN` bytes.

    Raises ConfigurationError unless 0 <= keep_tokens < above_tokens.
    """

    above_tokens: int = 12_000
    keep_tokens: int = 4_000
    max_characters: int = 4_000
    instructions: str = SUMMARISE

    def __post_init__(self) -> None:
        if not 0 <= self.keep_tokens < self.above_tokens or self.max_characters < 1:
            raise ConfigurationError("a summary needs 0 <= keep_tokens < above_tokens, and max_characters above 0")


class Teller(LaneOwner, Protocol):
    """The part of an `LLM` that its history uses."""

    model: str
    timeout_s: float
    thinks_first: bool | None
    budget: Budget
    summary: Summary | None
    spending: Spending
    spent: Spent

    @property
    def session(self) -> Any: ...
    def ask(self, request: Request) -> Pieces: ...
    def broadcast(self, signal: Signal) -> None: ...
    def spawn(self, function: Any, *args: Any) -> None: ...


class History:
    """The messages of each request: the summary of older turns if there is one, and the newest turns.

    Requests of one call begin alike, so that a provider's prompt cache serves them: turns that do not fit go rarely,
    and many at once.
    """

    def __init__(self, llm: Teller) -> None:
        self.summary = ""
        """The summary of the turns before the first that is sent."""
        self._llm = llm
        self._since = ""  # the id of the first item that is sent
        self._agent = ""
        self._work: Work[None] | None = None  # the summary in progress
        self._again_at = 0  # the size of the turns, in bytes, before which no summary is tried again

    def messages(self, guess: str = "") -> tuple[Message, ...]:
        """Return the messages for the next request. `guess` are words of the caller that are not in the log yet."""
        llm, session = self._llm, self._llm.session
        self._follow_agent()
        part = newest_part(session.conversation, session.ledger, llm.budget, self._since)
        if part.cut and part.items:
            less = msgspec.structs.replace(
                llm.budget, tokens=int(llm.budget.tokens * KEPT), messages=int(llm.budget.messages * KEPT)
            )
            part = newest_part(session.conversation, session.ledger, less, self._since)
            self._since = part.items[0].id if part.items else ""
        told = rendered(session.conversation, session.ledger, part, llm.budget, guess=guess)
        if not self.summary:
            return told
        return (Message(role="system", text=f"{_HEADING}\n{self.summary}"), *told)

    def _follow_agent(self) -> None:
        """Begin with the agent's own part of the call if it is not to know more."""
        begin = own_since(self._llm.session)
        if begin and begin != self._agent:
            self._agent, self._since, self.summary = begin, begin, ""
            self._stop()

    def _stop(self) -> None:
        if self._work is not None:
            self._work.stop()

    # -- the summary -------------------------------------------------------------------------------------------------

    def answered(self) -> None:
        """Begin a summary if the turns have become long. An answer has just ended."""
        llm = self._llm
        if llm.summary is None or self._work is not None or llm.session.draining or llm.spent.beyond(llm.spending):
            return
        session = llm.session
        part = newest_part(session.conversation, session.ledger, llm.budget, self._since)
        size = sum(map(_item_characters, part.items))
        if size <= max(llm.summary.above_tokens * BYTES_PER_TOKEN, self._again_at):
            return
        place = _first_kept(part.items, llm.summary.keep_tokens * BYTES_PER_TOKEN)
        if not place:
            return
        old = LogPart(part.items[:place], part.hidden | {item.id for item in part.items[:place]}, False)
        told = [*rendered(session.conversation, session.ledger, old, llm.budget, open_calls=False)]
        if self.summary:
            told.insert(0, Message(role="system", text=f"{_HEADING}\n{self.summary}"))
        request = Request(instructions=llm.summary.instructions, messages=(*told, Message(role="user", text=_ASK)))
        self._again_at = size + llm.summary.keep_tokens * BYTES_PER_TOKEN
        self._work = Work(llm, f"{llm.name}.summary", llm.timeout_s)
        llm.spawn(self._summarise, llm.summary, request, part.items[place].id)

    async def _summarise(self, summary: Summary, request: Request, since: str) -> None:
        llm, work, agent = self._llm, self._work, self._agent
        assert work is not None
        first = llm.thinks_first
        said = ModelText(thinks_first=begins_with_thoughts(llm.model) if first is None else first)
        text = ""

        async def take(piece: object) -> bool:
            nonlocal text
            if isinstance(piece, str) and piece:
                text += said.feed(piece)
                work.touch()
                if asked is not None:
                    asked.wrote(piece)
            elif isinstance(piece, Usage) and asked is not None:
                asked.told(piece)
            return len(text) > summary.max_characters

        pieces = llm.ask(request)
        asked = llm.spent.take()
        try:
            await work.read(pieces, take)
            text = (text + said.flush()).strip()[: summary.max_characters]
            if not text:
                raise ServiceError("the model gave no words")
        except (Stopped, ThoughtsGiven):
            return
        except Exception as error:
            llm.session.report(ServiceError(f"no summary: {str(error) or type(error).__name__}"), llm.name)
            return
        finally:
            self._work = None
            if asked is not None:
                asked.close()
        if agent == self._agent and llm.session.conversation.get(since) is not None:
            log.info("session %s: %s has summarised the older turns", llm.session.id, llm.name)
            self.summary, self._since, self._again_at = text, since, 0


def _first_kept(items: list[Item], keep: int) -> int:
    """Return the place of the first item of the newest turns that have at most `keep` bytes, 0 for none before it.

    The newest turn is kept in any case.
    """
    newest = next((item.turn for item in reversed(items) if item.turn), 0)
    place = len(items)
    for at in range(len(items) - 1, -1, -1):
        keep -= _item_characters(items[at])
        if keep < 0 and items[at].turn != newest:
            break
        if at == 0 or items[at - 1].turn != items[at].turn:
            place = at
    return place if place < len(items) else 0


def _item_characters(item: Item) -> int:
    return byte_length(item.text) + (byte_length(item.data) if item.kind == "tool_call" else 0)
