"""What the optional ears hear and what they cost: detectors of voice, smart-turn, echo cancellation, noise suppression.

    python -m benchmarks.ears
    python -m benchmarks.ears --smart-turn smart-turn-v3.2-cpu.onnx --json

`heard` is the share of speech that a detector scores as voiced, `false` the share of pauses, `sounds` the share of
coughs, doors and the like that start speech, each in %, on the labelled callers of the set `dev` of `benchmarks.turns`.
`cpu` is the least CPU time of some rounds, in ms for each minute of audio of which 45 % is speech; that of smart-turn
is for one judgement. `echo_db` is the level of an echo that is taken out after 4 s of speech, `noise_db` that of noise.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks._report import report_against
from duologue import SileroVad, SmartTurn
from duologue.audio.vad import Detector, Framer, NoiseGate, WebRtcVad
from duologue.cli.lab.turns.noises import SOUNDS, make_sound
from duologue.cli.lab.turns.rooms import CONDITIONS, Room
from duologue.cli.lab.turns.scripts import read_script
from duologue.cli.lab.turns.voices import RATE, speakers, speech_of

LEVEL_DBFS = -26.0
TURNS = 8
PIECE = 640
ROUNDS = 3
DETECTORS: dict[str, Callable[[], Detector]] = {
    "webrtc (default)": lambda: NoiseGate(WebRtcVad()),
    "silero": SileroVad,
    "silero, no gate": lambda: SileroVad(gate=_Open()),
}


class _Open:
    """A gate that lets everything through."""

    sample_rate = RATE
    frame_samples = 512

    def is_speech(self, frame: bytes) -> float:
        return 1.0

    def reset(self) -> None:
        pass


def labelled(language: str) -> tuple[Any, Any]:
    """Return speech with pauses, and for each sample whether it is speech. 45 % is."""
    random = np.random.default_rng(3)
    people = speakers("dev", language)
    sounds, labels = [np.zeros(RATE, np.float32)], [np.zeros(RATE, bool)]
    for number, turn in enumerate(read_script("dev", language).turns[:TURNS]):
        for part in turn.parts:
            said = speech_of(part, people[number % len(people)]).samples
            pause = np.zeros(int(RATE * random.uniform(0.5, 3.5)), np.float32)
            sounds += [said, pause]
            labels += [np.ones(len(said), bool), np.zeros(len(pause), bool)]
    return np.concatenate(sounds), np.concatenate(labels)


def pieces(pcm: bytes) -> Iterator[bytes]:
    """Yield audio as it comes from a transport: 20 ms at a time."""
    return (pcm[start : start + PIECE] for start in range(0, len(pcm), PIECE))


def work(minutes: float, play: Callable[[], Any]) -> float:
    """Return the CPU time in ms for each minute of audio, the least of some rounds."""
    best = math.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        play()
        best = min(best, time.process_time() - began)
    return round(1000 * best / minutes, 1)


def listen(make: Callable[[], Detector], audio: list[bytes]) -> None:
    """Score audio as `Vad` does."""
    framer = Framer(make(), RATE)
    for piece in audio:
        if framer.score(piece) is None:
            framer.process(piece)


def hears(make: Callable[[], Detector], line: str) -> dict[str, float]:
    """Return what a detector hears of the callers on a line."""
    heard, speech, false, pauses, cpu = 0, 0, 0, 0, []
    for language in ("en", "hi"):
        samples, labels = labelled(language)
        pcm = Room(CONDITIONS[line], "dev", language, LEVEL_DBFS, 7).carried(samples)

        def play(pcm: bytes = pcm) -> list[Any]:
            framer = Framer(make(), RATE)
            return [score for piece in pieces(pcm) for score in framer.process(piece)]

        size = make().frame_samples
        for score, end in play():
            label = labels[end - size : end]
            if len(label) == size and label.mean() > 0.9:
                speech += 1
                heard += score >= 0.5
            elif not labels[max(0, end - size - RATE // 4) : end + RATE // 20].any():
                pauses += 1
                false += score >= 0.5
        cpu.append(work(len(pcm) / 2 / RATE / 60, partial(listen, make, list(pieces(pcm)))))
    return {
        "heard": round(100 * heard / speech, 1),
        "false": round(100 * false / pauses, 1),
        "cpu": round(sum(cpu) / len(cpu), 1),
    }


def starts(make: Callable[[], Detector], rounds: int = 8) -> float:
    """Return the percentage of sounds without words that start speech."""
    started = total = 0
    for name in SOUNDS:
        for number in range(rounds):
            random = np.random.default_rng([number, 9])
            quiet = np.zeros(RATE // 2, np.float32)
            room = Room(CONDITIONS["clean"], "dev", "en", LEVEL_DBFS, number)
            pcm = room.carried(np.concatenate((np.zeros(RATE, np.float32), make_sound(name, random), quiet)))
            detector = make()
            framer = Framer(detector, RATE)
            voiced = [score.score >= 0.5 for piece in pieces(pcm) for score in framer.process(piece)]
            total += 1
            needed = math.ceil(0.06 * RATE / detector.frame_samples)  # as `Vad` counts
            window = needed + needed // 2
            started += any(sum(voiced[at : at + window]) >= needed for at in range(len(voiced)))
    return round(100 * started / total, 1)


def cleaning() -> dict[str, dict[str, float]]:
    """Return what WebRTC's audio processing takes out, and its cost, by way of the package that the processors use."""
    from pywebrtc_audio import AudioProcessor

    said, _ = labelled("en")
    far = said * 10 ** (-22 / 20)
    random = np.random.default_rng(1)
    tail = random.standard_normal(RATE // 5) * 10 ** (-3 * np.arange(RATE // 5) / (RATE // 5))
    tail[0] = 3.0
    tail *= 0.1 / np.sqrt((tail**2).sum())
    size = len(far) + len(tail)
    echo = np.fft.irfft(np.fft.rfft(far, size) * np.fft.rfft(tail, size), size)[: len(far)]
    echo = np.concatenate((np.zeros(int(0.08 * RATE)), echo))[: len(far)]
    noise = random.standard_normal(len(far)) * 10 ** (-46 / 20)
    near = echo + random.standard_normal(len(far)) * 10 ** (-72 / 20)

    def pcm(samples: Any) -> Any:
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")

    def echo_free() -> Any:
        processor = AudioProcessor(sample_rate=RATE, echo_cancellation=True)
        steps = range(0, len(far), PIECE // 2)
        return np.concatenate(
            [processor.process(pcm(near[at : at + PIECE // 2]), pcm(far[at : at + PIECE // 2])) for at in steps]
        )

    def noise_free() -> Any:
        processor = AudioProcessor(sample_rate=RATE, noise_suppression=True, ns_level=1)
        return np.concatenate(
            [processor.process(pcm(noise[at : at + PIECE // 2])) for at in range(0, len(noise), PIECE // 2)]
        )

    def down(before: Any, after: Any) -> float:
        settled = slice(4 * RATE, None)
        powers = [float((samples[settled] ** 2).mean()) for samples in (before, after / 32768)]
        return round(10 * math.log10(powers[0] / max(powers[1], 1e-12)), 1)

    minutes = len(far) / RATE / 60
    return {
        "echo cancellation": {"echo_db": down(echo, echo_free()), "cpu": work(minutes, echo_free)},
        "noise suppression": {"noise_db": down(noise, noise_free()), "cpu": work(minutes, noise_free)},
    }


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="What the optional ears hear and what they cost.")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--smart-turn", default="", help="the file of the model")
    parser.add_argument("--lines", default="clean,20 dB,10 dB,babble", help="default: clean,20 dB,10 dB,babble")
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for name, make in DETECTORS.items():
        for line in options.lines.split(","):
            rows[f"{name}, {line}"] = hears(make, line)
        rows[f"{name}, other sounds"] = {"sounds": starts(make)}
    rows.update(cleaning())
    if options.smart_turn:
        model = SmartTurn(options.smart_turn)
        model.load()
        said = (labelled("en")[0][: 8 * RATE] * 1600).astype("<i2").tobytes()
        rows["smart-turn, one judgement"] = {"cpu": work(1.0, lambda: model.probability(said))}
    report_against(rows, as_json=options.json)


if __name__ == "__main__":
    main()
