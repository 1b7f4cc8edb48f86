"""`FeedSource`: a session, as far as its feed needs one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..frames import Frame, Signal
from .conversation import Conversation
from .latency import PushObserver
from .ledger import Ledger
from .usage import UsageTotals

SignalT = TypeVar("SignalT", bound=Signal)


class FloorState(Protocol):
    """What the feed reads of the floor."""

    turn: int


class FeedSource(PushObserver, Protocol):
    """What the feed derives its events from: a session."""

    @property
    def id(self) -> str: ...
    @property
    def conversation(self) -> Conversation: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def floor(self) -> FloorState: ...
    @property
    def usage(self) -> UsageTotals: ...
    def on(self, signal_type: type[SignalT], listener: Callable[[SignalT], Any]) -> Callable[[], None]: ...
    def report(self, error: Exception, processor: str, frame: Frame | None = None) -> None: ...
