"""`StreamingLLM`: the base of models that answer over a vendor's HTTP API, piece by piece."""

from __future__ import annotations

import logging
from uuid import uuid4

from ..errors import DuologueError
from .llm import LLM
from .pace import AnswerLimits

log = logging.getLogger("duologue")

MAX_BAD_EVENTS = 10
"""Malformed events of one answer that are reported and passed over."""


class StreamingLLM(LLM):
    """A model whose answers have the time limits `limits`, and whose requests can be cancelled on the wire."""

    chooses_tools = True
    timeout_s = 300.0
    """The longest time without a piece of an answer, in seconds. `limits` are shorter, and tell the cause."""

    def __init__(self, limits: AnswerLimits | None = None) -> None:
        super().__init__()
        self.limits = limits or AnswerLimits()

    def tell(self, problem: DuologueError) -> None:
        """Report a problem that does not end the answer."""
        if self.in_session:
            self.session.report(problem, self.name)
        else:
            log.warning("%s: %s", self.name, problem)

    def unique_call_id(self, wanted: str, used: set[str]) -> str:
        """Return an id for a tool call that no other call has: `wanted`, if possible. It is added to `used`.

        Some models give no ids, and some give the same ones in each answer.
        """
        found = wanted or f"call_{uuid4().hex[:24]}"
        if self.in_session:
            found = self.session.calls.new_id(found)
        if found in used:
            found = f"call_{uuid4().hex[:24]}"
        used.add(found)
        return found
