"""`SpokenSentences`: the hooks are asked about each sentence of a native engine's replies."""

from __future__ import annotations

import msgspec

from ...errors import ConfigurationError, ServiceError
from ...frames import BotText, ResponseEnded
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from ..sentences import SentenceSplitter

MAX_SENTENCES = 256
"""Sentences that wait for a hook."""


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
