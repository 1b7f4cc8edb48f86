"""The contract of a service's subclass: what its methods give is checked, and errors name class, method and type."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..processors.kernel.node import Node
from ..processors.processor import Processor

T = TypeVar("T")


class Service(Processor):
    """The base of the services that applications derive from. Their `__init__` and `open` call those of their base."""

    is_made = False
    """True once `__init__` has run."""

    def __init__(self) -> None:
        self.is_made = True
        self._opened = False

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require that `__init__` has run."""
        check_made(self)
        super().check_place(before, after)

    async def open(self) -> None:
        """Note that the service opens. Overriding methods call this first."""
        self._opened = True

    def check_opened(self) -> None:
        """Raise ConfigurationError if the subclass has overridden `open` without calling `super().open()`."""
        if not self._opened:
            raise ConfigurationError(f"{type(self).__name__}.open must begin with `await super().open()`")


def check_made(service: Service) -> None:
    """Raise ConfigurationError if the subclass has not called `super().__init__()`."""
    if not vars(service).get("is_made"):
        package = __name__.partition(".")[0]
        base = next(base for base in type(service).__mro__ if base.__module__.partition(".")[0] == package)
        raise ConfigurationError(
            f"{type(service).__name__}.__init__ must call super().__init__(): the {base.__name__} is not set up"
        )


def stream_of(service: object, method: str, given: Any, gives: str) -> AsyncIterator[Any]:
    """Return the asynchronous iterator that a method has returned. Raises ConfigurationError for anything else.

    `gives` says what the pieces are, for the error.
    """
    if hasattr(given, "__anext__"):
        return given  # type: ignore[no-any-return]
    if hasattr(given, "__aiter__"):
        return aiter(given)
    if inspect.iscoroutine(given):
        given.close()
        what = "is a coroutine function"
    else:
        what = f"returns {type(given).__name__}"
    raise ConfigurationError(f"{type(service).__name__}.{method} {what}: it must be `async def` and yield {gives}")


def wrong_piece(service: object, method: str, piece: object, gives: str) -> ConfigurationError:
    """Return the error for a piece of the wrong type."""
    return ConfigurationError(f"{type(service).__name__}.{method} yields {type(piece).__name__}, not {gives}")


async def result_of(service: object, method: str, call: Callable[[], Any], gives: type[T]) -> T:
    """Return the result of an `async def` method. Raises ConfigurationError if it is of another type."""
    given = call()
    if not inspect.isawaitable(given):
        raise ConfigurationError(f"{type(service).__name__}.{method} returns {type(given).__name__}: use `async def`")
    result = await given
    if not isinstance(result, gives):
        raise ConfigurationError(
            f"{type(service).__name__}.{method} returns {type(result).__name__}, not {gives.__name__}"
        )
    return result
