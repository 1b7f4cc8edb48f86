"""`ProbableEnd`: pushes a probable end of the caller's turn with the text that a speech-to-text service has by then."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec

from ..frames import EagerEndOfTurn, Frame, TurnResumed
from ..processors.processor import handles
from .service import Service
from .transcribing import CallerSpeech


class GuessTeller(Protocol):
    """The part of an `STT` that this class uses."""

    @property
    def session(self) -> Any: ...
    def push(self, frame: Frame) -> Awaitable[None]: ...


class ProbableEnd:
    """The probable end of the turn in progress, from its report until the caller goes on or the turn ends.

    It is pushed with the latest interim text, and again with each later text, behind a `TurnResumed`.
    """

    def __init__(self, stt: GuessTeller) -> None:
        self._stt = stt
        self._text = ""  # the latest interim text of the utterance
        self._end: EagerEndOfTurn | None = None
        self._told = False

    def begin(self) -> None:
        """Begin an utterance."""
        self._text = ""

    async def found(self, end: EagerEndOfTurn) -> None:
        """Push a probable end, if there is a text."""
        self._end = end
        await self._tell()

    async def heard(self, text: str) -> None:
        """Take an interim text."""
        self._text = text
        if self._end is not None:
            await self._tell()

    async def _tell(self) -> None:
        end, text = self._end, self._text
        if end is None or not text or text == end.text:
            return
        if self._told:
            await self.taken_back(TurnResumed(at=self._stt.session.now(), utterance=end.utterance))
        self._end, self._told = msgspec.structs.replace(end, text=text), True
        await self._stt.push(self._end)

    async def taken_back(self, resumed: TurnResumed) -> None:
        """Push that the caller goes on, if a probable end was pushed."""
        told = self._told
        self.clear()
        if told:
            await self._stt.push(resumed)

    def clear(self) -> None:
        """Forget the probable end: the turn has ended."""
        self._end, self._told = None, False


class TellsProbableEnd(Service):
    """The part of an `STT` that adds the text to a probable end of the turn."""

    _speech: CallerSpeech
    _listening: bool

    def __init__(self) -> None:
        super().__init__()
        self._probable_end = ProbableEnd(self)

    @handles(EagerEndOfTurn, queued=True)
    async def may_have_ended(self, frame: EagerEndOfTurn) -> None:
        """Add the text to a probable end of the turn."""
        if self._listening:
            await self._probable_end.found(msgspec.structs.replace(frame, utterance=self._speech.utterance))

    @handles(TurnResumed, queued=True)
    async def resumed(self, frame: TurnResumed) -> None:
        """Take the probable end back, if it was pushed."""
        await self._probable_end.taken_back(msgspec.structs.replace(frame, utterance=self._speech.utterance))
