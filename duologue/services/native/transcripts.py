"""`Transcripts`: the caller's transcripts on their way past the hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...errors import ServiceError
from ...frames import UserTranscript
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from .audio_ring import Utterance

MAX_TRANSCRIPTS = 64
"""Turns whose transcripts wait for a hook."""

OnAsked = Callable[[Utterance, UserTranscript, UserTranscript | None], Awaitable[None]]
"""Takes the turn, its transcript, and the hooks' answer to that."""


class Transcripts:
    """Asks the hooks about one transcript at a time, in a task of its own: the provider's reader goes on meanwhile.

    Without hooks a transcript counts at once.

    A newer transcript of the same turn takes the place of one that waits. Beyond `MAX_TRANSCRIPTS` turns the oldest is
    dropped, with an error.
    """

    def __init__(self, owner: Processor, on_asked: OnAsked) -> None:
        self._owner = owner
        self._session = owner.session
        self._on_asked = on_asked
        self._lane = DrainableLane(owner, MAX_TRANSCRIPTS)
        self._waiting: dict[Utterance, UserTranscript] = {}
        self._asking: Utterance | None = None

    async def add(self, utterance: Utterance, transcript: UserTranscript) -> None:
        """Ask the hooks about a transcript as soon as those before it are through. Never waits for a hook."""
        if not (self._waiting or self._asking or self._session.hooks.has(UserTranscript)):
            await self._on_asked(utterance, transcript, await self._session.hooks.transcript(transcript))
            return
        if utterance in self._waiting:
            self._waiting[utterance] = transcript
            return
        if len(self._waiting) >= MAX_TRANSCRIPTS:
            del self._waiting[next(iter(self._waiting))]
            self._session.report(ServiceError("hooks take too long: a transcript is dropped"), self._owner.name)
        self._waiting[utterance] = transcript
        self._lane.put_up(self._ask, transcript)

    async def _ask(self, _: UserTranscript) -> None:
        if not self._waiting:
            return  # it was dropped
        utterance = next(iter(self._waiting))
        transcript = self._waiting.pop(utterance)
        self._asking = utterance
        allowed = await self._session.hooks.transcript(transcript)
        if self._asking is utterance:
            await self._on_asked(utterance, transcript, allowed)
            self._asking = None

    def clear(self) -> None:
        """Drop all transcripts, also the one that the hooks are asked about: the caller will be heard again."""
        self._waiting.clear()
        self._asking = None

    def close(self) -> None:
        """Ask about nothing any longer."""
        self.clear()
        self._lane.close()
