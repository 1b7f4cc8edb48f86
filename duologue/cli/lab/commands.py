"""The commands of `duologue lab`: stt, tts, correction and turns."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..guard import guarded

lab = typer.Typer(
    help="Compare speech services on the same clips or texts, and settings of turn-taking on the same callers.",
    no_args_is_help=True,
)

Services = Annotated[
    str, typer.Option(help="The services, like deepgram,openai:gpt-4o-transcribe,whisper:FOLDER,local.")
]
Out = Annotated[Path, typer.Option(help="Directory for the table (CSV) and the picture.")]
Scripted = Annotated[bool, typer.Option("--scripted", help="Ask servers on this machine that play the vendors.")]
Virtual = Annotated[bool, typer.Option("--virtual", help="Run on a virtual clock: latencies are waits only.")]
Prices = Annotated[Path | None, typer.Option(help="A TOML file of prices that go before those of the package.")]
Language = Annotated[str, typer.Option(help="The language, like en or de_CH; by default that of each service.")]


class Noise(StrEnum):
    """The kinds of noise."""

    pink = "pink"
    babble = "babble"


@lab.command()
def stt(
    services: Services = "local",
    clips: Annotated[
        Path | None, typer.Option(help="A folder of recordings: NAME.wav, each with its words in NAME.txt.")
    ] = None,
    snr: Annotated[str, typer.Option(help="Also with noise, at these signal-to-noise ratios in dB.")] = "20,10,5",
    noise: Annotated[Noise, typer.Option(help="Pink noise, or the other clips at once.")] = Noise.pink,
    seed: Annotated[int, typer.Option(help="The seed of the noise.", min=0)] = 1,
    language: Language = "",
    scripted: Scripted = False,
    virtual: Virtual = False,
    prices: Prices = None,
    out: Out = Path("lab"),
) -> None:
    """Compare speech-to-text: word errors, latencies, noise, cost. Without clips the offline voice speaks some."""

    def run() -> int:
        from .stt import STTLab

        made = STTLab(
            services=services,
            folder=clips,
            levels=snr,
            noise=noise.value,
            seed=seed,
            language=language,
            scripted=scripted,
            prices=prices,
            out=out,
        )
        return made.run(virtual=virtual)

    guarded(run)


@lab.command()
def tts(
    services: Services = "local",
    texts: Annotated[Path | None, typer.Option(help="A file of texts, one in each line.")] = None,
    judge: Annotated[
        str, typer.Option(help="The speech-to-text service that transcribes the speech, like openai; none for none.")
    ] = "local",
    language: Language = "",
    scripted: Scripted = False,
    virtual: Virtual = False,
    prices: Prices = None,
    out: Out = Path("lab"),
) -> None:
    """Compare text-to-speech: first audio, speed, word times, cost, and how well a recogniser understands it."""

    def run() -> int:
        from .tts import TTSLab

        made = TTSLab(
            services=services,
            file=texts,
            judge=judge,
            language=language,
            scripted=scripted,
            prices=prices,
            out=out,
        )
        return made.run(virtual=virtual)

    guarded(run)


@lab.command()
def correction(
    vocabulary: Annotated[Path, typer.Option(help="A CSV file of terms: term,aliases,category,weight,context.")],
    pairs: Annotated[Path, typer.Option(help="A CSV file of transcripts: heard,said, and before for a reply.")],
    language: Annotated[str, typer.Option(help="The language whose words are ordinary.")] = "en",
    out: Out = Path("lab"),
) -> None:
    """Correct transcripts by a vocabulary: word errors before and after, terms put right, time."""

    def run() -> int:
        from .correction import CorrectionLab

        return CorrectionLab(vocabulary=vocabulary, pairs=pairs, language=language, out=out).run()

    guarded(run)


class CallerSet(StrEnum):
    """The sets of callers."""

    dev = "dev"
    held_out = "held-out"


@lab.command()
def turns(
    settings: Annotated[
        list[str] | None,
        typer.Option(help='Settings of the ear, like "silence_ms=400,600 stop_ms=200". Commas make several settings.'),
    ] = None,
    callers: Annotated[CallerSet, typer.Option("--set", help="The callers for tuning, or those for reports.")] = (
        CallerSet.dev
    ),
    lines: Annotated[str, typer.Option(help="The lines, like clean,10 dB,telephone.")] = "clean",
    quick: Annotated[bool, typer.Option("--quick", help="A third of the turns.")] = False,
    processes: Annotated[int, typer.Option(help="Processes; 0 for one on each core.", min=0, max=64)] = 0,
    out: Out = Path("lab"),
) -> None:
    """Compare settings of turn-taking: how often callers are cut off, how soon they get an answer."""

    def run() -> int:
        from .turns.lab import TurnsLab

        made = TurnsLab(settings or (), which=callers.value, lines=lines, quick=quick, processes=processes, out=out)
        return made.run()

    guarded(run)
