"""`BotOutput`: the agent's words in RTVI's form: sentence by sentence, as they are generated and as they are heard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from ...services.sentences import SentenceSplitter
from ...session.call_events import MessageChanged, ResponseComplete, ResponseOpened, ResponseText, SpeechCut
from ...session.item import Item
from ...session.ledger import heard_position

MAX_FOLLOWED = 32
"""Responses that are followed at the same time. Beyond that the oldest are forgotten."""

RtviMessage = tuple[str, dict[str, Any] | None]
"""The type of a message to the client, and its data."""


class _Sentence:
    """A sentence of a response: its id, and the index of its first character in the response's text."""

    def __init__(self, id: int, start: int, raw: str) -> None:
        self.id, self.start, self.raw = id, start, raw
        self.text = raw.strip()
        self.end = start + len(raw.rstrip())
        self.lead = len(raw) - len(raw.lstrip())
        self.completed = False


class _SpokenResponse:
    """A response that is being generated or heard."""

    def __init__(self, turn: int, spoken: bool) -> None:
        self.turn, self.spoken = turn, spoken
        self.splitter = SentenceSplitter()
        self.segments: list[_Sentence] = []
        self.heard = 0  # the number of the text's characters that the caller has heard
        self.sounding = False

    @property
    def cut(self) -> int:
        """The number of the text's characters that are in segments."""
        return self.segments[-1].start + len(self.segments[-1].raw) if self.segments else 0

    @property
    def text(self) -> str:
        """The text that the model has generated."""
        return "".join(segment.raw for segment in self.segments) + self.splitter.pending


class BotOutput:
    """Makes the messages about the agent's responses. Each method yields the messages that follow from an event.

    With `words` they have the form of RTVI 1: sentences when they are generated, then the spoken words.
    """

    def __init__(self) -> None:
        self.words = False
        self._responses: dict[str, _SpokenResponse] = {}
        self._segments = 0

    # -- generated text --------------------------------------------------------------------------------------------

    def opened(self, event: ResponseOpened, *, spoken: bool) -> None:
        """Begin a response. One that is not `spoken` is only shown."""
        self._responses[event.id] = _SpokenResponse(event.turn, spoken)
        while len(self._responses) > MAX_FOLLOWED:
            del self._responses[next(iter(self._responses))]

    def wrote(self, event: ResponseText) -> Iterator[RtviMessage]:
        """Add text to a response."""
        if response := self._responses.get(event.id):
            for sentence in response.splitter.feed(event.text):
                yield from self._add(response, sentence)

    def complete(self, event: ResponseComplete) -> Iterator[RtviMessage]:
        """Complete a response's text. The rest of a response that did not complete is not spoken."""
        if response := self._responses.get(event.id):
            rest = response.splitter.flush()
            if event.status == "completed":
                yield from self._add(response, rest)
            if not response.text.strip():
                del self._responses[event.id]

    def said_before(self, item: Item) -> Iterator[RtviMessage]:
        """Show an earlier message of the agent to a client that has just connected."""
        self._segments += 1
        response = _SpokenResponse(item.turn, True)
        response.heard = len(item.text)
        yield self._message(response, _Sentence(self._segments, 0, item.text), "completed")

    def again(self) -> Iterator[RtviMessage]:
        """Show the sentences in progress to a client that has just connected."""
        for response in self._responses.values():
            for segment in response.segments:
                if segment.text:
                    yield self._message(response, segment, "new")

    def _add(self, response: _SpokenResponse, text: str) -> Iterator[RtviMessage]:
        if not text:
            return
        segment = _Sentence(self._segments + 1, response.cut, text)
        response.segments.append(segment)
        if not segment.text:
            segment.completed = True
            return
        self._segments += 1
        yield self._message(response, segment, "new")
        yield "bot-transcription", {"text": segment.text}

    def shown(self, item: Item) -> Iterator[RtviMessage]:
        """Yield the message for a text that the agent shows and does not speak."""
        response = _SpokenResponse(item.turn, False)
        self._segments += 1
        yield self._message(response, _Sentence(self._segments, 0, item.text), "new")

    # -- heard text ------------------------------------------------------------------------------------------------

    def changed(self, event: MessageChanged) -> Iterator[RtviMessage]:
        """Mark more of a response as heard, or its final heard text."""
        response = self._responses.get(event.item.id)
        if response is None:
            return
        if not event.final:
            if event.heard_s > 0:
                yield from self._hear(response, heard_position(response.text, event.text[: event.heard_chars]))
            return
        del self._responses[event.item.id]
        if response.spoken:
            text, whole = response.text, event.item.status == "complete"
            yield from self._hear(response, len(text) if whole else heard_position(text, event.text))
            yield from self._stopped(response)

    def gone(self, response_id: str) -> Iterator[RtviMessage]:
        """Forget a response of which the caller heard nothing."""
        if response := self._responses.pop(response_id, None):
            yield from self._stopped(response)

    def cut_short(self, event: SpeechCut) -> Iterator[RtviMessage]:
        """End the responses of the interrupted turns."""
        for response_id in [id for id, response in self._responses.items() if response.turn <= event.turn]:
            yield from self._stopped(self._responses.pop(response_id))

    def _stopped(self, response: _SpokenResponse) -> Iterator[RtviMessage]:
        if response.sounding:
            yield "bot-tts-stopped", {}

    def _hear(self, response: _SpokenResponse, heard: int) -> Iterator[RtviMessage]:
        if heard <= response.heard:
            return
        if heard > response.cut:  # an unfinished sentence is spoken before a tool is called
            yield from self._add(response, response.splitter.flush())
        if not response.sounding:
            response.sounding = True
            yield "bot-tts-started", {}
        before, response.heard = response.heard, heard
        if said := response.text[before:heard].strip():
            yield "bot-tts-text", {"text": said}
            if self.words:
                yield "bot-output", {"text": said, "spoken": True, "aggregated_by": "word"}
                return
        for segment in response.segments:
            if segment.completed or segment.start + segment.lead >= heard:
                continue
            segment.completed = heard >= segment.end
            yield self._message(response, segment, "completed" if segment.completed else "in-progress")

    def _message(
        self, response: _SpokenResponse, segment: _Sentence, status: Literal["new", "in-progress", "completed"]
    ) -> RtviMessage:
        if self.words:
            return "bot-output", {"text": segment.text, "spoken": False, "aggregated_by": "sentence"}
        data: dict[str, Any] = {
            "text": segment.text,
            "output_type": "sentence",
            "text_type": "sentence",
            "aggregated_by": "sentence",
            "segment_id": segment.id,
            "will_be_spoken": response.spoken,
        }
        if response.spoken:
            said = segment.text[: max(0, response.heard - segment.start - segment.lead)]
            data["spoken_status"] = status
            data["spoken_progress"] = {"accumulated_text": said, "remaining_text": segment.text[len(said) :]}
        return "bot-output", data
