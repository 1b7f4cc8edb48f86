"""The contract of a service's subclass: what its methods give is checked, and errors name class, method and type."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from ..errors import ConfigurationError

T = TypeVar("T")


def check_made(service: object, base: type) -> None:
    """Raise ConfigurationError if the subclass has not called `super().__init__()`. The base's sets `is_made`."""
    if not vars(service).get("is_made"):
        raise ConfigurationError(
            f"{type(service).__name__}.__init__ must call super().__init__(): the {base.__name__} is not set up"
        )


def check_opened(service: object, opened: bool) -> None:
    """Raise ConfigurationError if the subclass has overridden `open` without calling `super().open()`."""
    if not opened:
        raise ConfigurationError(f"{type(service).__name__}.open must begin with `await super().open()`")


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
