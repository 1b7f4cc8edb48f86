"""`Boundary`: all that enters a session from outside goes through it, so that a call can be recorded and replayed.

Without one, which is the default, nothing of this costs anything. A trace with `replay=True` brings a boundary that
records, a replay one that answers from the file.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
W = TypeVar("W")
F = TypeVar("F", bound=Callable[..., Any])


class Boundary(Protocol):
    """Sees what enters one session. Names say from where: the same name, the same kind of question."""

    replays: bool
    """True in a replay: the answers are those of the recorded call."""

    def enter(self, name: str, values: tuple[Any, ...], run: Callable[[], T], **named: Any) -> T:
        """Let something in that comes from outside: `run()` hands it to the session. The values are plain or frames."""

    def observed(self, name: str, look: Callable[[], T]) -> T:
        """Return what `look()` finds outside, such as the time of day or a random id: plain data."""

    async def answer(self, kind: str, name: str, ask: Callable[[], Awaitable[Any]], about: Any = None) -> Any:
        """Return what `ask()` answers, or raise its error. `kind` is the kind of the records: "tool" or "hook".

        `about` is what is asked: a replay looks for the answer to the same.
        """

    async def dial(self, name: str, dial: Callable[[], Awaitable[Any]]) -> Any:
        """Return the wire that `dial()` opens, or raise its error."""

    async def head(self, name: str, send: Callable[[], Awaitable[AnswerHead]]) -> AnswerHead:
        """Return the answer to a request over HTTP that `send()` sends, or raise its error."""


class AnswerHead(Protocol):
    """The beginning of an answer over HTTP."""

    status: int
    headers: list[tuple[str, str]]

    def body(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body."""

    async def close(self) -> None:
        """Read no more of it."""


inside: ContextVar[Boundary | None] = ContextVar("inside", default=None)
"""The boundary of the session whose code runs here; None outside of sessions, and in sessions without a boundary."""


def as_code_of(boundary: Boundary | None) -> AbstractContextManager[None]:
    """Run code as the session's own; with None as code outside: that of an SDK, or of the application."""
    return _CodeOf(boundary)


class _CodeOf(AbstractContextManager[None]):
    __slots__ = ("_before", "_boundary")

    def __init__(self, boundary: Boundary | None) -> None:
        self._boundary = boundary

    def __enter__(self) -> None:
        self._before = inside.set(self._boundary)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        inside.reset(self._before)


def enters(kind: type, *names: str) -> None:
    """Name the methods by which the application acts on a call. A boundary sees their calls that come from outside."""
    _ENTERING[kind] = names


def entering_methods(kind: type) -> tuple[str, ...]:
    """Return the names that `enters` has for a type."""
    return _ENTERING[kind]


_ENTERING: dict[type, tuple[str, ...]] = {}


def look_outside(name: str, look: Callable[[], T]) -> T:
    """Return what `look()` finds outside of the session: see `Boundary.observed`."""
    boundary = inside.get()
    return look() if boundary is None else boundary.observed(name, look)


async def ask_outside(kind: str, name: str, ask: Callable[[], Awaitable[Any]], about: Any = None) -> Any:
    """Return what `ask()` answers: see `Boundary.answer`."""
    boundary = inside.get()
    return await (ask() if boundary is None else boundary.answer(kind, name, ask, about))


async def call_outside(function: Callable[..., Any], *values: Any) -> Any:
    """Return what a function returns, a `def` or an `async def`."""
    result = function(*values)
    return await result if inspect.isawaitable(result) else result


async def dial_outside(name: str, dial: Callable[[], Awaitable[W]]) -> W:
    """Return the wire that `dial()` opens: see `Boundary.dial`."""
    boundary = inside.get()
    wire: W = await (dial() if boundary is None else boundary.dial(name, dial))
    return wire
