"""The offline synthesizer: audio, word times, determinism, sharing between threads, refusals."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from duologue.errors import BadInput, ConfigurationError, MissingExtra
from duologue.frames import Word
from duologue.services.local.synthesizer import (
    ESPEAK_RATE,
    MAX_END_PAUSE_S,
    MAX_TEXT_LENGTH,
    SpeechPiece,
    Synthesizer,
    variants,
    voices,
)

QUESTION = "Hello there. What is the weather in Paris today, my friend?"
SILENCE = 32  # -60 dBFS
SAMPLE_S = 1 / ESPEAK_RATE


def spoken(text: str, voice: str = "en-us", **settings: int) -> list[SpeechPiece]:
    return list(Synthesizer(voice, **settings).synthesize(text))


def audio_of(pieces: list[SpeechPiece]) -> bytes:
    return b"".join(piece.audio for piece in pieces)


def words_of(pieces: list[SpeechPiece]) -> list[Word]:
    return [word for piece in pieces for word in piece.words]


def duration_s(pieces: list[SpeechPiece]) -> float:
    return len(audio_of(pieces)) / 2 / ESPEAK_RATE


def level_dbfs(pieces: list[SpeechPiece]) -> float:
    samples = np.frombuffer(audio_of(pieces), np.int16) / 32768
    return float(20 * np.log10(np.sqrt(np.mean(samples**2))))


def check_words(text: str, pieces: list[SpeechPiece]) -> None:
    words = words_of(pieces)
    assert "".join(word.text for word in words) == text.strip()
    begin_s = 0.0
    for piece in pieces:
        end_s = begin_s + len(piece.audio) / 2 / ESPEAK_RATE
        assert all(begin_s - SAMPLE_S < word.start_s < end_s for word in piece.words)
        begin_s = end_s
    for word, following in itertools.pairwise(words):
        assert word.start_s <= word.end_s <= following.start_s
    assert words[-1].start_s <= words[-1].end_s <= duration_s(pieces)


def test_speaks_at_a_natural_length_and_level() -> None:
    pieces = spoken(QUESTION)

    assert 2.5 < duration_s(pieces) < 4.5
    assert -25 < level_dbfs(pieces) < -17


def test_gives_a_piece_per_word_with_the_time_it_is_heard() -> None:
    pieces = spoken("One two three.")

    check_words("One two three.", pieces)
    assert [[word.text for word in piece.words] for piece in pieces] == [["One "], ["two "], ["three."]]
    assert all(0.1 < word.end_s - word.start_s < 0.6 for word in words_of(pieces))


def test_a_pause_between_sentences_belongs_to_no_word() -> None:
    stop, start = words_of(spoken("Stop. Start."))

    assert start.start_s - stop.end_s > 0.2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith owes $45.20 on 3/4", ["Dr. ", "Smith ", "owes ", "$45.20 ", "on ", "3/4"]),
        ("Mr. and Mrs. O'Neil", ["Mr. ", "and ", "Mrs. ", "O'Neil"]),
        ("naïve café 😀 Zürich cafe\u0301 end", ["naïve ", "café ", "😀 ", "Zürich ", "cafe\u0301 ", "end"]),
        ('The (big) "word" – said', ["The ", "(big) ", '"word" – ', "said"]),
        ("all of the in between", ["all ", "of ", "the ", "in ", "between"]),
        ("\n 1,234,567.89 dollars\tat 3:45pm \n", ["1,234,567.89 ", "dollars\t", "at ", "3:45pm"]),
        ("<b>bold</b> [[h@'loU]] &amp;", ["<b>bold</b> ", "[[h@'loU]] ", "&amp;"]),
    ],
)
def test_words_are_slices_of_the_text(text: str, expected: list[str]) -> None:
    pieces = spoken(text)

    check_words(text, pieces)
    assert [word.text for word in words_of(pieces)] == expected


def test_words_of_a_script_without_spaces_are_told_apart() -> None:
    pieces = spoken("你好,今天天气怎么样?我在北京。", "cmn")

    check_words("你好,今天天气怎么样?我在北京。", pieces)
    assert len(words_of(pieces)) > 6


def test_markup_is_spoken_not_obeyed() -> None:
    assert duration_s(spoken("<b>bold</b>")) > 2 * duration_s(spoken("bold"))
    assert duration_s(spoken("now <break time='9s'/> here")) < 6


def test_control_characters_are_silent() -> None:
    # Ctrl-A would start an embedded command ("99 pitch"), NUL would end the text.
    plain = spoken("one  two three")

    assert duration_s(spoken("one\x00 two\x01 three")) == pytest.approx(duration_s(plain), abs=0.2)
    assert [word.text for word in words_of(spoken("\x01one two"))] == ["\x01one ", "two"]


@pytest.mark.parametrize("text", ["", "  \n\t ", "...", "?!", "\x00"])
def test_a_text_without_words_gives_nothing(text: str) -> None:
    assert spoken(text) == []


@pytest.mark.parametrize("text", ["Hello.", "Hello", "Hello,", "Hello...\n\n"])
@pytest.mark.parametrize("voice", ["en-us", "en-us+f3"])
def test_the_pause_at_the_end_is_natural_and_short(text: str, voice: str) -> None:
    pieces = spoken(text, voice)

    samples = np.abs(np.frombuffer(audio_of(pieces), np.int16).astype(int))
    audible_s = (np.flatnonzero(samples > SILENCE)[-1] + 1) / ESPEAK_RATE
    assert words_of(pieces)[-1].end_s == pytest.approx(audible_s, abs=SAMPLE_S)
    assert 0 < duration_s(pieces) - audible_s <= MAX_END_PAUSE_S


@pytest.mark.parametrize(("unit", "count"), [("7 ", 150), ("9", 150), ("😂 ", 40), ("foo", 100), ("X Y Z ", 60)])
def test_dense_text_is_spoken_to_its_end(unit: str, count: int) -> None:
    # Each exceeds what espeak-ng can take in one clause or word, where it would drop the rest.
    each_s = (duration_s(spoken(unit * 10)) - duration_s(spoken(unit * 5))) / 5

    pieces = spoken(unit * count)

    check_words(unit * count, pieces)
    assert duration_s(pieces) == pytest.approx(each_s * count, rel=0.1)


def test_equal_text_gives_equal_bytes_whatever_was_spoken_before() -> None:
    texts = {"en-us": QUESTION, "en-us+f3": "Yes, she sells sea shells.", "de+whisper": "Schöne Grüße!"}
    synthesizers = {voice: Synthesizer(voice) for voice in texts}
    first = {voice: list(synthesizers[voice].synthesize(text)) for voice, text in texts.items()}

    for _ in range(3):
        for voice, text in texts.items():
            abandoned = synthesizers[voice].synthesize(text)
            next(abandoned)
            abandoned.close()
            assert list(synthesizers[voice].synthesize(text)) == first[voice]


def test_equal_text_gives_equal_bytes_in_another_process() -> None:
    program = (
        "import sys; from duologue.services.local.synthesizer import Synthesizer;"
        f"[sys.stdout.buffer.write(piece.audio) for piece in Synthesizer('en-us+f3').synthesize({QUESTION!r})]"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert other.stdout == audio_of(spoken(QUESTION, "en-us+f3"))


def test_threads_do_not_mix() -> None:
    jobs = [("en-us", QUESTION), ("en-us+f3", QUESTION), ("de", "Guten Tag, wie geht es Ihnen?"), ("fr", "Bonjour !")]
    expected = [spoken(text, voice) for voice, text in jobs]
    results: dict[tuple[int, int], list[SpeechPiece]] = {}
    together = threading.Barrier(len(jobs))

    def speak(number: int) -> None:
        voice, text = jobs[number]
        together.wait()
        for attempt in range(5):
            results[number, attempt] = spoken(text, voice)

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 5 * len(jobs)
    assert all(pieces == expected[number] for (number, _), pieces in results.items())


def test_a_slow_reader_holds_nobody_up() -> None:
    # Each has read one piece only when the next one asks for its speech.
    readers = [Synthesizer().synthesize(QUESTION * 5) for _ in range(4)]
    heard = [[next(reader)] for reader in readers]

    for reader, pieces in zip(readers, heard, strict=True):
        pieces.extend(reader)

    assert all(pieces == heard[0] for pieces in heard)


def test_an_abandoned_utterance_is_aborted() -> None:
    long_text = (QUESTION + " ") * 80
    synthesizer = Synthesizer()
    begin = time.process_time()
    list(synthesizer.synthesize(long_text))
    whole_s = time.process_time() - begin

    begin = time.process_time()
    for _ in range(4):
        abandoned = synthesizer.synthesize(long_text)
        next(abandoned)
        abandoned.close()
    list(synthesizer.synthesize("Next."))

    assert time.process_time() - begin < whole_s


def test_closing_ends_a_wait_in_another_thread() -> None:
    busy = Synthesizer().synthesize((QUESTION + " ") * 80)
    next(busy)
    waiting = Synthesizer().synthesize(QUESTION)
    got: list[SpeechPiece | None] = []
    thread = threading.Thread(target=lambda: got.append(next(waiting, None)))
    thread.start()

    waiting.close()
    thread.join(timeout=5)

    assert not thread.is_alive()
    assert list(waiting) == []
    busy.close()
    assert list(busy) == []


def test_a_dropped_utterance_is_aborted() -> None:
    synthesizer = Synthesizer()
    begin = time.process_time()
    list(synthesizer.synthesize((QUESTION + " ") * 80))
    whole_s = time.process_time() - begin

    begin = time.process_time()
    for _ in range(4):
        next(synthesizer.synthesize((QUESTION + " ") * 80))
    list(synthesizer.synthesize("Next."))

    assert time.process_time() - begin < whole_s


def test_nothing_runs_after_the_last_utterance() -> None:
    spoken("Done.")

    for thread in threading.enumerate():
        if thread.name == "espeak-ng":
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_voices_differ() -> None:
    assert len({audio_of(spoken("Hello there.", voice)) for voice in ("en-us", "en-us+f3", "en-gb", "de")}) == 4


def test_settings_apply() -> None:
    normal = spoken(QUESTION)

    assert duration_s(spoken(QUESTION, rate_wpm=350)) == pytest.approx(duration_s(normal) / 2, rel=0.2)
    assert level_dbfs(spoken(QUESTION, volume=50)) == pytest.approx(level_dbfs(normal) - 6, abs=0.5)
    assert audio_of(spoken(QUESTION, pitch=80)) != audio_of(normal)


def test_lists_voices_and_variants() -> None:
    by_name = {voice.name: voice for voice in voices()}

    assert by_name["en-us"].language == "en-us"
    assert by_name["en-us"].description == "English (America)"
    assert by_name["de"].gender == "male"
    assert {variant.name: variant.gender for variant in variants()}["f3"] == "female"
    assert len(by_name) > 100


@pytest.mark.parametrize(
    ("asked", "given"),
    [("en-US", "en-us"), ("en-gb", "en"), ("fr-FR", "fr"), ("zh", "cmn"), ("en-US+F3", "en-us+f3")],
)
def test_finds_a_voice_by_name_or_language_in_any_case(asked: str, given: str) -> None:
    assert Synthesizer(asked).voice == given


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        ("en-uk", r"no voice 'en-uk'; near: .*en-us"),
        ("", r"no voice ''"),
        ("en-us+f33", r"no variant of en-us 'f33'; near: .*f3"),
        ("en-us+", r"no variant of en-us ''"),
    ],
)
def test_refuses_an_unknown_voice_by_name(voice: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Synthesizer(voice)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("rate_wpm", 79), ("rate_wpm", 451), ("pitch", -1), ("pitch", 100), ("volume", -1), ("volume", 201)],
)
def test_refuses_a_setting_out_of_range_by_name(setting: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"{setting}={value}: must be .* from \d+ to \d+"):
        Synthesizer(**{setting: value})  # type: ignore[arg-type]


def test_refuses_a_text_that_is_too_long() -> None:
    with pytest.raises(BadInput, match="text of 5001 characters: at most 5000"):
        Synthesizer().synthesize("a" * (MAX_TEXT_LENGTH + 1))


def test_refuses_a_text_that_speaks_too_long() -> None:
    # A paragraph break makes a long pause, so this is half an hour.
    with pytest.raises(BadInput, match="speaks for longer than 1200 s"):
        spoken("w\n\n" * 1_666)


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)

    with pytest.raises(MissingExtra, match=r"duologue\[local\]"):
        Synthesizer()


def test_an_error_while_speaking_reaches_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer = Synthesizer()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)

    with pytest.raises(MissingExtra):
        list(synthesizer.synthesize("Hello."))
