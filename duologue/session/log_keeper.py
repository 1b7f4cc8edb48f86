"""`LogKeeper`: writes the agent's responses into the log, as the ledger accounts for them."""

from __future__ import annotations

from collections.abc import Callable

from .conversation import Conversation
from .ledger import Heard, Response


class LogKeeper:
    """An item stands in the log from the start of its response; its text follows when the response is settled."""

    def __init__(self, conversation: Conversation, now: Callable[[], float]) -> None:
        self._conversation = conversation
        self._now = now

    def opened(self, response: Response) -> None:
        """A response begins."""
        self._conversation.add(
            "message", "agent", turn=response.turn, id=response.id, agent=response.agent, status="in_progress"
        )

    def heard(self, response: Response) -> None:
        """The caller begins to hear a response."""
        if self._conversation.get(response.id) is not None:
            self._conversation.update(response.id, at=self._now())

    def settled(self, response: Response, heard: Heard, interrupted: bool) -> None:
        """A response is settled. Nothing stays in the log of a response that was not heard."""
        if self._conversation.get(response.id) is None:
            return  # the conversation has forgotten it
        if not heard.text:
            self._conversation.remove(response.id)
            return
        self._conversation.update(
            response.id,
            text=heard.text,
            written=response.rewritten,
            status="interrupted" if interrupted else "complete",
            heard_s=heard.seconds,
            ended_at=self._now(),
            words=tuple(w for w in response.words if w.start_s < heard.seconds),
        )
