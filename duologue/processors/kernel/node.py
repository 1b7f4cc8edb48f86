"""`Node`: a place in a pipeline; and `handles`, by which it says which frames it wants, checked once per class."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import ConfigurationError, IllegalState
from ...frames import Control, Frame, Input, Output, Signal
from .host import Host, Target
from .lane import Lane

FrameFamily = type[Frame]
FRAME_FAMILIES: tuple[FrameFamily, ...] = (Signal, Input, Output, Control)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handling:
    """One `@handles(...)` on a method."""

    types: tuple[type[Frame], ...]
    queued: bool
    upstream: bool


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """The method that handles a frame type. `queued` is True if it runs in the processor's lane."""

    method: str
    queued: bool


@dataclass(slots=True)
class Spec:
    """The frames that a class handles; worked out once per class."""

    down: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    up: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    signals: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    lane_down: frozenset[FrameFamily] = frozenset()
    lane_up: frozenset[FrameFamily] = frozenset()


def frame_family(frame_type: type[Frame]) -> FrameFamily:
    """Return the family of a frame type. Raises ConfigurationError for a type of none."""
    for family in FRAME_FAMILIES:
        if issubclass(frame_type, family):
            return family
    raise ConfigurationError(f"{frame_type.__name__} is not a frame: subclass Signal, Input, Output or Control")


def handles(*frame_types: type[Frame], queued: bool = False, upstream: bool = False) -> Callable[[F], F]:
    """Declare that a method handles these frame types and their subclasses.

    The handler takes one frame and is `async def`, except that a handler of a `Signal` may be a plain `def`: it
    then runs before the push returns; an `async def` one runs in a task of its own. `Frame` stands for all frames
    but signals. A subclass that overrides the method need not declare it again.

    `queued=True` runs it in the processor's lane, a bounded queue with a task of its own, for slow work; all
    frames of that family then pass through the lane. `upstream=True` handles the frames that travel upstream
    instead of those that travel downstream. An `Input` or `Output` that is handled goes no further unless it is
    pushed; a `Control` goes on by itself when the handler has ended, and must not be pushed.

    Raises ConfigurationError for an argument that is not a frame type, and for a signal with `queued=True`.
    """
    if not frame_types:
        raise ConfigurationError("handles() needs at least one frame type")
    for frame_type in frame_types:
        if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
            raise ConfigurationError(f"handles(): {frame_type!r} is not a frame type")
        if queued and issubclass(frame_type, Signal):
            raise ConfigurationError(f"handles(): {frame_type.__name__} is a Signal and is never queued")

    def mark(method: F) -> F:
        marks: list[Handling] = getattr(method, "__handles__", [])
        method.__handles__ = [*marks, Handling(frame_types, queued, upstream)]  # type: ignore[attr-defined]
        return method

    return mark


def find_handler(table: dict[type[Frame], HandlerSpec], frame_type: type[Frame]) -> HandlerSpec | None:
    """Return the handler of the most specific declared type; None if no type fits."""
    if not table:
        return None
    for base in frame_type.__mro__:
        if base in table:
            return table[base]
    return None


def read_spec(cls: type) -> Spec:
    """Work out what a class handles. Raises ConfigurationError for handlers that cannot work."""
    spec = Spec()
    lanes: dict[bool, set[FrameFamily]] = {False: set(), True: set()}
    for method_name in dir(cls):
        method = inspect.getattr_static(cls, method_name)
        for mark in _marks(cls, method_name) if callable(method) else ():
            _check_handler(cls, method_name, method, mark)
            for frame_type in mark.types:
                family = frame_family(frame_type) if frame_type is not Frame else None
                table = spec.signals if family is Signal else spec.up if mark.upstream else spec.down
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


def _marks(cls: type, method_name: str) -> list[Handling]:
    """Return a method's own declarations, or those of the method that it overrides."""
    for base in cls.__mro__:
        if marks := getattr(base.__dict__.get(method_name), "__handles__", None):
            return list(marks)
    return []


def _check_handler(cls: type, name: str, method: Any, mark: Handling) -> None:
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


class _Unlinked(dict[type[Frame], Target]):
    def __missing__(self, frame_type: type[Frame]) -> Target:
        return _push_unlinked


async def _push_unlinked(frame: Frame) -> None:
    raise IllegalState(f"{type(frame).__name__} was pushed outside a running session")


class _WhenLinked:
    """Stands in for an attribute that linking sets on the node. Reading it before that raises IllegalState."""

    def __get__(self, node: Node | None, owner: type[Node]) -> Any:
        if node is None:
            return self
        raise IllegalState(f"{node.name} is not part of a session yet")


def set_when_linked() -> Any:
    """Return the value, in the class, of an attribute that has its own only while the node is linked."""
    return _WhenLinked()


class Node:
    """Takes frames and pushes frames. Belongs to one session.

    `open` and `close` bracket the session; `capacity` bounds the lane, if there is one. Application code subclasses
    `Processor`, which adds the session to this.
    """

    capacity: int = 256
    """Frames that the lane holds before those who push downstream must wait."""

    host: Host = set_when_linked()
    """Runs it. Reading this raises IllegalState before the node is part of a session."""
    session: Any = set_when_linked()
    """The host's session. Reading this raises IllegalState before the node is part of one."""
    in_session: bool = False
    """True once it belongs to a session."""

    _spec: Spec | None = None
    _aside: bool = False
    """True in the branch of a `Tee`: its frames reach neither end of the pipeline."""
    # Set when the pipeline is linked.
    _lane: Lane | None = None
    _down: dict[type[Frame], Target] = _Unlinked()
    _up: dict[type[Frame], Target] = _Unlinked()

    @property
    def name(self) -> str:
        """The name in errors and traces."""
        return type(self).__name__

    def _join(self, host: Host) -> None:
        """Become part of the host's session."""
        self.host, self.session, self.in_session = host, host.session, True

    def _leave(self) -> None:
        """Be part of no session again: the pipeline cannot be linked."""
        del self.host, self.session, self.in_session

    async def open(self) -> None:
        """Acquire resources. Called once, before any frame; must end within the session's `start_s`."""

    async def close(self) -> None:
        """Release resources. Called once if `open` was, also after an error; bounded by the session's `close_s`."""

    def take_at_once(self, frame: Frame) -> bool:
        """Deal with a frame in place of the queued handler, in the task that pushes it downstream.

        Returns False to have it queued. Asked only where no processor further down handles a frame of this type.
        """
        return False

    def signal_handler(self, signal_type: type[Frame]) -> Callable[[Any], Any] | None:
        """Return the method that handles signals of a type; None if there is none."""
        found = find_handler(self.spec().signals, signal_type)
        return getattr(self, found.method) if found is not None else None

    def push(self, frame: Frame) -> Awaitable[None]:
        """Send a frame downstream: to the next processor that handles its type.

        Await the result. It returns once the frame has been handled or is in a lane; a full lane makes it wait.
        A stale `Output` is dropped. Errors of the processors downstream are reported there, and not raised here.
        """
        return self._down[frame.__class__](frame)

    def push_up(self, frame: Frame) -> Awaitable[None]:
        """Send a frame upstream. It never waits for a full lane, so that no circle of waiting can close."""
        return self._up[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell all processors and listeners of the session, at once."""
        self.host.broadcast(signal)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session. Its exception is reported as this processor's error.

        Raises IllegalState outside a running session.
        """
        self.host.start_task(self, function(*args))

    @classmethod
    def spec(cls) -> Spec:
        """Return what the class handles. Raises ConfigurationError for handlers that cannot work."""
        found = cls.__dict__.get("_spec")
        if found is None:
            found = cls._spec = read_spec(cls)
        return found
