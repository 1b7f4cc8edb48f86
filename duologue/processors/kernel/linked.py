"""`LinkedPipeline`: a pipeline whose routes are set, with its two ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ...frames import Frame, Signal
from .groups import active_leaves, build, check_tree, leaves, members
from .host import Direction, Host, Target
from .node import Node
from .routes import EndPort, Routes, drop, signal_target

Tap = Callable[[Any, Direction, Frame], None]
"""Called with the processor that pushes, the direction and the frame."""


class LinkedPipeline:
    """Links a pipeline to its host: gives every processor its routes, lets frames in, tells signals to all.

    `bottom` answers, for a frame type, what takes the frames that no processor downstream handles; those that go
    upstream are dropped at the top. Raises ConfigurationError if a processor belongs to another session.
    """

    def __init__(self, pipeline: Node, host: Host, bottom: Callable[[type[Frame]], Target]) -> None:
        check_tree(pipeline)
        self._pipeline = pipeline
        self._host = host
        for node in members(pipeline):
            node._host = host
        try:
            head = build(pipeline, "down", EndPort(bottom))
            tail = build(pipeline, "up", EndPort(lambda frame_type: drop))
        except BaseException:
            for node in members(pipeline):
                node._host = None
            raise
        self._head = Routes(host, pipeline, "down", head)
        self._tail = Routes(host, pipeline, "up", tail)
        self._signals: dict[type[Signal], Target] = {}
        self._taps: tuple[Tap, ...] = ()

    def send(self, frame: Frame) -> Awaitable[None]:
        """Put a frame in at the head."""
        return self._head[frame.__class__](frame)

    def send_up(self, frame: Frame) -> Awaitable[None]:
        """Put a frame in at the tail; it travels upstream."""
        return self._tail[frame.__class__](frame)

    def broadcast(self, signal: Signal) -> None:
        """Tell every active processor, and then the session's listeners, before this returns."""
        target = self._signals.get(signal.__class__)
        if target is None:
            target = signal_target(self._host, signal.__class__, active_leaves(self._pipeline))
            self._signals[signal.__class__] = target
        if self._taps:
            self.tap(self._pipeline, "down", signal)
        target(signal)

    def reroute(self) -> None:
        """Forget the cached routes: the graph has changed."""
        for processor in leaves(self._pipeline):
            processor._down.clear()
            processor._up.clear()
        self._head.clear()
        self._tail.clear()
        self._signals.clear()

    def observe(self, tap: Tap) -> Callable[[], None]:
        """Let `tap(processor, direction, frame)` see every push. Returns a function that ends it.

        Without a tap there is no cost: the routes are worked out anew.
        """
        self._set_taps((*self._taps, tap))

        def stop() -> None:
            if tap in self._taps:
                taps = list(self._taps)
                taps.remove(tap)
                self._set_taps(tuple(taps))

        return stop

    def _set_taps(self, taps: tuple[Tap, ...]) -> None:
        self._taps = taps
        self._host.tap = self.tap if taps else None
        self.reroute()

    def tap(self, node: Node, direction: Direction, frame: Frame) -> None:
        """Show a push to every observer. What one raises is reported."""
        for tap in self._taps:
            try:
                tap(node, direction, frame)
            except Exception as error:
                self._host.report(error, "observe")
