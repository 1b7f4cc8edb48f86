"""`Manners`: a seeded plan of the bad manners of vendors, which scripted servers and mock services show.

    manners = Manners(17)                                  # two or three faults of the family, chosen by the seed
    manners = Manners(17, ["late-pieces", "odd-pieces"])   # these, at moments chosen by the seed
    async with ScriptedOpenAI(model, manners=manners) as server:
        ...
    print(manners)                                         # the faults, and where each was shown

Faults are drawn for each response or message, and shown where the server writes to its wire. The script of the model
stays as it is: an answer that a fault spoils before its first word leaves the script where it was, for the client to
ask again.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import anyio
import msgspec

from ...errors import ConfigurationError, ServiceError
from ...services.tts import SpeechChunk
from .languages import LANGUAGES, Language

Part: TypeAlias = Literal["openai", "gemini", "listen", "speak", "llm", "tts"]
"""A far end with manners: a scripted vendor, Parrot's two services, and a mock LLM and TTS."""
PARTS: tuple[Part, ...] = ("openai", "gemini", "listen", "speak", "llm", "tts")

OFTEN = 0.5
"""The probability with which a fault of the plan is shown at each opportunity."""
PAUSE_S = 0.3
"""The longest pause that changes nothing, in seconds: audio of this length is on its way."""
MAX_WAIT_S = 4.0
"""The longest wait that a rate limit names, in seconds."""
LATE_S = 1.5
"""The most seconds between an end and what comes after it."""
CLOCK_S = 7200.0
"""Seconds by which a wrong clock is wrong."""
ODD_BYTES = (1, 3, 777, 4801)
"""The sizes of odd pieces."""
MAX_SHOWN = 1_000
"""The most faults that a plan remembers as shown."""
UNKNOWN = "tide_table"
"""The name of an event that no vendor has."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of bad manners."""

    name: str
    summary: str
    parts: frozenset[Part]
    """The far ends that can show it."""
    costs: bool
    """True: an answer may come later or be reported as failed. False: the client must not let the caller notice."""
    explains: tuple[str, ...] = ()
    """Texts of the errors that it explains; one that costs an answer explains any."""


def _fault(name: str, parts: str, summary: str, *, costs: bool = False, explains: Sequence[str] = ()) -> Fault:
    return Fault(name, summary, frozenset(part for part in PARTS if part in parts.split()), costs, tuple(explains))


# fmt: off
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in (
    _fault("late-pieces", "openai gemini listen speak",
           "The last words and a copy of the last audio come up to 1.5 s after the end.", costs=True),
    _fault("empty-answer", "openai gemini speak llm tts",
           "An answer ends before its first word.", costs=True),
    _fault("words-without-audio", "openai gemini speak tts",
           "An answer has words, and no audio.", costs=True),
    _fault("audio-without-words", "openai gemini speak",
           "An answer has audio, and no words or times of words.", costs=True),
    _fault("stall-before", "openai gemini listen speak llm tts",
           "An answer begins 3 s late, or never.", costs=True),
    _fault("stall-in-the-middle", "openai gemini speak llm tts",
           "An answer stops for 3 s, or for ever.", costs=True),
    _fault("pause", "openai gemini listen speak llm tts",
           "An answer pauses for up to 0.3 s, less than the audio ahead."),
    _fault("repeated-end", "openai gemini listen speak",
           "An end, and the message just before it, comes twice."),
    _fault("missing-end", "openai gemini listen speak",
           "The end of an answer is never told.", costs=True),
    _fault("reordering", "openai gemini",
           "Pieces without an order in the vendor's documents come in another: words, audio, transcripts, usage."),
    _fault("odd-pieces", "openai gemini listen speak llm tts",
           "Audio and words are cut into tiny and huge pieces of odd numbers of bytes."),
    _fault("unknown-events", "openai gemini listen speak",
           "Events of an unknown type come between the others.", explains=("tide",)),
    _fault("nulls", "openai gemini listen speak",
           "Optional fields are null."),
    _fault("odd-types", "openai gemini listen speak",
           "Fields of no importance have another type.", explains=("without a field",)),
    _fault("rate-limit", "openai gemini speak llm tts",
           "An answer is refused by a rate limit, which says when to ask again.", costs=True),
    _fault("wrong-clock", "openai",
           "The vendor's clock is two hours fast or slow."),
    _fault("other-language", "openai gemini listen llm",
           "Words are Hindi, Chinese, Thai or Arabic letters, with their punctuation, or have an emoji."),
)}
"""All faults, by name."""
# fmt: on

PRE_EMPTIVE = ("empty-answer", "words-without-audio", "stall-before", "rate-limit")
"""The faults that spoil an answer before its first word."""
LOSING = ("empty-answer", "words-without-audio", "rate-limit")
"""The faults after which an answer is not heard; a stall may be another one."""


def faults_of(*parts: Part) -> tuple[str, ...]:
    """Return the names of the faults that at least one of these far ends can show."""
    return tuple(name for name, fault in FAULTS.items() if fault.parts & set(parts))


@dataclass(frozen=True, slots=True)
class Shown:
    """A fault that was shown."""

    fault: str
    part: Part
    where: str


class Manners:
    """The plan: which faults are shown, and when. Each call of a method may draw random numbers.

    Without `faults` the seed chooses two or three of those that `parts` can show. Raises ConfigurationError for an
    unknown fault.
    """

    def __init__(self, seed: int = 0, faults: Iterable[str] | None = None, *, parts: Sequence[Part] = PARTS) -> None:
        self.seed = seed
        self.random = random.Random(f"manners {seed}")
        known = faults_of(*parts)
        chosen = self.random.sample(known, self.random.randint(2, 3)) if faults is None else faults
        self.faults = tuple(chosen)
        if unknown := [name for name in self.faults if name not in FAULTS]:
            raise ConfigurationError(f"unknown faults {unknown}: there are {', '.join(FAULTS)}")
        self.shown: deque[Shown] = deque(maxlen=MAX_SHOWN)
        """The latest faults that were shown, in order."""
        self.names: set[str] = set()
        """The names of all faults that were shown."""
        self.lost = 0
        """The number of answers that cannot be heard unless the client asks again."""
        self.silences = 0
        """How many of these were ended without a word after speech of the caller, as a model may that likes silence."""
        self.language: Language = Language()
        if "other-language" in self.faults:
            self.language = self.random.choice(list(LANGUAGES.values()))
            self._note("other-language", "llm", self.language.name)
        self.clock_s = 0.0
        """Seconds by which the vendor's clock is wrong."""
        if "wrong-clock" in self.faults:
            self.clock_s = self.random.choice([-CLOCK_S, CLOCK_S])
            self._note("wrong-clock", "openai", f"{self.clock_s:+g} s")
        self._polite = False
        self._latest: dict[Part, Literal["clean", "spoiled", "spared"]] = {}
        """The latest answer of each far end."""

    def stop(self) -> None:
        """Show no fault from now on. The language and the clock stay."""
        self._polite = True

    @property
    def costs(self) -> bool:
        """True if a fault was shown that may cost an answer."""
        return any(FAULTS[name].costs for name in self.names)

    def explains(self, message: str) -> bool:
        """Return True if a fault that was shown explains an error with this message."""
        return self.costs or self.is_noise(message)

    def is_noise(self, message: str) -> bool:
        """Return True if an error with this message tells of a fault that was shown and costs nothing."""
        texts = (text for name in self.names for text in FAULTS[name].explains)
        return any(text in message.lower() for text in texts)

    def __repr__(self) -> str:
        return f"Manners({self.seed}, {list(self.faults)})"

    def __str__(self) -> str:
        return "\n".join([repr(self), *(f"  {one.fault}: {one.part} {one.where}" for one in self.shown)])

    # -- for servers -------------------------------------------------------------------------------------------------

    def draw(self, fault: str, part: Part, where: str = "", often: float = OFTEN) -> bool:
        """Return True if the fault is to be shown here."""
        if self._polite or fault not in self.faults or part not in FAULTS[fault].parts:
            return False
        if self.random.random() >= often:
            return False
        self._note(fault, part, where)
        return True

    def _note(self, fault: str, part: Part, where: str) -> None:
        self.names.add(fault)
        self.shown.append(Shown(fault, part, where))

    def pause_s(self, part: Part, where: str = "") -> float:
        """Return the seconds to pause before the next piece, 0 for none."""
        return self.random.uniform(0.0, PAUSE_S) if self.draw("pause", part, where, 0.2) else 0.0

    def stall_s(self) -> float:
        """Return the length of a stall in seconds: 3, or `inf`, which loses the answer."""
        stall_s = self.random.choice([3.0, math.inf])
        self.lost += math.isinf(stall_s)
        return stall_s

    def late_s(self) -> float:
        """Return the seconds between an end and what comes after it."""
        return self.random.uniform(0.0, LATE_S)

    def spoils(self, part: Part, where: str) -> str:
        """Begin an answer. Returns the fault that spoils it before its first word, "" for none.

        An answer after a spoiled one is spared.
        """
        if self._latest.get(part) == "spoiled":
            self._latest[part] = "spared"
            return ""
        self._latest[part] = "clean"
        return next((name for name in PRE_EMPTIVE if self.spoil(name, part, where)), "")

    def spoil(self, fault: str, part: Part, where: str) -> bool:
        """Return True if the fault is to spoil the answer in progress. One answer is spoiled once."""
        if self._latest.get(part, "clean") != "clean" or not self.draw(fault, part, where):
            return False
        self._latest[part] = "spoiled"
        self.lost += fault in LOSING
        return True

    def limit(self) -> tuple[str, str]:
        """Return the code and the message of a rate limit, which names a wait."""
        wait_s = round(self.random.uniform(0.5, MAX_WAIT_S), 1)
        return "rate_limit_exceeded", f"Rate limit reached for requests. Please try again in {wait_s}s."

    def cut(self, data: bytes, part: Part, where: str = "") -> list[bytes]:
        """Return data in pieces of odd sizes, if these are drawn, else in one."""
        if not data or not self.draw("odd-pieces", part, where):
            return [data]
        pieces, start = [], 0
        while start < len(data):
            size = self.random.choice(ODD_BYTES)
            pieces.append(data[start : start + size])
            start += size
            if len(pieces) >= MAX_PIECES:
                pieces.append(data[start:])
                break
        return [piece for piece in pieces if piece]

    # -- for mock services -------------------------------------------------------------------------------------------

    async def tokens(self, tokens: AsyncIterator[T]) -> AsyncIterator[T | str]:
        """Yield the tokens of a language model with pauses, stalls, and cuts within words.

        The faults that spoil a whole answer are drawn by `reply`, or by `spoiled` for a scripted model.
        """
        stalls = self.spoil("stall-in-the-middle", "llm", "in an answer")
        number = 0
        async for token in tokens:
            if isinstance(token, str):
                number += 1
                if pause_s := self.pause_s("llm", f"before token {number}"):
                    await sleep(pause_s)
                if stalls and number == 3:
                    await sleep(self.stall_s())
                if self.draw("odd-pieces", "llm", f"token {number}"):
                    for letter in token:
                        yield letter
                    continue
            yield token

    async def reply(self, generate: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T | str]:
        """Yield the answer of a language model, which is not asked for one that is spoiled before its first word.

        Raises ServiceError for a rate limit.
        """
        match self.spoils("llm", "an answer"):
            case "empty-answer":
                return
            case "stall-before":
                await sleep(self.stall_s())
            case "rate-limit":
                raise ServiceError(": ".join(self.limit()))
        async for token in self.tokens(generate()):
            yield self.language.write(token) if isinstance(token, str) else token

    async def speech(self, pieces: AsyncIterator[SpeechChunk]) -> AsyncIterator[SpeechChunk]:
        """Yield the audio of one sentence of a text-to-speech service, spoiled, paused, stalled or cut as drawn.

        Raises ServiceError for a rate limit.
        """
        match self.spoils("tts", "a sentence"):
            case "empty-answer" | "words-without-audio":
                return
            case "stall-before":
                await sleep(self.stall_s())
            case "rate-limit":
                raise ServiceError(": ".join(self.limit()))
        stalls = self.spoil("stall-in-the-middle", "tts", "in a sentence")
        number = 0
        async for piece in pieces:
            number += 1
            if pause_s := self.pause_s("tts", f"before piece {number}"):
                await sleep(pause_s)
            if stalls and number == 2:
                await sleep(self.stall_s())
            first, *rest = self.cut(piece.audio, "tts", f"piece {number}")
            yield msgspec.structs.replace(piece, audio=first)
            for small in rest:
                yield SpeechChunk(small)


MAX_PIECES = 40
"""The most small pieces into which one piece of audio is cut; the last has the rest."""


async def sleep(seconds: float) -> None:
    """Sleep for some seconds, for ever if they are infinite."""
    await (anyio.sleep_forever() if math.isinf(seconds) else anyio.sleep(seconds))
