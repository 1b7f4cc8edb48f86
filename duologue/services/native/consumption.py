"""`Consumption`: the reports of a native engine's provider, and the estimate between them."""

from __future__ import annotations

import msgspec

from ...frames import Usage
from .provider import NativeService
from .reply import Reply
from .uplink import Uplink


class Consumption:
    """Broadcasts each `Usage` of the provider, with the engine's name and the seconds of audio.

    For the engine's own model it includes the audio of the caller sent since the last report. Between the reports the
    consumption is estimated. A reply that the provider never reports counts as estimated once the next one begins, or
    the connection is lost.
    """

    def __init__(self, service: NativeService, uplink: Uplink) -> None:
        self._service = service
        self._uplink = uplink
        self._rate = service.capabilities.output_sample_rate
        self.running = service.session.cost.running(service.name, service.model)
        """The estimate since the last report."""
        self._context: Usage | None = None  # the latest report
        self.untold: Reply | None = None
        """A reply that has ended, but whose consumption is still to come."""

    def close(self) -> None:
        """Count what was not reported: no report follows."""
        self.give_up()
        self.running.close()

    def give_up(self) -> None:
        """Count the consumption since the last report as it was estimated: the provider has not reported it."""
        used, self.untold = self.running.estimate(), None
        self.running.settle()
        if used is not None:
            self._uplink.take_sent_s()
            self._service.broadcast(used)

    def abandon(self, *, going_on: bool) -> None:
        """The connection is lost: replies `going_on`, or just ended, will not be reported."""
        if going_on or self.untold is not None:
            self.give_up()

    def begins(self) -> None:
        """A reply begins: the report of the one before will not come any more, and the context is read again."""
        if self.untold is not None:
            self.give_up()
        if self._context is not None:
            self.running.reads_again(self._context)

    def ended(self, reply: Reply, usage: Usage | None) -> None:
        """A reply has ended. Its consumption may come later."""
        self.untold = reply if usage is None else None
        if usage is not None:
            self.of_reply(usage, reply)

    def of_reply(self, usage: Usage, reply: Reply) -> None:
        """Report the consumption of a reply."""
        audio_s = reply.audio_bytes / (2 * self._rate)
        told = {"turn": reply.turn, "response_id": reply.id, "output_audio_s": audio_s, "discarded": reply.ask.early}
        self.account(msgspec.structs.replace(usage, **told))

    def on_consumed(self, usage: Usage) -> None:
        """Take consumption that is not reported with a reply: that of one that has ended, or of a transcript."""
        reply = self.untold
        if reply is not None and self._is_own(usage):
            self.untold = None
            self.of_reply(usage, reply)
        else:
            self.account(usage)

    def account(self, usage: Usage) -> None:
        """Report consumption as it is."""
        service = self._service
        if self._is_own(usage):
            sent_s = self._uplink.take_sent_s()
            usage = msgspec.structs.replace(usage, model=service.model, input_audio_s=sent_s)
            self.running.settle()
            self._context = usage
        service.broadcast(msgspec.structs.replace(usage, service=service.name))

    def _is_own(self, usage: Usage) -> bool:
        return usage.model in ("", self._service.model)
