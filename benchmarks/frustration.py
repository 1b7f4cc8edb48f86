"""How well frustration is heard in a voice: turns that are found, and alarms in an hour of calm speech.

The callers are six espeak-ng voices in calls of calm turns that become frustrated. No turn is like the other: each has
its own level, rate and pitch, with the deviations of calm people, 2 dB, 7 % and 0.7 semitones. A frustrated turn is
louder, faster or higher on top of that: the cases say by how much. Only the voice counts here, not the words. `tense_2`
is the part of the calls in which the state is at least "tense" after two frustrated turns, `frustrated_3` that with
"frustrated" after three. `us_per_20ms` is the CPU time for 20 ms of speech.

These are synthetic voices with settings for loud and fast, not frustrated people: the figures show that the measures
work and what they cost, not how people sound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks._report import arguments, report_against
from duologue.audio.resample import Resampler
from duologue.audio.voice_meter import VoiceMeasure, VoiceMeter
from duologue.processors.frustration.baseline import CallerVoice
from duologue.processors.frustration.judge import Judge, voice_evidence
from duologue.services.local.synthesizer import Synthesizer

SENTENCES = (
    "I would like to know when my parcel arrives.",
    "The number is four seven one nine.",
    "Yes, I ordered it on Monday morning from your web shop.",
    "It was two shirts and a pair of shoes for my daughter.",
    "Can you tell me which company brings it to us?",
    "We live in the second house behind the church.",
    "No, I have not received any message about it.",
    "Could somebody call me back in the afternoon, please?",
    "My neighbour is at home until six o'clock.",
    "That would be fine for me, thank you.",
)
VOICES = ("en-us+f2", "en-us+m3", "en-gb+f4", "en-gb-scotland+m1", "en-us+m7", "en-us+f5")
SD_DB, SD_RATE, SD_SEMITONES = 2.0, 0.07, 0.7
RATE = 16_000
CALM_TURNS, ANGRY_TURNS = 8, 3


@dataclass(frozen=True)
class Case:
    """How much louder, faster and higher a frustrated turn is."""

    louder_db: float = 0.0
    faster: float = 1.0
    higher_semitones: float = 0.0


CASES = {
    "louder by 8 dB": Case(8.0),
    "louder by 5 dB": Case(5.0),
    "faster by 25 %": Case(faster=1.25),
    "higher by 4 semitones": Case(higher_semitones=4.0),
    "5 dB, 15 %, 2 semitones": Case(5.0, 1.15, 2.0),
    "8 dB, 25 %, 4 semitones": Case(8.0, 1.25, 4.0),
}


@lru_cache(maxsize=4096)
def speech(voice: str, text: str, rate_wpm: int, pitch: int) -> bytes:
    """Return a text as it is spoken, mono at 16 kHz."""
    pieces = list(Synthesizer(voice, rate_wpm=rate_wpm, pitch=pitch).synthesize(text))
    converter = Resampler(22_050, RATE)
    return converter.process(b"".join(piece.audio for piece in pieces)) + converter.flush()


def turn(voice: str, text: str, case: Case, random: np.random.Generator) -> bytes:
    """Return a turn of the caller."""
    rate = round(165 * case.faster * (1 + SD_RATE * random.standard_normal()) / 5) * 5
    # espeak-ng's pitch of 50 is the voice's own; 10 more are about two semitones.
    semitones = case.higher_semitones + SD_SEMITONES * random.standard_normal()
    pcm = speech(voice, text, rate, min(99, max(0, round(50 + 5 * semitones))))
    gain = 10 ** ((case.louder_db - 10 + SD_DB * random.standard_normal()) / 20)
    noise = random.normal(0, 12, len(pcm) // 2)
    return (np.frombuffer(pcm, "<i2") * gain + noise).clip(-32768, 32767).astype("<i2").tobytes()


def measure(pcm: bytes) -> VoiceMeasure:
    """Return the measures of a turn that comes in pieces of 20 ms."""
    meter = VoiceMeter()
    for place in range(0, len(pcm), RATE // 25):
        meter.add(pcm[place : place + RATE // 25], RATE)
    return meter.end()


def states(voice: str, case: Case, angry: int, random: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield the state after each turn of a call, and the seconds of the turn."""
    caller, judge = CallerVoice(), Judge()
    for number in range(CALM_TURNS + angry):
        text = SENTENCES[int(random.integers(len(SENTENCES)))]
        pcm = turn(voice, text, case if number >= CALM_TURNS else Case(), random)
        judge.begin_turn()
        judge.add(voice_evidence(caller.compare(measure(pcm))))
        yield judge.state, len(pcm) / (2 * RATE)


def main() -> None:
    """Print the figures."""
    asked = arguments(__doc__ or "", {"calls": 60, "seed": 1})
    random = np.random.default_rng(asked.seed)
    rows: dict[str, dict[str, float]] = {}
    seconds, alarms, frustrated = 0.0, 0, 0
    for number in range(asked.calls):
        before = "calm"
        for state, lasted in states(VOICES[number % len(VOICES)], Case(), 16, random):
            seconds += lasted
            alarms += before == "calm" and state != "calm"
            frustrated += before != "frustrated" and state == "frustrated"
            before = state
    rows["calm"] = {
        "speech_min": round(seconds / 60, 1),
        "alarms_per_h": round(alarms * 3600 / seconds, 1),
        "frustrated_per_h": round(frustrated * 3600 / seconds, 1),
    }
    for name, case in CASES.items():
        found = [
            [state for state, _ in states(VOICES[number % len(VOICES)], case, ANGRY_TURNS, random)][CALM_TURNS:]
            for number in range(asked.calls)
        ]
        rows[name] = {
            "tense_2": round(sum("calm" not in each[1:2] for each in found) / len(found), 2),
            "frustrated_3": round(sum("frustrated" in each for each in found) / len(found), 2),
        }
    pcm = b"".join(speech(voice, text, 165, 50) for voice in VOICES for text in SENTENCES)
    began = time.process_time()
    measure(pcm[: 2 * RATE * 60])
    rows["calm"]["us_per_20ms"] = round((time.process_time() - began) / (60 * 50) * 1e6, 1)
    report_against(rows, as_json=asked.json)


if __name__ == "__main__":
    main()
