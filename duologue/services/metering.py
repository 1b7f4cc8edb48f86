"""`Metering`: the consumption of a speech service, estimated between its reports."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from msgspec.structs import replace

from ..frames import Signal, Usage
from ..session.running import Running


class MeteredService(Protocol):
    """The part of a speech service that its metering uses. In a `Fallback`, `at_work` is the service at work."""

    @property
    def name(self) -> str: ...
    @property
    def at_work(self) -> Any: ...
    @property
    def session(self) -> Any: ...
    def broadcast(self, signal: Signal) -> None: ...


class Metering:
    """The account of a speech service: `running` grows with its work, `report` takes its place."""

    def __init__(self, service: MeteredService) -> None:
        self._service = service
        self._running: Running | None = None  # made for the first work

    @property
    def running(self) -> Running:
        """The estimate since the last report, of the service at work."""
        running, service = self._running, self._service.at_work
        if running is None or running.service != service.name or running.model != service.model:
            if running is not None:
                running.close()
            running = self._running = self._service.session.cost.running(service.name, service.model)
        return running

    def report_soon(self, usage: Usage, told: Usage | None) -> None:
        """Report after what follows from the work at once: the caller waits for that.

        `told` are the amounts as the vendor reports them. Without it, tokens of audio are estimated.
        """
        rate = self.running.input_tokens_per_s
        if told is not None:
            seconds = told.input_audio_s or usage.input_audio_s
            usage = replace(told, service=usage.service, model=usage.model, input_audio_s=seconds)
        elif rate:
            tokens = round(usage.input_audio_s * rate)
            usage = replace(usage, input_tokens=tokens, input_audio_tokens=tokens, estimated=True)
        asyncio.get_running_loop().call_soon(self.report, usage)

    def take_back(self, characters: int) -> int:
        """Remove text from the estimate that the service does not charge. Returns `characters`."""
        self.running.takes_back(characters)
        return characters

    def give_up(self) -> None:
        """Report the estimate: the service stops in the middle of its work."""
        if self._running is not None and (used := self._running.estimate()) is not None:
            self.report(used)

    def report(self, usage: Usage) -> None:
        """Broadcast a report, in place of the estimate."""
        if self._running is not None:
            self._running.settle()
        self._service.broadcast(usage)
