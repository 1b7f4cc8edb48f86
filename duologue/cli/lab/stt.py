"""`STTLab`: speech-to-text services on the same clips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigurationError
from ...services.stt import STT
from .bench import Lab
from .clips import Clip, Noise, read_clips, spoken_clips, with_noise
from .hearing import Understood, hear
from .report import NONE, Picture, middle, ms, percent, show, times, write_csv
from .services import Entry, Kind, served
from .words import WordErrors, scored


@dataclass(frozen=True, slots=True)
class STTRow:
    """One clip through one service. Empty fields were not measured."""

    service: str
    model: str
    clip: str
    snr_db: float | None
    """The signal-to-noise ratio; None without noise."""
    text: str
    understood: str
    words: int
    errors: int
    first_interim_s: float | None
    final_s: float | None
    audio_s: float
    usd: float | None
    error: str


class STTLab(Lab):
    """Compares speech-to-text services."""

    kind: ClassVar[Kind] = "stt"

    def __init__(
        self,
        *,
        services: str,
        folder: Path | None = None,
        levels: str = "20,10,5",
        noise: Noise = "pink",
        seed: int = 1,
        language: str = "",
        scripted: bool = False,
        prices: Path | None = None,
        out: Path = Path("lab"),
    ) -> None:
        super().__init__(services, language=language, scripted=scripted, prices=prices, out=out)
        self.levels: list[float | None] = [None, *_noise_levels(levels)]
        clean = read_clips(folder) if folder is not None else spoken_clips()
        self.clips: list[tuple[float | None, Clip]] = []
        for level in self.levels:
            clips = clean if level is None else with_noise(clean, level, noise, seed)
            self.clips += ((level, clip) for clip in clips)
        for clip in clean:
            scored(clip.text, "", language)  # finds a missing package, or an unknown language, before anything is paid
        self.rows: list[STTRow] = []

    async def measure(self) -> None:
        """Play all clips to each service, in a session of its own."""
        for entry in self.entries:
            async with served("stt", entry, [clip.text for _, clip in self.clips], self.scripted) as given:
                stt: STT = entry.make(**given)
                if self.language:
                    stt.language = self.language
                self.console.print(f"{entry.name}: {len(self.clips)} clips")
                heard = await hear(stt, [clip for _, clip in self.clips], told=self._tell)
            self.rows += (self._row(entry, stt.model, *pair) for pair in zip(self.clips, heard, strict=True))

    def _tell(self, clip: Clip, heard: Understood) -> None:
        self.console.print(f"  {clip.name}: {heard.text or heard.error or NONE}", style="dim")

    def _row(self, entry: Entry, model: str, played: tuple[float | None, Clip], heard: Understood) -> STTRow:
        level, clip = played
        score = scored(clip.text, heard.text, self.language)
        return STTRow(
            service=entry.name,
            model=model,
            clip=clip.name,
            snr_db=level,
            text=clip.text,
            understood=heard.text,
            words=score.words,
            errors=score.errors,
            first_interim_s=heard.first_interim_s,
            final_s=heard.final_s,
            audio_s=clip.duration_s,
            usd=self.usd(entry, model, clip.duration_s),
            error=heard.error,
        )

    def rate(self, service: str, level: float | None) -> float | None:
        """Return the word error rate of a service at a level of noise. A clip that failed counts as missed words."""
        rows = [row for row in self.rows if (row.service, row.snr_db) == (service, level)]
        return reduce(WordErrors.__add__, (WordErrors(row.errors, row.words) for row in rows), WordErrors(0, 0)).rate

    def show(self) -> int:
        """Show a row for each service; write stt.csv and stt.png."""
        places = ["clean" if level is None else f"{level:g} dB" for level in self.levels]
        shown, failed, prices, finals = [], 0, dict[str, float | None](), dict[str, float | None]()
        for entry in self.entries:
            rows = [row for row in self.rows if row.service == entry.name]
            wrong = sum(bool(row.error) for row in rows)
            failed += wrong == len(rows)
            finals[entry.name] = final = middle(row.final_s for row in rows)
            usd = self.usd(entry, rows[0].model, 3600.0)
            prices[rows[0].model] = usd
            shown.append(
                (
                    entry.name,
                    *(percent(self.rate(entry.name, level)) for level in self.levels),
                    ms(middle(row.first_interim_s for row in rows)),
                    ms(final),
                    "unknown" if usd is None else f"{usd:.2f}",
                    str(wrong),
                )
            )
        columns = ["service", *places, "interim", "final", "USD/h", "failed"]
        show(self.console, "Word error rate in %, median times of texts in ms", columns, shown)
        self.console.print("First interim text: from the start of the speech. Final text: from its end.")
        self.unpriced(prices)
        write_csv(self.out / "stt.csv", STTRow, self.rows)
        picture = Picture(2, len(self.entries))
        rates = {
            entry.name: [times(100, self.rate(entry.name, level)) for level in self.levels] for entry in self.entries
        }
        picture.lines("word error rate, %", places, rates)
        picture.bars("final text, ms after the speech (median)", {k: times(1000, v) for k, v in finals.items()})
        picture.save(self.out / "stt.png")
        self.console.print(f"  {self.out / 'stt.csv'}\n  {self.out / 'stt.png'}")
        return 1 if failed else 0


def _noise_levels(levels: str) -> list[float]:
    """Return the levels of noise of a list. Raises ConfigurationError."""
    found: list[float] = []
    for level in filter(None, map(str.strip, levels.split(","))):
        try:
            found.append(float(level))
        except ValueError:
            found.append(math.nan)
        if not -20 <= found[-1] <= 60:
            raise ConfigurationError(f"{level!r} is not a signal-to-noise ratio: a number from -20 to 60 dB")
    return found
