"""`Outlet`: pushes the frames of a native engine into the pipeline. `SpokenSentences`: the hooks on its sentences."""

from __future__ import annotations

import msgspec

from ...errors import ConfigurationError, ServiceError
from ...frames import BotAudio, BotText, Output, ResponseEnded, ResponseStarted
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from ..sentences import SentenceSplitter

MAX_SPEECH = 16_384
"""The most frames of speech that wait for the playout. Further speech is refused, a response's brackets never."""
MAX_SENTENCES = 256
"""The most sentences that wait for a hook."""


class Outlet:
    """Pushes output in order, in a task of its own: the playout may make it wait, but never the provider's reader.

    Each response is bracketed: a `ResponseEnded` follows a `ResponseStarted` that was pushed, and no other.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        # A lane refuses frames beyond four times its capacity. Only brackets and tool calls may exceed MAX_SPEECH.
        self._lane = DrainableLane(owner, MAX_SPEECH)
        self._begun: set[str] = set()  # responses whose ResponseStarted was pushed
        self._sentences = SpokenSentences(owner)
        self._refused = ""  # the latest response with refused speech

    def put(self, frame: Output) -> None:
        """Queue a frame. Never waits. Speech beyond `MAX_SPEECH` frames is refused, and reported once per response."""
        if isinstance(frame, BotAudio) and len(self._lane) < MAX_SPEECH:  # the most frequent frame
            self._lane.put(self._owner.push, frame)
            return
        if isinstance(frame, BotText):
            self._sentences.add(frame)
        elif isinstance(frame, ResponseStarted | ResponseEnded):
            if isinstance(frame, ResponseEnded):
                self._sentences.end(frame)
            self._lane.put_up(self._push_bracket, frame)
            return
        if len(self._lane) < MAX_SPEECH or not isinstance(frame, BotAudio | BotText):
            self._lane.put_up(self._owner.push, frame)
        elif self._refused != frame.response_id:
            self._refused = frame.response_id
            error = f"{MAX_SPEECH} frames of speech wait for the playout: the rest of the response is dropped"
            self._session.report(ServiceError(error), self._owner.name)

    async def _push_bracket(self, frame: ResponseStarted | ResponseEnded) -> None:
        fence = self._session.floor.fence
        if isinstance(frame, ResponseStarted):
            if frame.turn > fence:
                self._begun.add(frame.response_id)
        elif frame.response_id not in self._begun:
            return  # it was interrupted before its ResponseStarted was pushed
        else:
            self._begun.remove(frame.response_id)
            if frame.turn <= fence:
                frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self._owner.push(frame)

    async def drain(self) -> None:
        """Wait until all queued frames have been pushed."""
        await self._lane.drain()

    def close(self) -> None:
        """Drop the queued frames."""
        self._sentences.close()
        self._lane.close()


class SpokenSentences:
    """Asks the hooks about one sentence at a time, in a task of its own: the provider's reader does not wait.

    The audio of a sentence arrives before its text is known, and cannot be changed. If a hook blocks the sentence, the
    response is interrupted, and its remaining audio is not played. If a hook changes the sentence, an error is reported
    and the sentence stays.
    """

    def __init__(self, owner: Processor) -> None:
        self._owner = owner
        self._session = owner.session
        self._lane = DrainableLane(owner, MAX_SENTENCES)
        self._splitter: SentenceSplitter | None = None
        self._response_id = ""  # the response whose sentences are being split

    def add(self, frame: BotText) -> None:
        """Add text of a response."""
        if not self._session.hooks.has(BotText):
            return
        if self._splitter is None or frame.response_id != self._response_id:
            self._splitter, self._response_id = SentenceSplitter(), frame.response_id
        for sentence in self._splitter.feed(frame.text):
            self._put(msgspec.structs.replace(frame, text=sentence))

    def end(self, frame: ResponseEnded) -> None:
        """End a response: the rest of its text counts as a sentence."""
        if self._splitter is None or frame.response_id != self._response_id:
            return
        rest, self._splitter = self._splitter.flush(), None
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
        """Stop asking the hooks."""
        self._lane.close()
