"""`RemoteLLM`: the base of models that answer over a vendor's HTTP API, piece by piece."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias
from uuid import uuid4

import msgspec

from ...errors import DuologueError, ServiceError
from ...frames import SpeechStarted, Usage
from ...processors.kernel.tasks import loop_time
from ...processors.processor import handles
from ...session.boundary import look_outside
from ..context import Request, ToolRequest, estimated_tokens
from ..llm import LLM
from .errors import ConnectionLost
from .pace import AnswerLimits

log = logging.getLogger("duologue")

MAX_BAD_EVENTS = 10
"""Malformed events of one answer that are reported and passed over."""
IDLE_S = 200.0
"""Seconds without a request after which a connection is opened while the caller speaks. An idle one is kept longer."""
WARM_S = 10.0
"""The most seconds for that."""
MAX_SHORTENED = 4
"""How often a request that is too long is halved before its answer fails."""

Answer: TypeAlias = AsyncGenerator[str | ToolRequest | Usage, None]


class ContextTooLong(ConnectionLost):
    """A request has more tokens than the model takes. Raised before the first piece of the answer."""


class RemoteLLM(LLM):
    """A model whose answers have the time limits `limits`, and whose requests can be cancelled on the wire.

    A service implements `answer`. A request that is too long for the model is made again with the newer half of the
    conversation, and `budget` is lowered for those that follow.
    """

    chooses_tools = True
    chooses_model = True
    timeout_s = 300.0
    """The longest time without a piece of an answer, in seconds. `limits` are shorter, and name the cause."""

    def __init__(self, limits: AnswerLimits | None = None) -> None:
        super().__init__()
        self.limits = limits or AnswerLimits()
        self._used_at = -math.inf  # loop time of the latest request

    async def warm(self) -> None:
        """Open a connection for the next request. A service that can do this overrides it; errors are left to that."""

    @handles(SpeechStarted)
    async def caller_speaks(self, frame: SpeechStarted) -> None:
        """Open a connection while the caller speaks, unless one was in use a short time ago."""
        if loop_time() - self._used_at > IDLE_S:
            self._used_at = loop_time()
            self.spawn(self._warm)
        await self.push(frame)

    async def _warm(self) -> None:
        try:
            async with asyncio.timeout(WARM_S):
                await self.warm()
        except (ServiceError, TimeoutError) as error:  # the next answer reports it
            log.info("session %s: %s has no connection yet: %s", self.session.id, self.name, error)

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Yield the pieces of the model's answer. Raises ContextTooLong before the first piece."""

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the pieces of the model's answer.

        Raises ConnectionLost, DeadlineExceeded, and ServiceError for an answer that is blocked or malformed.
        """
        self._used_at = loop_time()
        for left in reversed(range(MAX_SHORTENED + 1)):
            try:
                async with aclosing(self.answer(request)) as pieces:
                    async for piece in pieces:
                        yield self._with_price(piece, request) if isinstance(piece, Usage) else piece
                return
            except ContextTooLong as error:
                shorter = _newer_half(request) if left else None
                if shorter is None:
                    raise
                request = shorter
                tokens = estimated_tokens(msgspec.structs.replace(request, instructions=""))
                self.budget = msgspec.structs.replace(self.budget, tokens=tokens)
                self.tell(ConnectionLost(f"{error}: from now on a request has {tokens} tokens of the conversation"))

    def _with_price(self, usage: Usage, request: Request) -> Usage:
        """Return a report under the model that was asked for if the name that the server gives has no price."""
        if self.in_session and self.session.cost.prices.find(usage.model, usage.service) is None:
            return msgspec.structs.replace(usage, model=request.model or self.model)
        return usage

    def tell(self, problem: DuologueError) -> None:
        """Report a problem that does not end the answer."""
        if self.in_session:
            self.session.report(problem, self.name)
        else:
            log.warning("%s: %s", self.name, problem)

    def unique_call_id(self, wanted: str, used: set[str]) -> str:
        """Return an id for a tool call that no other call has: `wanted`, if possible. It is added to `used`.

        Some models give no ids, and some use the same ids in each answer.
        """
        found = wanted or look_outside("call id", _new_call_id)
        if self.in_session:
            found = self.session.calls.new_id(found)
        if found in used:
            found = look_outside("call id", _new_call_id)
        used.add(found)
        return found


def _new_call_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def _newer_half(request: Request) -> Request | None:
    """Return the request with the newer half of its messages, from a message of the caller on. None if it has none."""
    messages = request.messages
    turns = [place for place, message in enumerate(messages) if message.role == "user" and place]
    later = [place for place in turns if place >= len(messages) // 2] or turns[-1:]
    return msgspec.structs.replace(request, messages=messages[later[0] :]) if later else None
