"""`Transcribe`: words for the ear before a native engine, from a speech-to-text service beside the line."""

from __future__ import annotations

from ...frames import UserTranscript
from ...processors.pipeline import Pipeline
from ...processors.processor import Processor, handles
from ...processors.tee import Tee
from ..stt import STT


class Transcribe(Pipeline):
    """Gives the ear before a native engine the caller's words while the caller speaks, also interim texts.

    Pipeline([transport.input(), Vad(), Endpointing(), Interruption(), Transcribe(stt), GeminiLive(options=…), …])

    A native engine's own transcripts come after the caller's turn, too late to decide about it. Those of `stt` go to
    the processors before this one, and nowhere else: the log, hooks and watchers have the engine's. The audio and the
    turns reach the engine without delay. The engine's transcripts do not reach the processors before this one.
    """

    def __init__(self, stt: STT) -> None:
        words = EarWords()
        stt.hook = words.take
        stt.replaceable = True  # the call goes on without it
        super().__init__([words, Tee([stt])])


class EarWords(Processor):
    """The place in the line from which the words of a `Transcribe` go up."""

    async def take(self, transcript: UserTranscript) -> None:
        """Give a transcript to the ear, and let it go nowhere else."""
        await self.push_up(transcript)

    @handles(UserTranscript, upstream=True)
    async def stop(self, frame: UserTranscript) -> None:
        """Stop the engine's transcripts: the ear has had these words."""
