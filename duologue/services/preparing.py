"""`Preparing`: the part of a `TTS` that prepares the first sentence of a response before the response has begun."""

from __future__ import annotations

from ..frames import BotText, Interrupted, Usage
from ..processors.processor import handles
from .ahead import Ahead, Prepare
from .service import Service


class Preparing(Service):
    """Prepares a sentence when it is asked to, and keeps its speech until the response begins with that sentence."""

    model: str = ""
    language: str = ""
    """The agent's language, from its configuration; "" means the service's default."""
    failure: Exception | None = None
    """The error with which the service was given up."""

    _ahead: Ahead

    @property
    def at_work(self) -> Preparing:
        """The service that `Usage` names: this one, or the one of a `Fallback` that speaks."""
        return self

    @handles(Prepare)
    async def prepare(self, frame: Prepare) -> None:
        """Prepare a sentence, unless hooks may change it, or drop it if the text is ""."""
        if not (frame.text and (self.failure is not None or self.session.hooks.has(BotText))):
            self.prepare_speech(frame)

    def prepare_speech(self, wanted: Prepare) -> None:
        """Begin the speech of `wanted.text` and keep it, or drop it if the text is ""."""
        self._ahead.prepare(wanted)

    def tell_discarded(self, characters: int, seconds: float) -> None:
        """Report the consumption of a sentence that was thrown away."""
        service, model = self.at_work.name, self.at_work.model
        used = Usage(service=service, model=model, characters=characters, output_audio_s=seconds, discarded=True)
        self.broadcast(used)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Drop a sentence that was prepared. Overriding methods call this, too."""
        self._ahead.interrupt()
