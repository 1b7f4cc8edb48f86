"""`handles` declares the frames that a method handles; `read_spec` checks and collects the declarations of a class."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import ConfigurationError
from ...frames import Control, Frame, Input, Output, Signal

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
