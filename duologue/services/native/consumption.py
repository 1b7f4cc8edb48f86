"""`Consumption`: reports what the model of a native engine has consumed."""

from __future__ import annotations

import msgspec

from ...frames import Usage
from .provider import NativeService
from .reply import Reply
from .uplink import Uplink


class Consumption:
    """Broadcasts each `Usage` of the provider, with the engine's name and the seconds of audio.

    For the engine's own model it includes the audio of the caller sent since the last report.
    """

    def __init__(self, service: NativeService, uplink: Uplink) -> None:
        self._service = service
        self._uplink = uplink
        self._rate = service.capabilities.output_sample_rate
        self.cut: Reply | None = None
        """A cut reply that has ended, but whose consumption is still to come."""

    def of_reply(self, usage: Usage, reply: Reply) -> None:
        """Report the consumption of a reply."""
        audio_s = reply.audio_bytes / (2 * self._rate)
        self.account(msgspec.structs.replace(usage, turn=reply.turn, response_id=reply.id, output_audio_s=audio_s))

    def on_consumed(self, usage: Usage) -> None:
        """Take consumption that is not reported with a reply: that of a cut reply, or of a transcript."""
        reply = self.cut
        if reply is not None and self._is_own(usage):
            self.cut = None
            self.of_reply(usage, reply)
        else:
            self.account(usage)

    def account(self, usage: Usage) -> None:
        """Report consumption as it is."""
        service = self._service
        if self._is_own(usage):
            sent_s = self._uplink.take_sent_s()
            usage = msgspec.structs.replace(usage, model=service.model, input_audio_s=sent_s)
        service.broadcast(msgspec.structs.replace(usage, service=service.name))

    def _is_own(self, usage: Usage) -> bool:
        return usage.model in ("", self._service.model)
