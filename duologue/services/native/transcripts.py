"""`Transcripts`: the transcripts of the caller's turns, after the hooks, on their way into the log and the pipeline."""

from __future__ import annotations

from ...errors import ServiceError
from ...frames import UserTranscript
from ...processors.kernel.lane import DrainableLane
from .audio_ring import RECENT_S, AudioRing, Utterance
from .dialect import TurnTranscribed
from .provider import NativeService, Provider
from .turns import Turns

MAX_TRANSCRIPTS = 64
"""The most turns whose transcripts wait for a hook."""


class Transcripts:
    """Takes the provider's transcripts, and asks the hooks about one at a time, in a task of its own.

    The provider's reader does not wait for them.

    Without hooks a transcript is accepted at once.

    A newer transcript of the same turn replaces one that waits. Beyond `MAX_TRANSCRIPTS` turns the oldest is dropped
    and an error reported.
    """

    def __init__(self, owner: NativeService, provider: Provider, ring: AudioRing, turns: Turns) -> None:
        self._owner = owner
        self._session = owner.session
        self._provider, self._ring, self._turns = provider, ring, turns
        self._lane = DrainableLane(owner, MAX_TRANSCRIPTS)
        self._waiting: dict[Utterance, UserTranscript] = {}
        self._asking: Utterance | None = None

    async def on_transcribed(self, event: TurnTranscribed) -> None:
        """Take the transcript of a turn, or of a part of it."""
        text, utterance = event.text.strip(), self._turns.find(event.item)
        if utterance is None:
            if event.item or not text:
                return  # its turn was settled long ago
            utterance = self._ring.begin(self._session.now(), RECENT_S)
        whole = utterance.text_with(event.item, text)
        if event.final:
            utterance.texts[event.item] = text
        # The text of a part is final for the caller only with that of all others.
        final = event.final and not (utterance.commits and utterance.all_texts is None)
        await self._tell(utterance, whole, final=final, language=event.language)

    def turn_ended(self, utterance: Utterance) -> None:
        """Give the final transcript of a turn whose parts have all been transcribed before its end."""
        if utterance.commits and (text := utterance.all_texts) is not None:
            self._owner.spawn(self._tell, utterance, text)

    async def _tell(self, utterance: Utterance, text: str, *, final: bool = True, language: str = "") -> None:
        utterance.transcribed = utterance.transcribed or final
        transcript = UserTranscript(
            text=text,
            final=final,
            start_s=utterance.start_s,
            end_s=(utterance.end_s or self._session.now()) if final else 0.0,
            utterance=self._turns.name(utterance),
            language=language,
        )
        await self._add(utterance, transcript)

    async def _on_asked(self, utterance: Utterance, transcript: UserTranscript, allowed: UserTranscript | None) -> None:
        """Take the hooks' answer: `allowed` is the transcript after the hooks, None if one of them blocked it."""
        if utterance not in self._turns:
            return
        if transcript.final:
            self._turns.complete(utterance, *((allowed.text, allowed.original) if allowed is not None else ("",)))
        if allowed is not None:
            await self._owner.push_up(allowed)  # the processors that take turns are upstream
            await self._owner.push(allowed)
        self._provider.notify()

    async def _add(self, utterance: Utterance, transcript: UserTranscript) -> None:
        """Queue a transcript for the hooks. Never waits for a hook."""
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
        """Drop all transcripts, including the one that a hook has now, because the caller's audio is sent again."""
        self._waiting.clear()
        self._asking = None

    def close(self) -> None:
        """Stop asking the hooks."""
        self.clear()
        self._lane.close()
