"""`FallbackTTS`: several text-to-speech services, of which the next one speaks if one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from ...audio.pcm import WholeSamples
from ...audio.resample import Resampler
from ...errors import ConfigurationError, DeadlineExceeded, ServiceError
from ...frames import ResponseStarted, SpeechStarted, Usage, Word
from ...processors.handoff.handoff import Handoff
from ...processors.kernel.groups import leaves
from ...processors.kernel.handlers import find_handler
from ...processors.kernel.host import Host
from ...processors.kernel.node import Node
from ...processors.kernel.tasks import loop_time
from ...processors.processor import handles
from ...session.ledger import SPOKEN_CHARACTERS_PER_S, cut_text
from ..ahead import Prepare
from ..response_speech import WordAligner, in_proportion
from ..service import stream_of, wrong_piece
from ..spoken_text import Piece, Spoken
from ..tts import TTS, SpeechChunk
from .attempt import Attempt
from .members import Candidate, FallbackLimits, Members, Round

PROBE = "Yes."
"""The text by which a voice is probed."""
END_S = 1.0
"""Seconds to wait for the end of a sentence whose last word has been spoken."""
LEAST_PACED_S = 0.5
"""The shortest speech from which the pace of a voice is learnt, in seconds."""


class FallbackTTS(TTS):
    """Several text-to-speech services as one: see `Fallback`."""

    reopens = False

    def __init__(self, services: Sequence[TTS], limits: FallbackLimits) -> None:
        self.members = Members(self, "tts", services, limits, self._try_out)
        super().__init__()
        first = services[0]
        self.sample_rate = first.sample_rate
        self.voices = first.voices
        self.reading = first.reading
        self.ahead = min(service.ahead for service in services)
        self.max_s_per_character = max(service.max_s_per_character for service in services)
        self.timeout_s = limits.first_s * len(services) + max(service.timeout_s for service in services)
        self._chosen: Candidate[TTS] | None = None  # speaks the response in progress
        self._pace: dict[TTS, float] = {}  # characters a second
        self._refused: set[str] = set()  # voices of the agent that a service does not have

    @property
    def name(self) -> str:
        return self.members.name

    @property
    def at_work(self) -> TTS:
        """The service that speaks."""
        return self.members.active.service

    def _join(self, host: Host) -> None:
        super()._join(host)
        self.members.join(host)

    def _leave(self) -> None:
        super()._leave()
        self.members.leave()

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        super().check_place(before, after)
        self.members.check_place((*before, *after))

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError if the first service does not have this voice."""
        self.members.services[0].check_voice(voice)

    async def open(self) -> None:
        """Open the services: see `Fallback`."""
        await super().open()
        await asyncio.sleep(0)  # the first agent configures the engine at the same time
        self._configure()
        await self.members.open()

    async def close(self) -> None:
        """Stop speaking, and close all services."""
        await super().close()
        await self.members.close()

    @handles(SpeechStarted)
    async def caller_speaks(self, frame: SpeechStarted) -> None:
        """Let the service that will speak prepare itself, if it does so when the caller speaks."""
        await self.push(frame)
        service = next((member.service for member in self.members.all if member.works), self.members.services[0])
        if (found := find_handler(service.spec().down, SpeechStarted)) is not None:
            await getattr(service, found.method)(frame)

    def prepare_speech(self, wanted: Prepare) -> None:
        """Begin the speech of a sentence, unless another one is spoken: some services speak one text at a time."""
        if not (wanted.text and self._ahead.busy):
            super().prepare_speech(wanted)

    # -- a response ------------------------------------------------------------------------------------------------

    async def _begin(self, frame: ResponseStarted) -> None:
        self._chosen = None
        self._configure()
        await super()._begin(frame)

    def _configure(self) -> None:
        """Pass on the agent's language and voice, for services that are opened later."""
        for service in self.members.services:
            service.language = self.language
            service.agent_voice = self._voice_of(service, self.agent_voice)

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text` by the first service that works; after a failure, the rest of it by the next one.

        Raises ServiceError or DeadlineExceeded if all fail.
        """
        asked = self.members.round(self._chosen)
        part = SentencePart(text)
        while (service := await asked.begin()) is not None:
            self._chosen = asked.current
            once_more = True
            while once_more:
                once_more = False
                part.begin(self._pace.get(service, SPOKEN_CHARACTERS_PER_S))
                try:
                    async with aclosing(self._speech_of(service, asked, part, voice)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    asked.worked()
                    if part.spoken_s >= LEAST_PACED_S:
                        self._pace[service] = len(part.text) / part.spoken_s
                    return
                except Exception as error:
                    if words := part.cut():
                        yield SpeechChunk(b"", words)
                    once_more = not part.spoken_s and await asked.wait_for(error)
                    if not once_more:
                        self._tell_usage(service, part)
                        asked.failed(error)
            if not part.rest.strip():
                return  # only the end was missing
        raise asked.error()

    def _tell_usage(self, service: TTS, part: SentencePart) -> None:
        """Tell the consumption of a part that has failed: discarded if its response has not begun.

        A request that has failed before its first piece costs nothing.
        """
        if not part.spoken_s:
            return
        usage = Usage(
            service=service.name,
            model=service.model,
            characters=len(part.text),
            output_audio_s=part.spoken_s,
            discarded=self._ahead.is_speculative(part.sentence),
        )
        self.broadcast(usage)

    async def _speech_of(
        self, service: TTS, asked: Round[TTS], part: SentencePart, voice: str
    ) -> AsyncGenerator[SpeechChunk, None]:
        """Yield what a service speaks of a part, at this object's sample rate."""
        speech = service.synthesize(part.text, self._voice_of(service, voice))
        stream = stream_of(service, "synthesize", speech, "SpeechChunk")
        attempt = Attempt(self, f"{service.name}.synthesize", stream)
        whole, converted = WholeSamples(), Resampler(service.sample_rate, self.sample_rate)
        since = loop_time()
        try:
            while True:
                limit_s = END_S if part.complete else asked.limit_s(part.spoken_s > 0, service.timeout_s)
                try:
                    chunk = await attempt.next(max(0.0, since + limit_s - loop_time()))
                except DeadlineExceeded:
                    if not part.complete:
                        raise
                    break
                if chunk is None:
                    break
                if not isinstance(chunk, SpeechChunk):
                    raise wrong_piece(service, "synthesize", chunk, "SpeechChunk")
                if pcm := whole.take(chunk.audio):
                    since = loop_time()
                    part.spoken_s += len(pcm) / (2 * service.sample_rate)
                words = part.times(chunk.words)
                if words or pcm:
                    yield SpeechChunk(converted.process(pcm), words)
            if not part.spoken_s:
                raise ServiceError("the service gave no audio")
        except Exception:
            if rest := converted.flush():
                yield SpeechChunk(rest)
            raise
        finally:
            attempt.stop()
        rest, words = converted.flush(), part.times_of_rest()
        if rest or words:
            yield SpeechChunk(rest, words)

    # -- voices ----------------------------------------------------------------------------------------------------

    def _voice_of(self, service: TTS, voice: str) -> str:
        """Return the voice with which a service speaks: `voice` is the first one's."""
        if service.voices == self.voices and (service is self.members.services[0] or self.voices):
            return voice
        table = self._voice_table()
        wanted = table.get(service.voices, "") if service.voices else ""
        try:
            if wanted:
                service.check_voice(wanted)
        except ConfigurationError as error:
            if wanted not in self._refused:
                self._refused.add(wanted)
                self.session.report(error, service.name)
            return ""
        return wanted

    def _voice_table(self) -> Mapping[str, str]:
        """Return the voices of the agent that speaks, by family."""
        name, agent = self._writing.agent, self.session.agent
        for leaf in leaves(self.session.pipeline):
            if isinstance(leaf, Handoff):
                agent = leaf.agents.get(name, agent)
        return agent.voice if agent is not None and isinstance(agent.voice, Mapping) else {}

    async def _try_out(self, service: TTS) -> None:
        stream = stream_of(service, "synthesize", service.synthesize(PROBE, ""), "SpeechChunk")
        attempt = Attempt(self, f"{service.name}.synthesize", stream)
        try:
            due = loop_time() + self.members.limits.first_s
            while (chunk := await attempt.next(max(0.0, due - loop_time()))) is not None:
                if isinstance(chunk, SpeechChunk) and chunk.audio:
                    return
        finally:
            attempt.stop()
        raise ServiceError("the service gave no audio")


class SentencePart:
    """A sentence of which one service after the other speaks a part, up to a whole word.

    Times are in seconds of the sentence's audio.
    """

    def __init__(self, sentence: str) -> None:
        self.rest = self.text = sentence
        """`text` is the part that the present service speaks, `rest` what is left after a `cut`."""
        self.spoken_s = 0.0
        """Seconds of audio of this part."""
        self.sentence = sentence
        self._at = 0  # where the part begins in the sentence
        self._begin_s = 0.0
        self._told = 0  # the end of the words in the sentence whose times were returned
        self._pace = 0.0
        self.begin(SPOKEN_CHARACTERS_PER_S)

    def begin(self, pace: float) -> None:
        """Begin with the rest of the sentence, spoken at `pace` characters a second."""
        self.text, self.spoken_s, self._pace = self.rest, 0.0, pace
        self._words = WordAligner()
        self._words.add(Spoken((Piece(self.text, self.text),)))
        self._words.begin(0.0)
        self._timed: list[tuple[int, Word]] = []  # with the end of each in the part
        self._place = 0
        self._next = 0

    def times(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Take words as the service times them. Returns those that have begun, as the sentence has them."""
        for word in self._words.align(words) if words else ():
            self._place += len(word.text)
            self._timed.append((self._place, word))
        return self._return(self.spoken_s)

    @property
    def complete(self) -> bool:
        """True once the last word has been spoken, by its time."""
        if not self._timed:
            return False
        end, word = self._timed[-1]
        return word.end_s <= self.spoken_s and not self.text[end:].strip()

    def times_of_rest(self) -> tuple[Word, ...]:
        """Return the words that have not been returned."""
        return self._return(float("inf"))

    def _return(self, before_s: float) -> tuple[Word, ...]:
        begun: list[Word] = []
        while self._next < len(self._timed) and self._timed[self._next][1].start_s < before_s:
            end, word = self._timed[self._next]
            self._next += 1
            if self._at + end > self._told:
                self._told = self._at + end
                begun.append(Word(word.text, self._begin_s + word.start_s, self._begin_s + word.end_s))
        return tuple(begun)

    def cut(self) -> tuple[Word, ...]:
        """End the part after the last whole word that was spoken. Returns the times of words that are known by that."""
        words: tuple[Word, ...] = ()
        end_s = self.spoken_s + 1e-3
        if self._timed:
            said = max((end for end, word in self._timed if word.end_s <= end_s), default=0)
        else:
            said = len(cut_text(self.text, int(self.spoken_s * self._pace + 1e-6)))
            if said:
                said += len(self.text[said:]) - len(self.text[said:].lstrip())
                words = in_proportion(self.text[:said], self._begin_s, self._begin_s + self.spoken_s)
                self._told = self._at + said
        self._at += said
        self._begin_s += self.spoken_s
        self.rest = self.sentence[self._at :]
        return words
