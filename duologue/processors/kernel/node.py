"""`Node`: the base of processors and groups; and `handles`, which declares the frames that a method handles."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import ConfigurationError, IllegalState
from ...frames import Control, Frame, Input, Output, Signal
from .host import Host, Target
from .lane import Lane
from .names import check_names

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
    """The frames that a class handles. Computed once per class."""

    down: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    up: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    signals: dict[type[Frame], HandlerSpec] = field(default_factory=dict)
    lane_down: frozenset[FrameFamily] = frozenset()
    lane_up: frozenset[FrameFamily] = frozenset()


def frame_family(frame_type: type[Frame]) -> FrameFamily:
    """Return the family of a frame type. Raises ConfigurationError for a type without a family."""
    for family in FRAME_FAMILIES:
        if issubclass(frame_type, family):
            return family
    raise ConfigurationError(f"{frame_type.__name__} is not a frame: subclass Signal, Input, Output or Control")


def handles(*frame_types: type[Frame], queued: bool = False, upstream: bool = False) -> Callable[[F], F]:
    """Declare that a method handles these frame types and their subclasses.

    The handler takes one frame and is `async def`. A handler of a `Signal` may be a plain `def`, which runs before
    the broadcast returns; an `async def` handler of a signal runs in its own task. `Frame` means all frames except
    signals. A subclass that overrides the method need not declare it again.

    `queued=True` runs the handler in the processor's lane, a bounded queue with its own task, for slow work; all
    frames of that family then pass through the lane. `upstream=True` handles frames that travel upstream instead of
    downstream. An `Input` or `Output` that is handled goes no further unless the handler pushes it. A `Control` goes on
    by itself when the handler has ended, and must not be pushed.

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
    """Compute the frames that a class handles. Raises ConfigurationError for invalid handlers."""
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
    """Return the declarations of a method, or of the method that it overrides."""
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


def _gives(node: Node, kind: type[Frame]) -> bool:
    return any(issubclass(given, kind) for given in node.gives)


class _Unlinked(dict[type[Frame], Target]):
    def __missing__(self, frame_type: type[Frame]) -> Target:
        return _push_unlinked


async def _push_unlinked(frame: Frame) -> None:
    raise IllegalState(f"{type(frame).__name__} was pushed outside a running session")


class _WhenLinked:
    """Placeholder for an attribute that is set when the node is linked. Reading it before raises IllegalState."""

    def __get__(self, node: Node | None, owner: type[Node]) -> Any:
        if node is None:
            return self
        raise IllegalState(f"{node.name} is not part of a session yet")


def set_when_linked() -> Any:
    """Return the class value of an attribute that is set when the node is linked."""
    return _WhenLinked()


class Node:
    """Takes frames and pushes frames. Belongs to one session.

    `open` and `close` bracket the session; `capacity` bounds the lane, if there is one. Applications subclass
    `Processor`, which adds the session.
    """

    capacity: int = 256
    """Frames that the lane holds. Beyond that a push downstream waits."""

    gives: frozenset[type[Frame]] = frozenset()
    """The frame types that the node makes itself. Custom sources and detectors declare theirs."""
    follows: frozenset[type[Frame]] = frozenset()
    """Frame types that the node takes: nodes that give them stand before it."""
    needs: Mapping[type[Frame], str] = {}
    """As `follows`, for types without which a call cannot work, each with the way to get them."""
    call_id: str = ""
    """The id of the transport's client, for the ends of transports that have one. The session has the same id."""
    far_end: bool = False
    """True for the ends of a transport: with one in it, a pipeline serves a call."""

    host: Host = set_when_linked()
    """The host that runs the node. Reading it raises IllegalState before the node belongs to a session."""
    session: Any = set_when_linked()
    """The host's session. Reading it raises IllegalState before the node belongs to a session."""
    in_session: bool = False
    """True once the node belongs to a session."""

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
        """Join the host's session."""
        self.host, self.session, self.in_session = host, host.session, True

    def _leave(self) -> None:
        """Leave the session again: the pipeline cannot be linked."""
        del self.host, self.session, self.in_session

    def __repr__(self) -> str:
        return self.name

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Raise ConfigurationError, with the mend, if the node cannot work between these nodes of the pipeline.

        Called once, when the session is made. Overriding methods call this, too.
        """
        for kind in (*self.needs, *sorted(self.follows, key=lambda kind: kind.__name__)):
            if any(_gives(node, kind) for node in before):
                continue
            late = next((node for node in after if _gives(node, kind)), None)
            if late is not None:
                raise ConfigurationError(
                    f"{self.name} stands before {late.name}, which gives it {kind.__name__} frames: put it behind"
                )
            if kind in self.needs and any(node.far_end for node in (*before, *after)):
                raise ConfigurationError(f"{self.name} gets no {kind.__name__} frames: {self.needs[kind]}")

    async def open(self) -> None:
        """Acquire resources. Called once, before any frame. Must end within the session's `start_s`."""

    def check_opened(self) -> None:
        """Raise ConfigurationError if `open` was overridden and does not call the base's. Called after each `open`."""

    async def close(self) -> None:
        """Release resources. Called once after `open`, even if that failed. Must end within the session's `close_s`."""

    def take_at_once(self, frame: Frame) -> bool:
        """Handle a frame instead of the queued handler, in the task that pushes it downstream.

        Return False to queue the frame. Called only if no processor downstream handles frames of this type.
        """
        return False

    def signal_handler(self, signal_type: type[Frame]) -> Callable[[Any], Any] | None:
        """Return the method that handles signals of a type; None if there is none."""
        found = find_handler(self.spec().signals, signal_type)
        return getattr(self, found.method) if found is not None else None

    def push(self, frame: Frame) -> Awaitable[None]:
        """Send a frame downstream, to the next processor that handles its type.

        Await the result. It returns once the frame has been handled or is in a lane; it waits while the lane is full.
        A stale `Output` is dropped. Errors of the processors downstream are reported there, not raised here.
        """
        return self._down[frame.__class__](frame)

    def push_up(self, frame: Frame) -> Awaitable[None]:
        """Send a frame upstream. It never waits for a full lane: pushes in both directions could deadlock."""
        return self._up[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Deliver a signal to all processors and listeners of the session, before this returns."""
        self.host.broadcast(signal)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task of the session. An exception is reported as this processor's error.

        Raises IllegalState outside a running session.
        """
        self.host.start_task(self, function(*args))

    @classmethod
    def spec(cls) -> Spec:
        """Return the frames that the class handles. Raises ConfigurationError for invalid handlers and names."""
        found = cls.__dict__.get("_spec")
        if found is None:
            check_names(cls)
            found = cls._spec = read_spec(cls)
        return found
