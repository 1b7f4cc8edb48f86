"""`Spending`: the budget of requests and tokens of one call."""

from __future__ import annotations

import msgspec

from ..errors import ConfigurationError
from ..frames import Usage
from .context import Request, estimated_tokens


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call: its requests to the model, and the tokens of these requests and their answers.

    The tokens are those of `Usage`; requests of models that give none are estimated.
    """

    requests: int = 5_000
    tokens: int = 50_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: a call needs at least 1")


DEFAULT_SPENDING = Spending()


class Spent:
    """The requests and tokens that a call has used."""

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self._estimated = 0  # tokens of the latest request, while its model has told none

    def ask(self, request: Request) -> None:
        """Count a request."""
        self.requests += 1
        self._estimated = estimated_tokens(request)
        self.tokens += self._estimated

    def count(self, usage: Usage) -> None:
        """Count the tokens that the model tells, in place of the estimate."""
        self.tokens += usage.input_tokens + usage.output_tokens - self._estimated
        self._estimated = 0

    def beyond(self, limits: Spending) -> bool:
        """Return True if no further request is allowed."""
        return self.requests >= limits.requests or self.tokens >= limits.tokens

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.tokens} tokens"
