"""The measures of frustration by themselves: the voice, the words, and the level that they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.resample import Resampler
from duologue.audio.voice_meter import VoiceMeasure, VoiceMeter
from duologue.audio.wav import read_wav
from duologue.processors.frustration.baseline import CallerVoice
from duologue.processors.frustration.judge import STATES, WEIGHTS, Judge, voice_evidence
from duologue.processors.frustration.wording import CallerWording

RATE = 16_000


def recorded(name: str) -> bytes:
    return read_wav(f"tests/data/{name}.wav").pcm


def measured(pcm: bytes, rate: int = RATE, piece_s: float = 0.02) -> VoiceMeasure:
    meter, size = VoiceMeter(), 2 * round(piece_s * rate)
    for place in range(0, len(pcm), size):
        meter.add(pcm[place : place + size], rate)
    return meter.end()


def louder(pcm: bytes, db: float) -> bytes:
    return (np.frombuffer(pcm, "<i2") * 10 ** (db / 20)).clip(-32768, 32767).astype("<i2").tobytes()


def faster_and_higher(pcm: bytes, factor: float) -> bytes:
    """Played faster: the rate and the pitch rise by the factor."""
    converter = Resampler(round(RATE * factor / 100) * 100, RATE)
    return converter.process(pcm) + converter.flush()


def voice(hz: float, seconds: float = 1.0, rate: int = RATE) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * hz * part * t) / part for part in range(1, 12))
    return (np.asarray(tones) * 4000).astype("<i2").tobytes()


# -- the voice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [80, 110, 150, 200, 220, 260, 330])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_pitch_of_a_voice(hz: int, rate: int) -> None:
    assert measured(voice(hz, rate=rate), rate).hz == pytest.approx(hz, rel=0.02)


def test_a_recording_that_is_changed_is_measured_as_changed() -> None:
    pcm = recorded("utterance_4")
    calm, loud = measured(pcm), measured(louder(pcm, 6.0))
    assert loud.dbfs - calm.dbfs == pytest.approx(6.0, abs=0.3)
    assert loud.hz == pytest.approx(calm.hz, rel=0.01)
    fast = measured(faster_and_higher(pcm, 1.2))
    assert fast.hz / calm.hz == pytest.approx(1.2, rel=0.05)
    assert fast.syllables_per_s / calm.syllables_per_s == pytest.approx(1.2, rel=0.12)
    assert fast.seconds == pytest.approx(calm.seconds / 1.2, rel=0.05)


def test_syllables_are_counted() -> None:
    """ "My order number is four five six seven and it has not arrived": 17 syllables."""
    measure = measured(recorded("utterance_4"))
    assert measure.syllables_per_s * measure.seconds == pytest.approx(17, abs=3)


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=40))
def test_pieces_of_any_size_give_the_same_measures(sizes: list[int]) -> None:
    pcm = recorded("weather_question")[:32_000]
    meter, place = VoiceMeter(), 0
    while place < len(pcm):
        for size in sizes:
            meter.add(pcm[place : place + 2 * size], RATE)
            place += 2 * size
    whole, pieces = measured(pcm), meter.end()
    assert pieces.dbfs == pytest.approx(whole.dbfs, abs=0.3)
    assert pieces.hz == pytest.approx(whole.hz, rel=0.03)
    assert pieces.seconds == pytest.approx(whole.seconds, abs=0.08)


@pytest.mark.parametrize(
    "pcm",
    [b"", bytes(2), bytes(64_000), np.random.default_rng(1).integers(-9000, 9000, 32_000).astype("<i2").tobytes()],
    ids=["nothing", "a sample", "silence", "noise"],
)
def test_what_is_no_voice_has_no_measures(pcm: bytes) -> None:
    assert measured(pcm).voiced_s < 0.1


def test_a_rate_that_changes_on_the_way() -> None:
    meter = VoiceMeter()
    for rate in (8_000, 48_000, 16_000):
        meter.add(voice(150, 0.7, rate), rate)
    measure = meter.end()
    assert measure.hz == pytest.approx(150, rel=0.02)
    assert measure.voiced_s == pytest.approx(2.1, abs=0.15)


@pytest.mark.parametrize("rate", [1, 50, 399, 400, 1_000, 4_000, 11_025, 22_050, 96_000, 384_000])
def test_audio_of_any_rate_is_taken(rate: int) -> None:
    meter, random = VoiceMeter(), np.random.default_rng(1)
    for _ in range(10):
        meter.add(random.integers(-9000, 9000, max(1, rate // 10)).astype("<i2").tobytes(), rate)
    assert meter.end().voiced_s < 0.2


def test_an_endless_speech_takes_no_more_memory() -> None:
    meter = VoiceMeter()
    for _ in range(90):
        meter.add(voice(150, 1.0, 8_000), 8_000)
    assert meter.end().seconds <= 61


# -- the usual voice ---------------------------------------------------------------------------------------------------


def speech(dbfs: float = -22.0, hz: float = 120.0, rate: float = 4.5, voiced_s: float = 1.5) -> VoiceMeasure:
    return VoiceMeasure(seconds=2 * voiced_s, voiced_s=voiced_s, dbfs=dbfs, hz=hz, syllables_per_s=rate)


def test_a_voice_is_compared_with_itself() -> None:
    """A loud person is not an angry one."""
    for dbfs, hz, rate in ((-10.0, 280.0, 6.5), (-45.0, 90.0, 3.0)):
        caller = CallerVoice()
        for _ in range(5):
            above = caller.compare(speech(dbfs, hz, rate))
        assert max(above.values()) < 0.1
        above = caller.compare(speech(dbfs + 8, hz * 1.25, rate * 1.3))
        assert above["louder"] > 2
        assert above["higher"] > 1.5
        assert above["faster"] > 0.8


def test_nothing_is_told_before_the_caller_is_known_and_of_a_short_sound() -> None:
    caller = CallerVoice()
    assert caller.compare(speech()) == {}
    assert caller.compare(speech(voiced_s=1.5)) == {}
    assert caller.compare(speech(dbfs=-5, voiced_s=0.2)) == {}
    assert caller.compare(speech()) != {}


def test_a_caller_who_stays_loud_has_another_voice_in_the_end() -> None:
    """They have taken the phone in the other hand."""
    caller = CallerVoice()
    for _ in range(6):
        caller.compare(speech())
    first = caller.compare(speech(dbfs=-14))["louder"]
    for _ in range(40):
        last = caller.compare(speech(dbfs=-14))["louder"]
    assert first > 2
    assert last < 0.5


# -- the words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("My order has not arrived.", "my order has not arrived"),
        ("I want to cancel my subscription", "No, I want to cancel my subscription!"),
        ("Ich möchte meine Bestellung stornieren", "ich möchte bitte meine Bestellung stornieren"),
        ("मेरा ऑर्डर अभी तक नहीं आया है", "मेरा ऑर्डर अभी तक नहीं आया"),
        ("我的订单还没有到", "我的订单还没有到！"),
        ("لم يصل طلبي حتى الآن", "لم يصل طلبي حتى الآن"),
        ("Мой заказ всё ещё не пришёл", "мой заказ ещё не пришёл"),
    ],
)
def test_the_same_again_in_any_language(text: str, again: str) -> None:
    wording = CallerWording()
    assert wording.read(text) == {}
    assert wording.read(again) == {"says it again": 0.5}
    assert wording.read(text) == {"says it again": 1.0}


@pytest.mark.parametrize(
    "texts",
    [
        ["yes", "yes", "yes please", "yes"],
        ["no", "no", "no no"],
        ["My order has not arrived.", "I ordered it on Monday.", "It was two shirts.", "I live in Leeds."],
        ["", " ", "…", "?!"],
        ["I would like to know when it arrives.", "I would like to have it in red."],
    ],
)
def test_what_is_no_repetition(texts: list[str]) -> None:
    wording = CallerWording()
    assert [wording.read(text) for text in texts] == [{}] * len(texts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I already told you my number!", "said it before"),
        ("Das habe ich doch schon gesagt.", "said it before"),
        ("Je vous l'ai déjà dit", "said it before"),
        ("Ya se lo he dicho.", "said it before"),
        ("मैंने पहले ही बताया है", "said it before"),
        ("Can I speak to a human please?", "wants a person"),
        ("Ich will mit einem Menschen sprechen.", "wants a person"),
        ("Quiero hablar con una persona", "wants a person"),
        ("Je voudrais parler à quelqu'un.", "wants a person"),
        ("请帮我转人工", "wants a person"),
    ],
)
def test_phrases_of_several_languages(text: str, reason: str) -> None:
    assert CallerWording().read(text) == {reason: 1.0}


@pytest.mark.parametrize(
    "text",
    ["My insurance agent sent me.", "I am a travel agent.", "There is a person at the door.", "Ich bin ein Mensch."],
)
def test_words_that_mean_something_else(text: str) -> None:
    assert CallerWording().read(text) == {}


def test_texts_of_one_utterance_count_once() -> None:
    wording = CallerWording()
    wording.read("My order has not arrived", "u1")
    assert wording.read("My order has not arrived", "u1") == {}


def test_ten_megabytes_of_text_are_read_quickly() -> None:
    wording = CallerWording()
    wording.read("so it " * 2_000_000)
    assert wording.read("so it " * 2_000_000) == {"says it again": 0.5}


# -- the level ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.dictionaries(st.sampled_from(sorted(WEIGHTS)), st.floats(0, 1)), max_size=30))
def test_the_level_stays_in_its_range_and_falls_with_calm_turns(turns: list[dict[str, float]]) -> None:
    judge = Judge()
    for parts in turns:
        judge.begin_turn()
        before = judge.state
        changed = judge.add(parts)
        assert 0 <= judge.level <= 1
        assert judge.state in STATES
        assert changed == (judge.state != before)
    for _ in range(6):
        judge.begin_turn()
        judge.add({})
    assert judge.state == "calm"
    assert judge.reasons == ()


def test_one_calm_turn_does_not_end_it() -> None:
    judge = Judge()
    judge.add({"louder": 1.0, "said it before": 1.0})
    assert judge.state == "frustrated"
    seen = []
    for _ in range(4):
        judge.begin_turn()
        judge.add({})
        seen.append(judge.state)
    assert seen == ["tense", "calm", "calm", "calm"] or seen == ["tense", "tense", "calm", "calm"]


def test_a_level_around_a_threshold_changes_the_state_once() -> None:
    judge, changes = Judge(), 0
    for number in range(40):
        judge.begin_turn()
        changes += judge.add({"louder": 0.62 if number % 2 else 0.7})
    assert changes == 1


def test_usual_deviations_are_no_evidence() -> None:
    assert voice_evidence({"louder": 1.0, "higher": -3.0, "faster": 0.5}) == {"louder": 0, "higher": 0, "faster": 0}
    assert voice_evidence({"louder": 1e308}) == {"louder": 1.0}
