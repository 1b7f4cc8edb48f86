"""`ToolCalls`: the register of the tool calls of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from ..errors import BadInput
from ..frames import ToolCall, ToolResult

CallState = Literal["asked", "approval", "running", "late", "cancelled", "answered"]
"""The state of a tool call. The log says of a `late` call that it still runs, and of a `cancelled` call that it was
cancelled. If a result comes all the same, it takes the place of that text, and the call is `answered`."""

PENDING = {"status": "pending"}
"""Stands for the result of a call that is open, in requests to models, which require a result for every call."""
STILL_RUNNING = "still running; its result will follow"
"""The status of a late call in the log."""


def still_running(why: str) -> dict[str, str]:
    """Return the result of a call that still runs, for a reason."""
    return {"status": STILL_RUNNING, "reason": why}


def says_running(result: object) -> bool:
    """Return True if a result says that the tool still runs: another one takes its place."""
    return isinstance(result, dict) and result.get("status") == STILL_RUNNING


def late_text(name: str, result: str, *, running: bool = False) -> str:
    """Return the text by which a model learns of a late result, or of the progress of a tool that is `running`."""
    return f"{PROGRESS_BEGINS if running else LATE_BEGINS} {name}, asked for before: {result}"


LATE_BEGINS = "The result of"
PROGRESS_BEGINS = "The progress of"


@dataclass(slots=True, eq=False)
class RegisteredCall:
    """One tool call of a model. Arguments and result are in the log, under `item_id` and `result_id`."""

    id: str
    """Unique in the session."""
    name: str
    turn: int
    agent: str = ""
    response_id: str = ""
    """The id of the response that asked for it."""
    owner: object = None
    """The connection to which the result goes; None if the model reads it in the log."""
    provider_id: str = ""
    """The owner's own id of the call."""
    runner: object = None
    """The processor or the client that runs it, also after the result that it still runs; None before and after."""
    state: CallState = "asked"
    item_id: str = ""
    """The id of the log's item with its arguments; empty for a call that is not logged."""
    result_id: str = ""
    """The id of the log's item with its result; empty while there is none."""
    asked_while_open: bool = False
    """True if a model was asked for an answer while the call had no result."""

    @property
    def open(self) -> bool:
        """True until the log has a result of the call, if only that it still runs."""
        return self.state in ("asked", "approval", "running")


class ToolCalls:
    """The register of the tool calls in the log. Each call gets exactly one result, and each result has its call.

    `Conversation.add` registers a call and its result; the engines note which connection waits for the result, `Tools`
    and the clients that run tools note the progress. A call is forgotten when its item leaves the log.
    """

    def __init__(self) -> None:
        self._calls: dict[str, RegisteredCall] = {}
        self._open: dict[str, RegisteredCall] = {}
        self._asked_in: Counter[int] = Counter()
        self._to_continue: set[int] = set()
        self._late: dict[str, RegisteredCall] = {}
        self._news: dict[str, tuple[RegisteredCall, int]] = {}  # with the number of the news
        self._news_count = 0

    def new_id(self, wanted: str) -> str:
        """Return `wanted` if no other call has it, else an id derived from it. Some models use an id twice."""
        unused, numbers = wanted, count(len(self._calls) + 1)
        while not unused or unused in self._calls:
            unused = f"{wanted or 'call'}_{next(numbers)}"
        return unused

    def ask(self, call_id: str, *, name: str = "", turn: int = 0, agent: str = "", item_id: str = "") -> RegisteredCall:
        """Register a call that a model asks for. Raises BadInput for an id that is empty or taken."""
        if not call_id:
            raise BadInput("a tool_call needs its call_id")
        if call_id in self._calls:
            raise BadInput(f"a second tool call {call_id!r}")
        call = RegisteredCall(call_id, name, turn, agent, item_id=item_id)
        self._calls[call_id] = self._open[call_id] = call
        self._asked_in[turn] += 1
        return call

    def assign(self, call_id: str, *, response_id: str, owner: object, provider_id: str) -> None:
        """Record the response that asked for a call, the connection that gets its result, and that connection's own id.

        Raises BadInput for an unknown call.
        """
        call = self._calls.get(call_id)
        if call is None:
            raise BadInput(f"there is no tool call {call_id!r}")
        call.response_id, call.owner, call.provider_id = response_id, owner, provider_id

    def run(self, call: ToolCall, runner: object) -> RegisteredCall:
        """Record that a processor or a client runs a call. A call outside the log is registered without an item."""
        registered = self._calls.get(call.call_id)
        if registered is None:
            registered = self.ask(call.call_id, name=call.name, turn=call.turn)
        registered.runner = runner
        if registered.open:
            registered.state = "running"
        return registered

    def answer(self, call_id: str, *, result_id: str = "") -> RegisteredCall:
        """Register the result of a call. Raises BadInput for an unknown call and for a second result."""
        if not call_id:
            raise BadInput("a tool_result needs its call_id")
        call = self._calls.get(call_id)
        if call is None:
            raise BadInput(f"a result for the tool call {call_id!r}, which was never made")
        if not call.open:
            raise BadInput(f"a second result for the tool call {call_id!r}")
        del self._open[call_id]
        call.state, call.result_id = "answered", result_id
        return call

    def forget(self, call_id: str) -> RegisteredCall | None:
        """Drop a call whose item has left the log, and return it. A later result for it is refused."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return None
        self._open.pop(call_id, None)
        self._late.pop(call_id, None)
        self._news.pop(call_id, None)
        self._asked_in[call.turn] -= 1
        if not self._asked_in[call.turn]:
            del self._asked_in[call.turn]
        return call

    def get(self, call_id: str) -> RegisteredCall | None:
        """Return the call with this id, or None."""
        return self._calls.get(call_id)

    def open(self) -> list[RegisteredCall]:
        """Return the calls without a result, oldest first."""
        return list(self._open.values())

    def waits(self, turn: int) -> bool:
        """Return True while a call of the turn has no result."""
        return any(call.turn == turn for call in self._open.values())

    def asked_in(self, turn: int) -> int:
        """Return the number of calls of a turn, answered or not."""
        return self._asked_in.get(turn, 0)

    # -- late results ----------------------------------------------------------------------------------------------

    def replaceable(self, call_id: str, state: Literal["late", "cancelled"]) -> None:
        """Record that the log says of the call that it still runs, or was cancelled: a result may take that place."""
        if (call := self._calls.get(call_id)) is not None:
            call.state = state
            if state == "late":
                self._late[call_id] = call

    def came_late(self, call_id: str) -> None:
        """Record that the log has a result which the model may have missed: it came after the turn of its call."""
        if (call := self._calls.get(call_id)) is not None:
            call.state = "answered"
            self._late.pop(call_id, None)
            self._add_news(call)

    def progressed(self, call_id: str) -> None:
        """Record that the log has news of a late call, which still runs, and that no model has received them."""
        if (call := self._calls.get(call_id)) is not None:
            self._add_news(call)

    def _add_news(self, call: RegisteredCall) -> None:
        self._news_count += 1
        self._news.pop(call.id, None)
        self._news[call.id] = call, self._news_count

    def end_late(self) -> list[RegisteredCall]:
        """Return the late calls, which get no other result any more."""
        ended = self.late()
        for call in ended:
            call.state = "answered"
        self._late.clear()
        return ended

    @property
    def news(self) -> tuple[RegisteredCall, ...]:
        """The calls with a late result, or with progress, that no model has received yet, the oldest first."""
        return tuple(call for call, _ in self._news.values())

    @property
    def news_count(self) -> int:
        """The number of news that there have been."""
        return self._news_count

    def asking(self) -> None:
        """Record that a model is asked for an answer. It learns the results that are there and the open calls."""
        self._to_continue.clear()
        for call in (*self._open.values(), *self.late()):
            call.asked_while_open = True

    def told(self, calls: Iterable[RegisteredCall], count: int | None = None) -> None:
        """Record that the model knows the news of these calls: all, or the first `count` that there have been."""
        for call in calls:
            if call.id in self._news and (count is None or self._news[call.id][1] <= count):
                del self._news[call.id]

    def late(self) -> list[RegisteredCall]:
        """Return the calls whose result in the log says that the tool still runs."""
        return list(self._late.values())

    # -- the connection that asked ---------------------------------------------------------------------------------

    def owned(self, owner: object) -> bool:
        """Return True while a connection waits for the result of one of its calls."""
        return any(call.owner is owner for call in self._open.values())

    def disown(self, owner: object, provider_ids: Container[str]) -> None:
        """Record that the connection no longer takes results for these calls. `provider_ids` are its own ids."""
        for call in self._open.values():
            if call.owner is owner and call.provider_id in provider_ids:
                call.owner = None

    def claim(self, call_id: str, owner: object) -> str | None:
        """Return the owner's id of a call whose result goes to `owner`, else None. The owner can claim it once."""
        call = self._calls.get(call_id)
        if call is None or owner is None or call.owner is not owner:
            return None
        call.owner = None
        return call.provider_id

    def known_as(self, provider_id: str, name: str) -> RegisteredCall | None:
        """Return the latest call of this name that a connection knew by this id, None without one."""
        calls = reversed(self._calls.values())
        return next(
            (call for call in calls if provider_id and (call.provider_id, call.name) == (provider_id, name)), None
        )

    # -- the answer that goes on -----------------------------------------------------------------------------------

    def continue_after(self, turn: int) -> None:
        """Record that a result of the turn wants an answer. It is given once no other call of the turn is open."""
        self._to_continue.add(turn)

    def take_continuation(self, turn: int) -> bool:
        """Return True if a result of the turn wants an answer, and forget that."""
        wanted = turn in self._to_continue
        self._to_continue.discard(turn)
        return wanted

    def fence(self, turn: int) -> None:
        """Void the continuations of all turns up to this one."""
        self._to_continue = {later for later in self._to_continue if later > turn}


def call_refused(call: ToolCall, error: str, *, respond: bool = True) -> ToolResult:
    """Return the result of a call that is not made."""
    result = {"error": error}
    return ToolResult(
        call_id=call.call_id, name=call.name, turn=call.turn, result=result, is_error=True, respond=respond
    )
