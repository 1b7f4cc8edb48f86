"""`Processor` and `handles`: what a pipeline is made of, and how a processor says what it wants."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ConfigurationError, IllegalState
from ...frames import Control, Frame, Input, Output, Signal

if TYPE_CHECKING:
    from ...session.session import Session
    from .lane import Lane
    from .routes import Routes

Family = type[Frame]
FAMILIES: tuple[Family, ...] = (Signal, Input, Output, Control)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handling:
    """One `@handles(...)` on a method."""

    types: tuple[type[Frame], ...]
    queued: bool
    upstream: bool


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """The method that handles a frame type, and whether it does so in the processor's lane."""

    method: str
    queued: bool


@dataclass(slots=True)
class Spec:
    """What a processor class declares; worked out once per class."""

    down: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    up: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    signals: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    lane_down: frozenset[Family] = frozenset()
    lane_up: frozenset[Family] = frozenset()


def family_of(frame_type: type[Frame]) -> Family:
    """Which of the four families a frame type belongs to. Raises ConfigurationError for none."""
    for family in FAMILIES:
        if issubclass(frame_type, family):
            return family
    raise ConfigurationError(f"{frame_type.__name__} is no frame: subclass Signal, Input, Output or Control")


def handles(*frame_types: type[Frame], queued: bool = False, upstream: bool = False) -> Callable[[F], F]:
    """Declare that a method handles these frame types, and all that derive from them.

    The handler takes one frame and is `async def`, except that a handler of a `Signal` may be a plain `def`: it
    then runs before the push returns; an `async def` one runs in a task of its own. `Frame` stands for all frames
    but signals. A subclass that overrides the method need not declare it again.

    `queued=True` runs it in the processor's lane, a bounded queue with a task of its own, for slow work; all
    frames of that family then pass through the lane. `upstream=True` handles the frames that travel upstream
    instead of those that travel downstream. An `Input` or `Output` that is handled goes no further unless it is
    pushed; a `Control` goes on by itself when the handler has ended, and is not to be pushed.

    Raises ConfigurationError if an argument is no frame type, or if a signal is to be queued.
    """
    if not frame_types:
        raise ConfigurationError("handles() needs at least one frame type")
    for frame_type in frame_types:
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise ConfigurationError(f"handles(): {frame_type!r} is no frame type")
        if queued and issubclass(frame_type, Signal):
            raise ConfigurationError(f"handles(): {frame_type.__name__} is a Signal and is never queued")

    def mark(method: F) -> F:
        marks: list[Handling] = getattr(method, "__handles__", [])
        method.__handles__ = [*marks, Handling(frame_types, queued, upstream)]  # type: ignore[attr-defined]
        return method

    return mark


class Processor:
    """Takes typed frames and pushes typed frames.

    Subclass it, mark methods with `handles`, and put instances into a `Pipeline`. An instance belongs to one
    session. `open` and `close` bracket the session; `capacity` bounds the lane, if there is one.
    """

    capacity: int = 256
    """Frames that the lane holds before those who push downstream must wait."""

    _spec: Spec | None = None
    _session: Session | None = None
    _lane: Lane | None = None
    _down: Routes
    _up: Routes

    @property
    def name(self) -> str:
        """What errors and traces call it."""
        return type(self).__name__

    @property
    def session(self) -> Session:
        """The session that it belongs to. Raises IllegalState before there is one."""
        if self._session is None:
            raise IllegalState(f"{self.name} is not part of a session yet")
        return self._session

    async def open(self) -> None:
        """Acquire resources. Called once, before any frame; must end within the session's `start_timeout_s`."""

    async def close(self) -> None:
        """Release resources. Called once if `open` was, also after an error; bounded by `close_timeout_s`."""

    def push(self, frame: Frame) -> Awaitable[None]:
        """Send a frame downstream: to the next processor that handles its type.

        Await the result. It returns once the frame has been handled or is in a lane; a full lane makes it wait.
        A stale `Output` is dropped. Errors of those downstream are theirs: they are reported, not raised here.
        """
        return self._down[frame.__class__](frame)

    def push_up(self, frame: Frame) -> Awaitable[None]:
        """Send a frame upstream. Never waits for a full lane, so that there can be no cycle of waiting."""
        return self._up[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell everyone in the session, at once."""
        self.session.broadcast(signal)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session's. What it raises is reported as this processor's error."""
        self.session.spawn(self, function, *args)

    @classmethod
    def spec(cls) -> Spec:
        """What the class handles. Raises ConfigurationError for handlers that cannot work."""
        found = cls.__dict__.get("_spec")
        if found is None:
            found = cls._spec = _read_spec(cls)
        return found


def find_handler(table: dict[type[Frame], HandlerSpec], frame_type: type[Frame]) -> HandlerSpec | None:
    """The handler of the most specific declared type."""
    if not table:
        return None
    for base in frame_type.__mro__:
        if base in table:
            return table[base]
    return None


def _read_spec(cls: type[Processor]) -> Spec:
    spec = Spec()
    lanes: dict[bool, set[Family]] = {False: set(), True: set()}
    for method_name in dir(cls):
        method = inspect.getattr_static(cls, method_name)
        for mark in _marks(cls, method_name) if callable(method) else ():
            _check_handler(cls, method_name, method, mark)
            for frame_type in mark.types:
                family = family_of(frame_type) if frame_type is not Frame else None
                for table in _tables(spec, family, mark.upstream):
                    if frame_type in table:
                        raise ConfigurationError(
                            f"{cls.__name__}: both {table[frame_type].method} and {method_name} "
                            f"handle {frame_type.__name__}"
                        )
                    table[frame_type] = HandlerSpec(method_name, mark.queued)
                if mark.queued:
                    lanes[mark.upstream].update([family] if family else [Input, Output, Control])
    spec.lane_down, spec.lane_up = frozenset(lanes[False]), frozenset(lanes[True])
    return spec


def _marks(cls: type[Processor], method_name: str) -> list[Handling]:
    """What the method is declared to handle: its own declaration, or that of the method it overrides."""
    for base in cls.__mro__:
        if marks := getattr(base.__dict__.get(method_name), "__handles__", None):
            return list(marks)
    return []


def _tables(spec: Spec, family: Family | None, upstream: bool) -> list[dict[type[Frame], HandlerSpec]]:
    if family is Signal:
        return [spec.signals]
    return [spec.up if upstream else spec.down]


def _check_handler(cls: type[Processor], name: str, method: Any, mark: Handling) -> None:
    where = f"{cls.__name__}.{name}"
    signals = [t for t in mark.types if issubclass(t, Signal)]
    if not inspect.iscoroutinefunction(method) and len(signals) < len(mark.types):
        raise ConfigurationError(f"{where} must be `async def`: only handlers of signals may be plain functions")
    parameters = list(inspect.signature(method).parameters.values())
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    unfillable = [p for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    if len(required) != 2 or unfillable:
        raise ConfigurationError(f"{where} must take exactly one frame")
    try:
        annotation = typing.get_type_hints(method).get(parameters[1].name)
    except (NameError, AttributeError):  # names that exist only for the type checker
        return
    if annotation is None or annotation is Any:
        return
    accepted = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    for frame_type in mark.types:
        if not any(isinstance(a, type) and issubclass(frame_type, a) for a in accepted):
            shown = getattr(annotation, "__name__", str(annotation))
            raise ConfigurationError(
                f"{where} handles {frame_type.__name__}, but its parameter {parameters[1].name!r} is annotated {shown}"
            )


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
