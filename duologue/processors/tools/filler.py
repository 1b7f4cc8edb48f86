"""`Fillers`: words for the time in which a caller waits for the result of a tool and would hear nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable
from typing import Protocol

from ...agents.tool import Filler, Tool, check_filler
from ...agents.tool_context import ToolContext
from ...errors import ConfigurationError
from ...frames import ToolCall
from ...session.session import Session
from ..kernel.tasks import loop_time
from ..kernel.within import within

AFTER_S = 2.0
"""Seconds without speech of either side, by default, after which a filler is said."""
LOOK_S = 0.1
"""Seconds between two looks for speech of either side."""
LIMIT_S = 2.0
"""Seconds that a function may take to return a filler."""
AUTHOR = "filler"
"""The author, in the log, of words that the agent has said while a tool was running."""


class Wait(Protocol):
    """The part of a running tool call that a filler uses."""

    tool: Tool
    call: ToolCall
    context: ToolContext
    filler: Filler | None

    @property
    def awaited(self) -> bool:
        """True while the model waits for the result."""

    def say(self, text: str) -> Awaitable[None]:
        """Let the agent say a text."""


class Fillers:
    """The fillers of one call: each tool's own, else the `general` one, and one in a turn.

    Raises ConfigurationError for a filler that is neither a text nor a function, and for a time that is not positive.
    """

    def __init__(self, general: Filler | None, after_s: float | None) -> None:
        check_filler(general)
        if after_s is not None and not after_s > 0:
            raise ConfigurationError(f"filler_after_s must be positive, not {after_s}")
        self.general = general
        """The filler of tools that have none of their own."""
        self._after_s = AFTER_S if after_s is None else after_s
        self._said_in = 0  # the latest turn with a filler
        self.expected: Counter[int] = Counter()
        """By turn, the number of responses that are about to begin with words of a filler or of progress."""

    def expect(self, turn: int) -> None:
        """Expect one more response of a turn with words of a filler or of progress."""
        self.expected[turn] += 1

    def expect_none(self, turn: int) -> None:
        """Expect only responses of the model in a turn."""
        del self.expected[turn]

    def response_began(self, session: Session, response_id: str, turn: int) -> None:
        """Note in the log that the words of a response are not the model's, if one was expected."""
        if self.expected[turn]:
            self.expected[turn] -= 1
            if session.conversation.get(response_id) is not None:
                session.conversation.update(response_id, author=AUTHOR)

    async def fill(self, wait: Wait, session: Session) -> None:
        """Say the filler once neither side has spoken for its time, unless the result comes before."""
        turn, filler = wait.call.turn, wait.filler
        after_s = self._after_s if wait.tool.filler_after_s is None else wait.tool.filler_after_s
        due = loop_time() + after_s
        while (left_s := due - loop_time()) > 0:
            await asyncio.sleep(min(left_s, LOOK_S))
            if _somebody_speaks(session):
                due = loop_time() + after_s
            if not self._may_be_said(wait, session):
                return
        self._said_in = turn
        text = await text_of(filler, f"tool {wait.tool.name!r}", wait.context) if filler else ""
        if text and self._may_be_said(wait, session, again=True):
            await wait.say(text)

    def _may_be_said(self, wait: Wait, session: Session, *, again: bool = False) -> bool:
        turn, floor = wait.call.turn, session.floor
        quiet = not (again and _somebody_speaks(session))
        return wait.awaited and quiet and floor.fence < turn == floor.turn and (again or self._said_in < turn)


def _somebody_speaks(session: Session) -> bool:
    """Return True if either side speaks, or the agent is about to: a response has words that were not played."""
    floor = session.floor
    return floor.agent_speaking or floor.caller_speaking or bool(session.ledger.unsettled)


async def text_of(filler: Filler, whose: str, *values: object) -> str:
    """Return the text of a filler. One that is a function gets those of the `values` for which it has a parameter.

    A plain function runs in a thread: one that blocks holds up nothing. Raises DeadlineExceeded, naming `whose` filler
    it is, if that takes too long.
    """
    if isinstance(filler, str):
        return filler
    taken = values[: len(inspect.signature(filler).parameters)]
    return str(await within(filler, *taken, limit_s=LIMIT_S, what=f"the filler of {whose}") or "").strip()
