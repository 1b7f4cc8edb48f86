"""`Account`: what the caller has heard of the agent's speech, for the ledger, the floor and everyone else."""

from __future__ import annotations

from ...processors.kernel.wake import Wake
from ...session.session import Session
from .audible import Audible
from .queue import QueuedSpeech, SpeechQueue


class Account(Audible):
    """Tells the session what was played of each response in a queue, and when the caller hears the agent."""

    def __init__(self, session: Session, queue: SpeechQueue, sample_rate: int) -> None:
        super().__init__(session)
        self._ledger = session.ledger
        self._queue, self._sample_rate = queue, sample_rate
        self._drains: list[Wake] = []

    def played(self, speech: QueuedSpeech | None, pcm: bytes, ago_s: float) -> None:
        """The far end began to play `pcm` `ago_s` seconds ago. `speech` is None for silence and fades."""
        if (heard := self._session.audio.played).listeners:
            heard.hear(pcm, self._sample_rate, self._session.now() - ago_s)
        if speech is None:
            return
        count = len(pcm) >> 1
        seconds = min(count / self._sample_rate, speech.sent_s - speech.played_s)
        speech.played += count
        speech.played_s += seconds
        self._ledger.played(speech.response_id, seconds)
        if self.audible_turn is not None and speech.turn != self.audible_turn:
            self.stopped()
            self.started(speech.turn)
        if speech.done:
            self.finish(speech)

    def lost(self, speech: QueuedSpeech, count: int) -> None:
        """The far end has not played `count` samples, and never will."""
        speech.played += count
        speech.lost = True
        if speech.done:
            self.finish(speech)

    def finish(self, speech: QueuedSpeech) -> None:
        """All of a response was played, or will never be: settle it."""
        if not self._queue.remove(speech):
            return
        if speech.played_s < speech.sent_s and not speech.lost:
            # Audio that was converted is not the same whole number of samples as before.
            self._ledger.played(speech.response_id, speech.sent_s - speech.played_s)
        self._ledger.finish(speech.response_id, interrupted=speech.lost or speech.status != "completed")
        self.queue_shortened()

    def queue_shortened(self, *, gone: bool = False) -> None:
        """Let `drained` look again if the queue is empty or the far end has `gone`."""
        if not self._queue or gone:
            while self._drains:
                self._drains.pop().wake()

    async def drained(self) -> None:
        """Wait until `queue_shortened` has found the queue empty, or the far end gone."""
        drain = Wake()
        self._drains.append(drain)
        await drain.wait()
