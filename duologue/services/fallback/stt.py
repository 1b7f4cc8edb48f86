"""`FallbackSTT`: several speech-to-text services, of which the next one takes the utterance if one fails."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...audio.resample import MonoAt
from ...errors import ConfigurationError, DeadlineExceeded, ServiceError
from ...frames import EndOfTurn, Usage
from ...processors.kernel.host import Host
from ...processors.kernel.lane import Overdue, Patience
from ...processors.kernel.node import Node
from ...processors.kernel.tasks import Stopped
from ..service import result_of
from ..stt import STT, Transcription
from .members import FallbackLimits, Members, Round

PROBE_S = 0.3
"""Seconds of silence by which a service is probed."""


class FallbackSTT(STT):
    """Several speech-to-text services as one: see `Fallback`."""

    reopens = False

    def __init__(self, services: Sequence[STT], limits: FallbackLimits) -> None:
        for service in services:
            if EndOfTurn in service.gives:
                raise ConfigurationError(
                    f"{service.name} finds the caller's turns itself and cannot stand in a Fallback: put each engine "
                    f"into a Switch, and give its name to Handoff(failover=…)"
                )
        self.members = Members(self, "stt", services, limits, self._try_out)
        super().__init__()
        self.sample_rate = services[0].sample_rate
        self.preroll_ms = max(service.preroll_ms for service in services)
        self.max_utterance_s = min(service.max_utterance_s for service in services)
        self.timeout_s = 2 * limits.first_s * len(services) + max(service.timeout_s for service in services)
        self._language = ""
        self._asked: Round[STT] = self.members.round()
        self._active: STT | None = None  # takes the utterance in progress; None once all have failed
        self._mono = MonoAt(self.sample_rate)
        self._patience = Patience()
        self._pieces: list[bytes] = []  # of the utterance, at most `max_utterance_s` of them
        self._best = Transcription(text="")
        for service in services:
            service.interims = partial(self._interim, service)

    @property
    def name(self) -> str:
        return self.members.name

    @property
    def at_work(self) -> STT:
        """The service that has the utterance."""
        return self.members.active.service

    @property
    def language(self) -> str:
        """The caller's language."""
        return self._language

    @language.setter
    def language(self, language: str) -> None:
        self._language = language
        for service in self.members.services:
            service.language = language

    def _join(self, host: Host) -> None:
        super()._join(host)
        self.members.join(host)

    def _leave(self) -> None:
        super()._leave()
        self.members.leave()

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        super().check_place(before, after)
        self.members.check_place((*before, *after))

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Let each service expect the terms. Returns the most that one of them takes."""
        return max(service.expect_terms(terms) for service in self.members.services)

    async def open(self) -> None:
        """Open the services: see `Fallback`."""
        await super().open()
        await self.members.open()

    async def close(self) -> None:
        """Close all services."""
        self._patience.end()
        await super().close()
        await self.members.close()

    # -- the utterance ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Begin an utterance with the first service that works."""
        self._pieces.clear()
        self._best = Transcription(text="")
        self._asked = self.members.round()
        await self._change()

    async def feed(self, pcm: bytes) -> str:
        """Take more audio. If the service fails, the next one gets the utterance from its first sample."""
        self._pieces.append(pcm)
        if self._active is None:
            return ""
        try:
            return await self._give(self._active, pcm)
        except Exception as error:
            self._failed(error)
            await self._change()
            return ""

    async def finish(self) -> Transcription:
        """End the utterance. Returns its text, from the first service that gives one.

        Raises ServiceError or DeadlineExceeded if all fail.
        """
        while self._active is not None:
            service = self._active
            finish = partial(result_of, service, "finish", service.finish, Transcription)
            try:
                if rest := self._mono.flush():
                    await self._give_converted(service, rest)
                said = await self.members.run(self._asked.current, "finish", finish, self._limit_s(service))
                if not isinstance(said.text, str):
                    raise ServiceError(f"{service.name} gave a text of type {type(said.text).__name__}")
                if not (said.text.strip() or service.answered or self._asked.patient):
                    raise DeadlineExceeded("no answer at the end of an utterance")
            except Stopped:
                raise
            except Exception as error:
                self._failed(error)
                await self._change()
            else:
                self._asked.worked()
                return said if said.text.strip() or service.answered else self._best
        raise self._asked.error()

    def partial(self) -> Transcription:
        """Return the longest text that a service had before it failed."""
        return self._best

    async def _change(self) -> None:
        """Give the utterance to the next service. Raises the error of all if none is left."""
        while (service := await self._asked.begin()) is not None:
            self._active, self._mono = service, MonoAt(service.sample_rate)
            try:
                await self.members.run(self._asked.current, "begin", service.begin, self._limit_s(service))
                for pcm in self._pieces:
                    await self._give(service, pcm)
            except Stopped:
                raise
            except Exception as error:
                self._failed(error)
            else:
                return
        self._active = None
        raise self._asked.error()

    async def _give(self, service: STT, pcm: bytes) -> str:
        if service.sample_rate == self.sample_rate:
            return await self._give_converted(service, pcm)
        converted = self._mono.process(pcm, self.sample_rate, 1)
        return await self._give_converted(service, converted) if converted else ""

    async def _give_converted(self, service: STT, pcm: bytes) -> str:
        limit_s = self._limit_s(service)
        try:
            interim = await self._patience.wait(service.feed(pcm), limit_s)
        except Overdue:
            raise DeadlineExceeded(f"{service.name}.feed took longer than {limit_s:g} s") from None
        if not isinstance(interim, str):
            raise ServiceError(f"{service.name}.feed gave {type(interim).__name__}, not str")
        return interim

    def _limit_s(self, service: STT) -> float:
        return self._asked.limit_s(False, service.timeout_s)

    def _failed(self, error: Exception) -> None:
        service, self._active = self._active, None
        if service is not None:
            fed_s = sum(map(len, self._pieces)) / (2 * self.sample_rate)
            self.broadcast(Usage(service=service.name, model=service.model, input_audio_s=fed_s))
            try:
                had = service.partial()
                if isinstance(had.text, str) and len(had.text) > len(self._best.text):
                    self._best = had
                service.abandon()
            except Exception as failure:
                self.session.report(failure, service.name)
        self._asked.failed(error)

    async def _interim(self, service: STT, text: str) -> None:
        if service is self._active:
            await self.tell_interim(text)

    async def _try_out(self, service: STT) -> None:
        try:
            await service.begin()
            await service.feed(bytes(2 * int(PROBE_S * service.sample_rate)))
            await service.finish()
        except BaseException:
            service.abandon()
            raise
