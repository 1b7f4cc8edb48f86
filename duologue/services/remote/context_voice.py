"""`ContextVoice`: the part of a `RemoteTTS` that pushes the audio of its contexts."""

from __future__ import annotations

import logging
from typing import Generic, Literal, TypeVar

from ...errors import ServiceError
from ...frames import BotAudio, BotText, Word, WordTimes
from ...processors.processor import handles
from ..pieces import Feeding, PieceSplitter
from ..sentences import SentenceSplitter
from ..tts import TTS
from .dialect import ConnectionDialect
from .service import RemoteService
from .speech_context import ContextAudio, SpeechContext

log = logging.getLogger("duologue")

D = TypeVar("D", bound=ConnectionDialect)


class ContextVoice(RemoteService[D], TTS, Generic[D]):
    """Pushes the audio of a context as it comes, with the times of its words, and repeats a context that has none."""

    feeding: Feeding = "sentences"
    """How a sentence is sent while it is written. In a `Fallback`, and with hooks on `BotText`, it goes as a whole."""

    @property
    def takes_pieces(self) -> bool:
        """True while a sentence may be sent in pieces."""
        raise NotImplementedError

    async def _speak_piece(self, piece: BotText) -> None:
        raise NotImplementedError

    def _new_splitter(self) -> SentenceSplitter:
        if self.feeding == "sentences":
            return super()._new_splitter()
        return PieceSplitter(self.language, self.feeding, self.reading)

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Queue the complete sentences, and a piece of the one that is not, as `feeding` says."""
        await super().text(frame)
        if isinstance(self._splitter, PieceSplitter) and not self._checks and self.takes_pieces:
            await self._queue(self._splitter.piece(), self._speak_piece)

    @property
    def times_from(self) -> Literal["chunk", "context"]:
        """The zero of the vendor's word times."""
        raise NotImplementedError

    def stop_context(self, context: SpeechContext) -> None:
        """Tell the vendor to stop a context."""
        raise NotImplementedError

    def repeat(self, context: SpeechContext, error: Exception) -> bool:
        """Send a context without audio once more, as a new one. Returns False if that cannot be done now."""
        raise NotImplementedError

    def lose_hung(self, error: Exception) -> bool:
        """Replace the connection after audio that did not come in time, if the next text would wait behind it."""
        raise NotImplementedError

    async def give_all(self, context: SpeechContext) -> None:
        """Push the audio of a context until its end, its failure or its cancellation."""
        try:
            with context.scope:
                await self._give_until_done(context)
            if context.scope.cancelled_caught and context.spoken_s:
                self._recovery.worked()  # it spoke until it was interrupted
        finally:
            context.finished.set()

    async def _give_until_done(self, context: SpeechContext) -> None:
        error = await self._give_chunks(context)
        if (
            error is not None
            and self._recovery.failed(error, in_part=context.spoken_s > 0)
            and not context.spoken_s
            and self.repeat(context, error)
        ):
            log.info("session %s: %s is asked once more: %s", self.session.id, self.name, error)
            error = await self._give_chunks(context)
            if error is not None:
                self._recovery.failed(error, in_part=context.spoken_s > 0)
        if error is None:
            self._recovery.worked()
        else:
            context.error = error
            failure = self._speech.failure = f"no speech for a response: {str(error) or type(error).__name__}"
            self.report(ServiceError(failure))
            for place, written, said in context.leave_out_rest():
                self.session.ledger.correct_text(context.response.response_id, place, written, said)
            self.stop_context(context)
            self.lose_hung(error)
        if not context.spoken_s:
            return
        if words := context.times_of_rest():
            await self._time_words(context, words)
        self.tell_misfits(context.words)

    async def _give_chunks(self, context: SpeechContext) -> Exception | None:
        """Push the audio of a context until its end. Returns the error with which it failed, None for success."""
        try:
            while (chunk := await context.next(self.timeout_s)) is not None:
                await self._give(context, chunk)
                context.check_length(self.max_s_per_character)
            if not context.spoken_s:
                raise ServiceError("the service gave no audio")
        except Exception as error:
            return error
        return None

    async def _give(self, context: SpeechContext, chunk: ContextAudio) -> None:
        if words := context.times_of(chunk, self.times_from):
            await self._time_words(context, words)
        if pcm := context.whole.take(chunk.pcm):
            response = context.response
            self._speech.spoken_s = context.spoken_s = context.spoken_s + len(pcm) / (2 * self.sample_rate)
            await self.push(
                BotAudio(turn=response.turn, response_id=response.response_id, audio=pcm, sample_rate=self.sample_rate)
            )

    async def _time_words(self, context: SpeechContext, words: tuple[Word, ...]) -> None:
        response = context.response
        await self.push(WordTimes(turn=response.turn, response_id=response.response_id, words=words))
