"""`TTSLab`: text-to-speech services with the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import ClassVar

from ...errors import BadInput, IllegalState
from ...frames import BotAudio, BotText, ResponseEnded, ResponseStarted, WordTimes
from ...services.tts import TTS
from ...testing.call import BareCall, Probe
from .bench import Lab
from .clips import MARGIN_S, TEXTS, Clip, clip
from .hearing import failure_of, hear
from .report import NONE, Picture, middle, ms, percent, show, times, write_csv
from .services import Entry, Kind, named_services, served
from .words import WordErrors, scored

LIMIT_S = 60.0
"""The limit for the speech of one text, in seconds."""
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class TTSRow:
    """One text through one service. Empty fields were not measured."""

    service: str
    model: str
    text: str
    characters: int
    first_audio_s: float | None
    """From the whole text to its first audio."""
    audio_s: float
    speed: float | None
    """Seconds of audio for each second from the text to its last audio."""
    word_times: bool | None
    """True if the service times the words, False if the times are estimated."""
    words: int | None
    errors: int | None
    """Words of the text, and the judge's errors in them."""
    understood: str
    usd: float | None
    error: str


@dataclass(slots=True)
class SpokenText:
    """The speech of a text."""

    audio: list[tuple[float, BotAudio]] = field(default_factory=list)
    words: list[WordTimes] = field(default_factory=list)
    asked_s: float = 0.0
    error: str = ""

    @property
    def first_audio_s(self) -> float | None:
        """Seconds from the text to its first audio."""
        return self.audio[0][0] - self.asked_s if self.audio else None

    @property
    def audio_s(self) -> float:
        """Its length in seconds."""
        return sum(frame.duration_s for _, frame in self.audio)

    @property
    def speed(self) -> float | None:
        """Seconds of audio for each second from the text to the last audio, None for no time."""
        took_s = self.audio[-1][0] - self.asked_s if self.audio else 0.0
        return self.audio_s / took_s if took_s > 0 else None

    @property
    def has_word_times(self) -> bool | None:
        """True if the service times the words: an estimate is made twice, and is corrected by the speech's length."""
        starts = [frame.words[0].start_s for frame in self.words]
        return None if not starts else len(starts) == len(set(starts))

    def clip(self, name: str, text: str) -> Clip:
        """Return the speech as a clip. Raises BadInput for silence."""
        rate = self.audio[0][1].sample_rate
        margin = bytes(2 * int(MARGIN_S * rate))
        return clip(name, text, margin + b"".join(frame.audio for _, frame in self.audio) + margin, rate)


async def speak_all(tts: TTS, texts: Sequence[str]) -> list[SpokenText]:
    """Return the speech of texts, one response after the other, in a session of its own."""
    async with BareCall.through(tts, Probe(), may_fail=True) as call:
        return [await _speak_one(call, text) for text in texts]


async def _speak_one(call: BareCall, text: str) -> SpokenText:
    session, probe = call.session, call.probe
    assert probe is not None
    frames, errors = len(probe.frames), len(call.errors)
    speech = SpokenText()

    def active() -> bool:
        return session.live

    def came(kind: type[ResponseEnded | BotAudio | WordTimes]) -> list[tuple[float, object]]:
        return [(at, frame) for at, frame in probe.frames[frames:] if isinstance(frame, kind)]

    speech.asked_s = session.now()
    try:
        turn, response_id = session.floor.begin(), session.ledger.new_id()
        session.ledger.open(response_id, turn)
        session.ledger.add_text(response_id, text)
        await session.send(ResponseStarted(turn=turn, response_id=response_id))
        await session.send(BotText(turn=turn, response_id=response_id, text=text))
        await session.send(ResponseEnded(turn=turn, response_id=response_id))
    except IllegalState:  # the session has ended
        if active():
            raise
    while active() and not came(ResponseEnded) and session.now() < speech.asked_s + LIMIT_S:
        await call.waits(LOOK_S)
    speech.audio = [(at, frame) for at, frame in came(BotAudio) if isinstance(frame, BotAudio)]
    speech.words = [frame for _, frame in came(WordTimes) if isinstance(frame, WordTimes)]
    speech.error = failure_of(call, errors) or ("" if speech.audio else "no speech")
    return speech


def read_texts(path: Path) -> list[str]:
    """Return the texts of a file, one for each line that is not empty. Raises BadInput for a file without one."""
    try:
        texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    texts = [text for text in texts if text]
    if not texts:
        raise BadInput(f"{path} has no text: it needs one in each line")
    return texts


class TTSLab(Lab):
    """Compares text-to-speech services."""

    kind: ClassVar[Kind] = "tts"

    def __init__(
        self,
        *,
        services: str,
        file: Path | None = None,
        judge: str = "local",
        language: str = "",
        scripted: bool = False,
        prices: Path | None = None,
        out: Path = Path("lab"),
    ) -> None:
        super().__init__(services, language=language, scripted=scripted, prices=prices, out=out)
        self.texts = read_texts(file) if file is not None else list(TEXTS)
        self.judge: Entry | None = None
        self.no_judge = ""  # why there is none
        if judge == "none":
            self.no_judge = "no judge was named"
        elif judge == "local" and language.lower().replace("_", "-").partition("-")[0] not in ("", "en"):
            self.no_judge = f"the local recogniser knows English only, not {language}: name another --judge"
        else:
            (self.judge,) = named_services("stt", judge)
            for text in self.texts:
                scored(text, "", language)
        self.rows: list[TTSRow] = []

    async def measure(self) -> None:
        """Let each service speak all texts, in a session of its own; then the judge hears them."""
        for entry in self.entries:
            async with served("tts", entry, (), self.scripted) as given:
                tts: TTS = entry.make(**given)
                if self.language:
                    tts.language = self.language
                self.console.print(f"{entry.name}: {len(self.texts)} texts")
                spoken = await speak_all(tts, self.texts)
            understood = await self._understood(entry, spoken)
            for text, speech, heard in zip(self.texts, spoken, understood, strict=True):
                self.rows.append(self._row(entry, tts.model, text, speech, heard))

    async def _understood(self, entry: Entry, spoken: Sequence[SpokenText]) -> list[str | None]:
        """Return the judge's transcripts, None where there is none."""
        found: list[str | None] = [None] * len(spoken)
        if self.judge is None or self._plays_tones(entry):
            return found
        places = [place for place, speech in enumerate(spoken) if any(any(f.audio) for _, f in speech.audio)]
        clips = [spoken[place].clip(f"text {place + 1}", self.texts[place]) for place in places]
        async with served("stt", self.judge, (), scripted=False) as given:
            stt = self.judge.make(**given)
            if self.language:
                stt.language = self.language
            transcripts = await hear(stt, clips, paced=not self.judge.is_free)
        for place, heard in zip(places, transcripts, strict=True):
            found[place] = None if heard.error else heard.text
        return found

    def _plays_tones(self, entry: Entry) -> bool:
        return self.scripted and not entry.is_free

    def _row(self, entry: Entry, model: str, text: str, speech: SpokenText, understood: str | None) -> TTSRow:
        score = None if understood is None else scored(text, understood, self.language)
        return TTSRow(
            service=entry.name,
            model=model,
            text=text,
            characters=len(text),
            first_audio_s=speech.first_audio_s,
            audio_s=speech.audio_s,
            speed=speech.speed,
            word_times=speech.has_word_times,
            words=score and score.words,
            errors=score and score.errors,
            understood=understood or "",
            usd=self.usd(entry, model, speech.audio_s, len(text)),
            error=speech.error,
        )

    def show(self) -> int:
        """Show a row for each service; write tts.csv and tts.png."""
        shown, failed, prices = [], 0, dict[str, float | None]()
        firsts, rates = dict[str, float | None](), dict[str, float | None]()
        for entry in self.entries:
            rows = [row for row in self.rows if row.service == entry.name]
            wrong = sum(bool(row.error) for row in rows)
            failed += wrong == len(rows)
            characters, model = sum(row.characters for row in rows), rows[0].model
            audio_s = sum(row.audio_s for row in rows)
            firsts[entry.name] = first = middle(row.first_audio_s for row in rows)
            judged = (WordErrors(row.errors or 0, row.words) for row in rows if row.words is not None)
            rates[entry.name] = rate = reduce(WordErrors.__add__, judged, WordErrors(0, 0)).rate
            prices[model] = usd = self.usd(entry, model, audio_s * 1000 / characters, 1000)
            speed = middle(row.speed for row in rows)
            timed = [row.word_times for row in rows if row.word_times is not None]
            shown.append(
                (
                    entry.name,
                    ms(first),
                    NONE if speed is None else f"{speed:.1f}",
                    f"{audio_s:.1f} s",
                    str(characters),
                    NONE if not timed else "timed" if all(timed) else NONE,
                    percent(rate),
                    "unknown" if usd is None else f"{usd:.3f}",
                    str(wrong),
                )
            )
        columns = ["service", "ms", "speed", "audio", "chars", "words", "WER", "USD/1k", "failed"]
        show(self.console, "Speech of the same texts", columns, shown)
        self._explain()
        self.unpriced(prices)
        write_csv(self.out / "tts.csv", TTSRow, self.rows)
        picture = Picture(2, len(self.entries))
        picture.bars("first audio, ms after the text (median)", {k: times(1000, v) for k, v in firsts.items()})
        picture.bars("the judge's word error rate, %", {k: times(100, v) for k, v in rates.items()})
        picture.save(self.out / "tts.png")
        self.console.print(f"  {self.out / 'tts.csv'}\n  {self.out / 'tts.png'}")
        return 1 if failed else 0

    def _explain(self) -> None:
        tell = self.console.print
        tell("ms: from the text to its first audio, median. speed: seconds of audio per second. WER in %.")
        tell("words: timed by the service, or – for an estimate. USD/1k: for 1,000 characters.")
        if self.judge is None:
            tell(f"No word error rate: {self.no_judge}.")
            return
        tell(f"WER: the errors of {self.judge.name}, which are the judge's as much as the voice's.")
        if self.judge.offer.name == "sphinx":
            tell("The local recogniser misses most words of open speech: name a better --judge to compare voices.")
        if tones := [entry.name for entry in self.entries if self._plays_tones(entry)]:
            tell(f"Scripted servers play tones, which no judge understands: {', '.join(tones)}.")
