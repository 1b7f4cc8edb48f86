"""`Outlet`: the way of a native engine's output into the pipeline."""

from __future__ import annotations

import msgspec

from ...errors import ConfigurationError, ServiceError
from ...frames import BotAudio, BotText, Output, ResponseEnded, ResponseStarted
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from ..sentences import SentenceSplitter

MAX_SPEECH = 16_384
"""Frames of the agent's speech that wait for the playout. More are refused; the brackets of responses never are."""
MAX_SENTENCES = 256
"""Sentences that wait for a hook."""


class Outlet:
    """Pushes output in order, from a task of its own: the playout may wait, the provider's reader may not.

    Each response is bracketed: a `ResponseEnded` follows a `ResponseStarted` that was pushed, and no other.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        # A lane refuses beyond four times its capacity. Only brackets and tool calls can fill it beyond MAX_SPEECH.
        self._lane = DrainableLane(owner, MAX_SPEECH)
        self._begun: set[str] = set()  # responses whose ResponseStarted was pushed
        self._sentences = SpokenSentences(owner)
        self._refused = ""  # the latest response of which speech was refused

    def put(self, frame: Output) -> None:
        """Queue a frame. Never waits. Speech beyond `MAX_SPEECH` frames is refused, and reported once per response."""
        if isinstance(frame, BotText):
            self._sentences.add(frame)
        elif isinstance(frame, ResponseEnded):
            self._sentences.end(frame)
        if isinstance(frame, BotAudio | BotText) and len(self._lane) >= MAX_SPEECH:
            if self._refused != frame.response_id:
                self._refused = frame.response_id
                error = f"{MAX_SPEECH} frames of speech wait for the playout: the rest of the response is dropped"
                self._session.report(ServiceError(error), self._owner.name)
            return
        self._lane.put_up(self._push, frame)

    async def _push(self, frame: Output) -> None:
        if isinstance(frame, ResponseStarted):
            if frame.turn > self._session.floor.fence:
                self._begun.add(frame.response_id)
        elif isinstance(frame, ResponseEnded):
            if frame.response_id not in self._begun:
                return  # it was interrupted before its ResponseStarted was pushed
            self._begun.remove(frame.response_id)
            if frame.turn <= self._session.floor.fence:
                frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self._owner.push(frame)

    async def drain(self) -> None:
        """Wait until the frames queued so far have been pushed."""
        await self._lane.drain()

    def close(self) -> None:
        """Drop what waits."""
        self._sentences.close()
        self._lane.close()


class SpokenSentences:
    """Asks about one sentence at a time, in a task of its own: the provider's reader and the audio go on meanwhile.

    The audio of a sentence is here before its text is known, and cannot be changed. A hook that blocks the sentence
    interrupts the response: the audio that was not played is not played. A hook that changes it is refused with an
    error.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        self._lane = DrainableLane(owner, MAX_SENTENCES)
        self._splitter = SentenceSplitter()
        self._response_id = ""  # of the response whose sentences are being split

    def add(self, frame: BotText) -> None:
        """The text of a response goes on."""
        if not self._session.hooks.has(BotText):
            return
        if frame.response_id != self._response_id:
            self._splitter, self._response_id = SentenceSplitter(), frame.response_id
        for sentence in self._splitter.feed(frame.text):
            self._put(msgspec.structs.replace(frame, text=sentence))

    def end(self, frame: ResponseEnded) -> None:
        """A response has ended: the rest of its text counts as a sentence."""
        rest = self._splitter.flush() if frame.response_id == self._response_id else ""
        if rest.strip():
            self._put(BotText(turn=frame.turn, response_id=frame.response_id, text=rest))

    def _put(self, sentence: BotText) -> None:
        self._lane.put_up(self._ask, sentence)

    async def _ask(self, sentence: BotText) -> None:
        name, report = self._owner.name, self._session.report
        allowed = await self._session.hooks.sentence(sentence)
        if allowed is None:
            ledger = self._session.ledger
            if any(response.id == sentence.response_id for response in ledger.unsettled):
                self._session.interrupt("blocked")
            else:
                report(ServiceError("a hook blocked a sentence after it had been heard"), name, sentence)
        elif allowed.text != sentence.text:
            error = f"{name} has spoken a sentence before its text is known: a hook can block it, not change it"
            report(ConfigurationError(error), name, sentence)

    def close(self) -> None:
        """Ask about nothing any longer."""
        self._lane.close()
