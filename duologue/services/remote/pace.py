"""`AnswerPace`: the time limits of one answer of a model that streams. The first spoken token has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from ...errors import ConfigurationError, DeadlineExceeded
from ...processors.kernel.tasks import loop_time

T = TypeVar("T")


class AnswerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The time limits of one answer, in seconds.

    A thought is a token that is not spoken. A piece of a tool call counts as spoken: nothing is said before it is done.
    """

    first_token_s: float = 10.0
    """From the request to the first token."""
    first_word_s: float = 30.0
    """From the request to the first spoken token. Thoughts lie before it."""
    stall_s: float = 10.0
    """From one token to the next, once one was spoken."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: a limit must be positive")


class AnswerPace:
    """Watches the time of one answer, from its request on.

    A model that is known to think unseen has until `first_word_s` for its first token.
    """

    def __init__(self, limits: AnswerLimits, *, thinks_unseen: bool = False) -> None:
        self._limits = limits
        self._began = self._latest = loop_time()
        self._first_token_s = limits.first_token_s
        if thinks_unseen:
            self._first_token_s = max(limits.first_token_s, limits.first_word_s)
        self._token = self._word = False

    def token(self) -> None:
        """Note a token that is not spoken."""
        self._token = True

    def word(self) -> None:
        """Note a token that is spoken, or a piece of a tool call."""
        self._token = self._word = True
        self._latest = loop_time()

    async def wait(self, awaited: Awaitable[T]) -> T:
        """Return the result of `awaited`. Raises DeadlineExceeded that names the limit."""
        due, missed = self._deadline()
        try:
            async with asyncio.timeout_at(due) as limit:
                return await awaited
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(missed) from None

    def _deadline(self) -> tuple[float, str]:
        """Return the loop time of the next limit, and the text for its error."""
        limits = self._limits
        if self._word:
            return self._latest + limits.stall_s, f"the answer stopped for {limits.stall_s:g} s"
        if self._token:
            return self._began + limits.first_word_s, f"the model only thought for {limits.first_word_s:g} s"
        return self._began + self._first_token_s, f"the model gave nothing for {self._first_token_s:g} s"
