"""`ListeningCartesia`: speech-to-text (Ink). `finalize` is answered with the text of its audio."""

from __future__ import annotations

from typing import Any

from ...services.cartesia.stt import RATE
from .cartesia_script import CartesiaBehaviour, CartesiaConnection, CartesiaGot
from .hearing import HearingConnection, Utterance


class ListeningCartesia(CartesiaConnection, HearingConnection[CartesiaBehaviour, CartesiaGot]):
    """A connection of speech-to-text."""

    rate = RATE
    splits = True

    async def send(self, **fields: Any) -> None:
        """Send a message."""
        await self.deliver(fields, f"a {fields['type']}", ("duration", "request_id", "words"))

    async def receive(self, message: str | bytes) -> None:
        """Take audio, or a message."""
        if isinstance(message, bytes):
            self.hear(message)
            return
        self.got.texts.append(message)
        if message == "finalize":
            self.start(self.answer(self.ended()))
        elif message == "done":
            await self.send(type="done")
            await self.close(1000, "")
        else:
            await self.send(type="error", status_code=400, error_code="invalid_message", message=message)

    async def tell(self, text: str, *, final: bool) -> None:
        """Send a text."""
        await self.send(type="transcript", text=text, is_final=final, language="en", duration=0.1)

    async def tell_interim(self, text: str) -> None:
        """Send a text that another one will replace."""
        await self.tell(text, final=False)

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send the text of an utterance in pieces, which are small if it is `split`, and the answer to `finalize`."""
        size = 3 if split else self.behaviour.piece_letters
        for start in range(0, len(said.text), size):
            await self.tell(said.text[start : start + size], final=True)
        if ends:
            await self.send(type="flush_done")
