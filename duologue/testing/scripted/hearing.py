"""`HearingConnection`: the base of the connections of scripted vendors of speech-to-text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import anyio

from .manners import sleep
from .vendor import G, VendorBehaviour, VendorConnection

WORD_S = 0.3
"""Seconds of each word in a transcript."""


@dataclass(kw_only=True)
class HearingBehaviour(VendorBehaviour):
    """The behaviour of a vendor that understands speech."""

    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word or the recogniser's text; 0 for no interim."""
    answer_delay_s: float = 0.0
    """Seconds between the end of an utterance and its text."""
    answers: int = 1
    """The number of answers to each end of an utterance. 0 keeps the text for the next one."""


class Utterance(NamedTuple):
    """An utterance that has ended: its text, and its place in seconds of the connection's audio."""

    text: str
    start_s: float
    end_s: float
    number: int = 0
    """The number of the vendor's turn, if it counts them."""


H = TypeVar("H", bound=HearingBehaviour)


class HearingConnection(VendorConnection[H, G]):
    """Takes the caller's audio, and tells its text. A vendor gives the messages."""

    part = "listen"
    rate = 16_000
    """The sample rate of the caller's audio in Hz."""
    splits: ClassVar[bool] = False
    """True if the text of an utterance may come in several segments."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._from = 0
        """The byte of the audio with which the utterance begins."""
        self._interims = 0

    @property
    def heard_s(self) -> float:
        """Seconds of audio received."""
        return len(self.got.audio) / (2 * self.rate)

    @property
    def began_s(self) -> float:
        """Seconds of audio before the utterance."""
        return self._from / (2 * self.rate)

    @property
    def spoken(self) -> bytes:
        """The audio of the utterance."""
        return bytes(self.got.audio[self._from :])

    # -- of a vendor -------------------------------------------------------------------------------------------------

    async def tell_interim(self, text: str) -> None:
        """Send a text that another one will replace."""
        raise NotImplementedError

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send the text of an utterance, in several segments if it is `split`, and its end, unless that is missing."""
        raise NotImplementedError

    async def tell_late(self, said: Utterance) -> None:
        """Send what comes after the end of an utterance by mistake."""
        await self.tell_interim(said.text)

    # -- the utterance -----------------------------------------------------------------------------------------------

    def hear(self, pcm: bytes) -> None:
        """Take audio, and send an interim text if one is due."""
        self.got.audio += pcm
        self.tell_due()

    def tell_due(self) -> None:
        """Send an interim text if one is due."""
        if (due := self.due()) and (text := self.understood(self.spoken, whole=False, words=due)):
            self.start(self.tell_interim(text))

    def due(self) -> int:
        """Return the number of interim texts that the utterance should have by now, 0 if it has them."""
        interim_s = self.behaviour.interim_s
        due = int((self.heard_s - self.began_s) / interim_s + 1e-9) if interim_s else 0
        if due <= self._interims:
            return 0
        self._interims = due
        return due

    def ended(self) -> Utterance:
        """End the utterance, and return it."""
        pcm, start_s = self.spoken, self.began_s
        self._from, self._interims = len(self.got.audio), 0
        self.got.utterances.append(pcm)
        return Utterance(self.understood(pcm, whole=True), start_s, self.heard_s)

    def understood(self, pcm: bytes, *, whole: bool, words: int = 0) -> str:
        """Return the text of an utterance; one that is not `whole` has at most `words` words."""
        behaviour = self.behaviour
        transcripts = behaviour.transcripts
        if callable(transcripts):
            text = transcripts(pcm)
        else:
            text = transcripts[0] if transcripts else ""
            if not whole:
                text = " ".join(text.split()[:words])
            elif behaviour.answers:
                behaviour.transcripts = transcripts[1:]
        return self.manners.language.write(text)

    async def answer(self, said: Utterance) -> None:
        """Tell the text of an utterance, with the faults of the plan."""
        await anyio.sleep(self.behaviour.answer_delay_s)
        manners, where = self.manners, f"answer {said.text!r}"
        if manners.draw("stall-before", self.part, where):
            await sleep(manners.stall_s())
        ends = not manners.draw("missing-end", self.part, where)
        split = self.splits and manners.draw("odd-pieces", self.part, where)
        for _ in range(self.behaviour.answers + manners.draw("repeated-end", self.part, where)):
            await self.tell_final(said, ends=ends, split=split)
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self.tell_late(said)


def timed(text: str, start_s: float) -> list[tuple[str, float, float]]:
    """Return the words of a text, each of `WORD_S`, with their starts and ends in seconds."""
    return [(word, start_s + n * WORD_S, start_s + (n + 1) * WORD_S) for n, word in enumerate(text.split())]
