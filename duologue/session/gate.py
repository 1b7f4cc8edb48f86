"""`AudioGate`: lets the caller's audio in, or drops it. `Taker`: the head of a pipeline, where the audio enters."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..frames import Input
from ..processors.kernel.node import Node
from .conversation import Conversation
from .interrupting import CutIn


@runtime_checkable
class Taker(Protocol):
    """The head of a pipeline: it queues the caller's audio, and marks at their place among it."""

    takes_marks: bool
    """True if the session may mark the caller's turns. False if the client does."""

    def enter(self, pcm: bytes, sample_rate: int) -> None:
        """Queue audio of the caller, s16le mono, which ends now."""

    def mark(self, frame: Input) -> None:
        """Queue a mark of speech. Its time becomes that of its place in the audio."""


class GatedSession(CutIn, Protocol):
    """The part of a session that its gate uses."""

    @property
    def conversation(self) -> Conversation: ...
    @property
    def pipeline(self) -> Node: ...
    @property
    def draining(self) -> bool: ...
    def now(self) -> float: ...


class AudioGate:
    """Lets the caller's audio in while it is open. A piece counts as a whole, at the moment at which it is fed."""

    def __init__(self, session: GatedSession, *, open: bool) -> None:
        self.open = open
        self.dropped_s = 0.0
        """Seconds of audio that were dropped."""
        self.session = session

    def hear(self, taker: Taker, pcm: bytes, sample_rate: int) -> None:
        """Let in the caller's audio, or drop it."""
        if self.open:
            taker.enter(pcm, sample_rate)
        else:
            self.drop(pcm, sample_rate)

    def drop(self, pcm: bytes, sample_rate: int) -> None:
        """Drop audio, and count it."""
        self.dropped_s += len(pcm) / (2 * sample_rate)

    def cut(self, reason: str) -> None:
        """End what the caller says now: the call ends, or the client is gone."""
