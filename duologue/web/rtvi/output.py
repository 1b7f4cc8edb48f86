"""What the agent says, as RTVI tells it: sentence by sentence as it is written, and as far as it is heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ...frames import ResponseEnded, ResponseStarted
from ...services.sentences import SentenceSplitter
from ...session.conversation import Item
from ...session.session import Session

PROGRESS_S = 0.1
"""How often the client is told what has been heard."""
MAX_RESPONSES = 32
"""Responses that are followed at the same time. Beyond that the oldest are followed no longer."""
LOOK_AHEAD = 24
"""Characters of markup that may stand in a text between two that are spoken."""

Send = Callable[[str, dict[str, Any]], None]


class _Segment:
    """A sentence of a response: where it begins in the response's text, and what it is called."""

    def __init__(self, id: int, start: int, text: str) -> None:
        self.id, self.start = id, start
        self.text = text.strip()
        self.end = start + len(text.rstrip())
        self.lead = len(text) - len(text.lstrip())
        self.completed = False


class _Response:
    """A response that is written, or heard."""

    def __init__(self, turn: int, spoken: bool) -> None:
        self.turn, self.spoken = turn, spoken
        self.splitter = SentenceSplitter()
        self.text = ""
        self.cut = 0  # characters of the text that are in segments
        self.segments: list[_Segment] = []
        self.heard = 0  # characters of the text that the caller has heard
        self.sounding = False


class BotOutput:
    """Tells a client what the agent says, by `send(type, data)`.

    `written` and `progress` are to be called as the agent writes, and as it is heard; `settled` once it is known what
    was heard of a response. With `words` the form of RTVI 1 is sent: sentences when they are written, and then the
    words that are spoken.
    """

    def __init__(self, session: Session, send: Send) -> None:
        self.words = False
        self._session = session
        self._send = send
        self._responses: dict[str, _Response] = {}
        self._segments = 0
        self._told_at = 0.0

    # -- as it is written ------------------------------------------------------------------------------------------

    def started(self, frame: ResponseStarted, *, spoken: bool) -> None:
        """A response begins; one that is not `spoken` is only shown."""
        self._responses[frame.response_id] = _Response(frame.turn, spoken)
        while len(self._responses) > MAX_RESPONSES:
            del self._responses[next(iter(self._responses))]

    def wrote(self, response_id: str, text: str) -> None:
        """Its text goes on."""
        if response := self._responses.get(response_id):
            response.text += text
            for sentence in response.splitter.feed(text):
                self._add(response, sentence)

    def ended(self, frame: ResponseEnded) -> None:
        """All of its text is here. What is left of one that did not complete is not spoken."""
        if response := self._responses.get(frame.response_id):
            rest = response.splitter.flush()
            if frame.status == "completed":
                self._add(response, rest)
            if not response.text.strip():
                del self._responses[frame.response_id]

    def tell_said(self, item: Item) -> None:
        """Tell a client that has just come what was said before."""
        self._segments += 1
        response, segment = _Response(item.turn, True), _Segment(self._segments, 0, item.text)
        response.text, response.heard = item.text, len(item.text)
        self._tell(response, segment, "completed")

    def tell_again(self) -> None:
        """Tell it what is being said."""
        for response in self._responses.values():
            for segment in response.segments:
                self._tell(response, segment, "new")

    def _add(self, response: _Response, text: str) -> None:
        segment = _Segment(self._segments + 1, response.cut, text)
        response.cut += len(text)
        if not segment.text:
            return
        self._segments += 1
        response.segments.append(segment)
        self._tell(response, segment, "new")
        self._send("bot-transcription", {"text": segment.text})

    # -- as it is heard --------------------------------------------------------------------------------------------

    def progress(self, pcm: bytes = b"", sample_rate: int = 0, at: float = 0.0) -> None:
        """The caller has heard something: for `Session.played`."""
        now = self._session.now()
        if 0 <= now - self._told_at < PROGRESS_S:
            return
        self._told_at = now
        for entry in self._session.ledger.unsettled:
            response = self._responses.get(entry.id)
            if response is not None and entry.played_s > 0:
                self._hear(response, place(response.text, entry.heard().text))

    def settled(self, item: Item) -> None:
        """It is known what was heard of a response: all that its item says."""
        response = self._responses.pop(item.id, None)
        if response is None or not response.spoken:
            return
        whole = item.status == "complete"
        self._hear(response, len(response.text) if whole else place(response.text, item.text))
        if response.sounding:
            self._send("bot-tts-stopped", {})

    def cut(self, turn: int) -> None:
        """What was written up to this turn is not said any more."""
        for response_id in [id for id, response in self._responses.items() if response.turn <= turn]:
            if self._responses.pop(response_id).sounding:
                self._send("bot-tts-stopped", {})

    def _hear(self, response: _Response, heard: int) -> None:
        if heard <= response.heard:
            return
        if heard > response.cut:  # an unfinished sentence is spoken before a tool is called
            self._add(response, response.splitter.flush())
        if not response.sounding:
            response.sounding = True
            self._send("bot-tts-started", {})
        before, response.heard = response.heard, heard
        if said := response.text[before:heard].strip():
            self._send("bot-tts-text", {"text": said})
            if self.words:
                self._send("bot-output", {"text": said, "spoken": True, "aggregated_by": "word"})
                return
        for segment in response.segments:
            if segment.completed or segment.start + segment.lead >= heard:
                continue
            segment.completed = heard >= segment.end
            self._tell(response, segment, "completed" if segment.completed else "in-progress")

    def _tell(self, response: _Response, segment: _Segment, status: Literal["new", "in-progress", "completed"]) -> None:
        if self.words:
            self._send("bot-output", {"text": segment.text, "spoken": False, "aggregated_by": "sentence"})
            return
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
        self._send("bot-output", data)


def place(text: str, heard: str) -> int:
    """How far into `text` one is who has heard `heard`: the same without the markup that is not spoken."""
    if text.startswith(heard):
        return len(heard)
    at = 0
    for character in heard:
        found = text.find(character, at, at + LOOK_AHEAD)
        if found >= 0:
            at = found + 1
    return at
