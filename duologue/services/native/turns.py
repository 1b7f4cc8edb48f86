"""`Turns`: the caller's turns until each has its transcript and its answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from ...processors.kernel.tasks import loop_time
from ...session.session import Session
from .audio_ring import AudioRing, Utterance
from .provider import Provider

TRANSCRIPT_WAIT_S = 2.0
"""Seconds to wait for the transcript of an answered turn before another engine or connection takes over."""
MAX_LATE = 32
"""The most answered turns that wait for their transcript."""


class Turns:
    """Tracks the caller's turns. A turn waits until it is answered; its transcript may come even later."""

    def __init__(self, session: Session, ring: AudioRing, provider: Provider) -> None:
        self._session = session
        self._ring = ring
        self._provider = provider
        self._late: deque[Utterance] = deque(maxlen=MAX_LATE)
        self.moves = 0
        """The number of times that the caller has begun to speak or has written."""

    @property
    def waiting(self) -> Collection[Utterance]:
        """The turns without an answer, oldest first."""
        return self._ring.utterances

    @property
    def latest_taken(self) -> Utterance | None:
        """The latest complete turn without an answer."""
        return next((turn for turn in reversed(self._ring.utterances) if not turn.open), None)

    @property
    def any_taken(self) -> bool:
        """True if a complete turn has no answer."""
        return any(not turn.open for turn in self._ring.utterances)

    @property
    def latest_understood(self) -> Utterance | None:
        """The latest turn with words and without an answer."""
        return next((turn for turn in reversed(self._ring.utterances) if turn.text), None)

    @property
    def unanswered_items(self) -> set[str]:
        """The ids of the log's items for turns without an answer."""
        return {turn.log_id for turn in self._ring.utterances if turn.log_id}

    @property
    def transcript_is_late(self) -> bool:
        """True while a turn that was answered within `TRANSCRIPT_WAIT_S` may still be transcribed.

        A turn without a place in the log was noise: the provider did not answer it, but something else.
        """
        since = loop_time() - TRANSCRIPT_WAIT_S
        return any(turn.log_id and turn.answered_at > since for turn in self._late)

    def __contains__(self, utterance: Utterance) -> bool:
        return utterance in self._late or utterance in self._ring.utterances

    def find(self, item: str) -> Utterance | None:
        """Return the turn with the provider's id `item`, else the oldest one with a part that has no id or text."""
        turns = [*self._late, *self._ring.utterances]
        named = next((turn for turn in turns if item and item in turn.items), None)
        return named or next((turn for turn in turns if turn.unnamed and not turn.transcribed), None)

    def name(self, utterance: Utterance) -> str:
        """Return our id of an utterance, which its transcripts and its item of the log carry."""
        utterance.id = utterance.id or self._session.conversation.new_id()
        return utterance.id

    def place(self, utterance: Utterance, turn: int) -> None:
        """Give a turn its number and its place in the log before the transcript arrives."""
        utterance.turn = turn
        if not utterance.log_id:
            utterance.log_id = self._session.conversation.add(
                "message",
                "caller",
                id=self.name(utterance),
                turn=turn,
                at=utterance.start_s,
                ended_at=utterance.end_s,
                status="in_progress",
            ).id

    def take_unasked(self, turn: int) -> Utterance | None:
        """Number the turn that the provider answers by itself, and return it. None if all turns have an answer."""
        utterance = next((u for u in self._ring.utterances if not u.turn or u.text is not None), None)
        if utterance is not None:
            self.place(utterance, turn)
        return utterance

    def answered(self, utterance: Utterance | None) -> None:
        """Mark a turn, if there is one, and those before it as answered.

        They need no audio any longer, but may still get transcripts.
        """
        turns = self._ring.utterances
        for turn in turns[: turns.index(utterance) + 1] if utterance in turns else ():
            self._ring.settle(turn)
            if turn.text is None:
                turn.answered_at = loop_time()
                self._late.append(turn)

    def complete(self, utterance: Utterance, text: str, written: str = "") -> None:
        """Give a turn its final transcript, "" if it holds no words, and the provider's own text if that is another."""
        late = utterance in self._late
        if late:
            self._late.remove(utterance)
        elif utterance.open:
            self._ring.end(utterance, utterance.end_s or self._session.now())
        if text:
            self.place(utterance, utterance.turn or self._session.floor.turn + 1)
            utterance.text = text
            if self._session.conversation.get(utterance.log_id) is not None:
                self._session.conversation.update(utterance.log_id, text=text, written=written, status="complete")
        if late or not text:
            self.settle(utterance)

    def settle(self, utterance: Utterance) -> None:
        """Forget a turn that needs nothing more. A turn without a transcript is removed from the log."""
        self._ring.settle(utterance)
        if utterance.text is None:
            self._unplace(utterance)
        self._provider.notify()

    def leave_to_the_log(self) -> bool:
        """Settle the transcribed turns, and remove the others from the log because their audio is sent again.

        Returns True if a transcribed turn has no answer.
        """
        for utterance in self._late:
            self._unplace(utterance)
        self._late.clear()
        understood = [utterance for utterance in self._ring.utterances if utterance.text is not None]
        for utterance in understood:
            self._ring.settle(utterance)
        for utterance in self._ring.utterances:
            utterance.unknown()
            if utterance.log_id:
                self._unplace(utterance)
        return bool(understood)

    def _unplace(self, utterance: Utterance) -> None:
        self._session.conversation.remove(utterance.log_id)
        utterance.log_id, utterance.turn = "", 0
        utterance.unknown()
