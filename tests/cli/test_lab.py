"""`duologue lab`, on the virtual clock: against scripted vendors whose delays are known, and with services in tests."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from duologue.audio.wav import WavWriter
from duologue.cli.app import app
from duologue.cli.lab.clips import RATE, Clip, clip, read_clips, with_noise
from duologue.cli.lab.hearing import hear
from duologue.cli.lab.services import named_services
from duologue.cli.lab.tts import speak_all
from duologue.cli.lab.words import normalised, scored
from duologue.errors import BadInput, ConfigurationError, ServiceError
from duologue.services.stt import Transcription
from duologue.testing import MockSTT, MockTTS
from duologue.testing.tones import tone

DATA = Path(__file__).parents[1] / "data"
SILENCE = bytes(2 * RATE // 2)
SPEECH = SILENCE + tone(1.0, RATE) + SILENCE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "clips"
    made.mkdir()
    for name, words in (("hello_world", "Hello, world!"), ("weather_question", "What is the weather in Paris?")):
        shutil.copy(DATA / f"{name}.wav", made)
        (made / f"{name}.txt").write_text(f"{words}\n")
    return made


def lab(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "140"}).invoke(app, ["lab", *map(str, arguments)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# -- the commands ------------------------------------------------------------------------------------------------------


def test_vendors_on_scripted_servers_have_their_delays_and_no_errors(folder: Path, tmp_path: Path) -> None:
    names = ["deepgram:nova-2", "elevenlabs", "openai", "openai-file:gpt-4o-transcribe"]
    out = tmp_path / "out"
    ask = ("stt", "--services", ",".join(names), "--clips", folder, "--snr", "10", "--scripted", "--virtual")
    result = lab(*ask, "--out", out)
    assert result.exit_code == 0, result.output
    found = rows(out / "stt.csv")
    assert len(found) == len(names) * 2 * 2
    assert {row["service"] for row in found} == set(names)
    assert {row["snr_db"] for row in found} == {"", "10.0"}
    for row in found:
        assert row["errors"] == "0", row
        assert float(row["final_s"]) == pytest.approx(0.1, abs=0.02), row
        assert row["error"] == ""
        assert bool(row["first_interim_s"]) == ("file" not in row["service"])
    assert "No price is known of nova-2: give it" in " ".join(result.output.split())
    assert (out / "stt.png").read_bytes().startswith(b"\x89PNG")


def test_speech_of_scripted_vendors_is_measured_and_not_judged(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text("Hello there, how are you today?\n\nGood bye.\n")
    names = "deepgram,elevenlabs,openai:tts-1"
    result = lab(*("tts", "--services", names, "--texts", texts, "--out", out, "--scripted", "--virtual"))
    assert result.exit_code == 0, result.output
    found = rows(out / "tts.csv")
    assert len(found) == 6
    for row in found:
        assert float(row["first_audio_s"]) == pytest.approx(0.08, abs=0.02), row
        assert float(row["audio_s"]) > 0.3
        assert row["word_times"] == str(row["service"] == "elevenlabs")
        assert row["errors"] == row["understood"] == "", "tones are not judged"
    costs = {row["service"]: row["usd"] for row in found if row["characters"] == "9"}
    assert costs == {"deepgram": "0.00027", "elevenlabs": "0.00045", "openai:tts-1": "0.000135"}
    assert "no judge understands: deepgram, elevenlabs, openai:tts-1" in " ".join(result.output.split())
    assert (out / "tts.png").read_bytes().startswith(b"\x89PNG")


def test_the_local_services_need_neither_key_nor_network(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("Good morning.\n")
    result = lab("tts", "--texts", texts, "--out", tmp_path, "--virtual")
    assert result.exit_code == 0, result.output
    (row,) = rows(tmp_path / "tts.csv")
    assert (row["service"], row["model"], row["words"], row["word_times"]) == ("local", "espeak-ng", "2", "True")
    assert row["usd"] == "0.0"
    assert row["errors"] != ""
    result = lab("tts", "--texts", texts, "--out", tmp_path, "--virtual", "--language", "de")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "tts.csv")[0]["errors"] == ""
    assert "knows English only" in result.output


def test_prices_of_a_file_replace_those_of_the_package(folder: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."nova-3"]\nunit = ["minute"]\ninput_minute = 0.6\n')
    (folder / "hello_world.txt").write_text("Hello, [/b] world!")  # not markup of the terminal
    ask = ("stt", "--services", "deepgram", "--clips", folder, "--snr", "", "--scripted", "--virtual")
    result = lab(*ask, "--out", tmp_path, "--prices", prices)
    assert result.exit_code == 0, result.output
    assert "36.00" in result.output
    assert "Hello, [/b] world!" in result.output
    assert "No price" not in result.output
    for row in rows(tmp_path / "stt.csv"):
        assert float(row["usd"]) == pytest.approx(float(row["audio_s"]) / 100, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stt", "--services", "deepgrem"], "there is no stt 'deepgrem': there are deepgram, "),
        (["tts", "--services", "local,dictaphone"], "there is no tts 'dictaphone'"),
        (["stt", "--services", "deepgram"], "deepgram needs a key: set DEEPGRAM_API_KEY"),
        (["tts", "--services", "openai"], "openai needs a key: set OPENAI_API_KEY"),
        (["tts", "--judge", "openai"], "openai needs a key: set OPENAI_API_KEY"),
        (["stt", "--services", " , "], "name one service or more: local, deepgram"),
        (["stt", "--services", "local,local"], "local is named twice"),
        (["stt", "--services", "whisper"], "whisper needs the folder or the name of a model"),
        (["stt", "--snr", "loud"], "'loud' is not a signal-to-noise ratio"),
        (["stt", "--snr", "nan"], "'nan' is not a signal-to-noise ratio"),
        (["stt", "--clips", "nowhere"], "there is no folder nowhere"),
        (["tts", "--texts", "nowhere"], "nowhere cannot be read"),
        (["stt", "--prices", "nowhere"], "prices of nowhere: "),
        (["stt", "--language", "klingon"], "unknown locale 'klingon'"),
    ],
)
def test_bad_input_is_named_before_anything_is_measured(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("DEEPGRAM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    result = lab(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


# -- clips -------------------------------------------------------------------------------------------------------------


def test_clips_are_recordings_with_their_words_and_the_place_of_the_speech(folder: Path) -> None:
    shutil.copy(DATA / "utterance_2.wav", folder / "a.WAV")
    (folder / "a.txt").write_text("what is the weather going to be in london tomorrow morning")
    first, hello, weather = read_clips(folder)
    assert [first.name, hello.name, weather.name] == ["a", "hello_world", "weather_question"]
    assert hello.text == "Hello, world!"
    assert first.start == pytest.approx(1600, abs=RATE // 50)
    assert first.end == pytest.approx(44429, abs=RATE // 20)


def test_a_clip_of_another_rate_is_converted(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "tone.wav", 44_100, 2) as file:
        mono = np.frombuffer(tone(1.0, 44_100), "<i2")
        file.write(np.repeat(mono, 2).tobytes())
    (tmp_path / "tone.txt").write_text("a tone")
    (one,) = read_clips(tmp_path)
    assert one.duration_s == pytest.approx(1.0, abs=0.01)


def test_a_folder_without_clips_and_clips_without_text_or_sound_are_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "notes.txt").write_text("no recording")
    with pytest.raises(BadInput, match=r"has no recordings: it needs files NAME\.wav"):
        read_clips(tmp_path)
    (folder / "hello_world.txt").write_text(" \n")
    with pytest.raises(BadInput, match=r"hello_world\.wav has no text: hello_world\.txt"):
        read_clips(folder)
    (folder / "hello_world.txt").unlink()
    with pytest.raises(BadInput, match=r"hello_world\.wav has no text: hello_world\.txt"):
        read_clips(folder)
    with pytest.raises(BadInput, match="the clip quiet is silent"):
        clip("quiet", "words", bytes(32_000))
    with pytest.raises(BadInput, match="the clip short is silent"):
        clip("short", "words", b"\1\0")


@settings(max_examples=10)
@given(snr_db=st.floats(0, 40), seed=st.integers(0, 2**32), kind=st.sampled_from(["pink", "babble"]))
def test_noise_has_its_level_and_is_that_of_its_seed(snr_db: float, seed: int, kind: Any) -> None:
    clean = [clip(f"{hz} Hz", "a tone", SILENCE + tone(1.0, RATE, hz=hz) + SILENCE) for hz in (300, 440, 700)]
    noisy = with_noise(clean, snr_db, kind, seed)
    assert noisy == with_noise(clean, snr_db, kind, seed)
    for before, after in zip(clean, noisy, strict=True):
        assert (after.start, after.end, len(after.pcm)) == (before.start, before.end, len(before.pcm))
        speech = np.frombuffer(before.pcm, "<i2").astype(float)
        noise = np.frombuffer(after.pcm + after.tail, "<i2").astype(float)
        noise[: len(speech)] -= speech
        ratio = 10 * np.log10((speech[before.start : before.end] ** 2).mean() / (noise**2).mean())
        assert ratio == pytest.approx(snr_db, abs=0.1)


def test_loud_noise_does_not_saturate() -> None:
    (noisy,) = with_noise([clip("a", "a tone", SPEECH)], -20, "pink", 1)
    samples = np.abs(np.frombuffer(noisy.pcm + noisy.tail, "<i2").astype(int))
    assert 25_000 < samples.max() < 32_000


def test_babble_of_too_few_clips_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="it needs 3 clips or more, not 2"):
        with_noise(read_clips(folder), 10, "babble", 1)


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "understood", "errors", "words"),
    [
        ("Hello, World!", "hello world", 0, 2),
        ("It's 25 euros.", "it’s twenty-five euros", 0, 4),
        ("one two three", "one too three four", 2, 3),
        ("order four five six seven", "Order 4567.", 0, 5),
        ("order 4567", "order four five six seven", 0, 5),
        ("order 4567", "order 4567", 0, 8),
        ("one two three", "", 3, 3),
        ("你好，世界。", "你好世界", 0, 4),
        ("你好，世界。", "你好时界", 1, 4),
        ("नमस्ते दुनिया", "नमस्ते, दुनिया!", 0, 2),
        ("Straße", "STRASSE", 0, 1),
    ],
)
def test_words_are_compared_without_case_and_punctuation(text: str, understood: str, errors: int, words: int) -> None:
    assert scored(text, understood) == (errors, words)


def test_scores_add_up() -> None:
    assert (scored("one two", "one") + scored("three", "four")).rate == 2 / 3
    assert scored("...", "").rate is None
    assert normalised("Don't stop'") == ["don't", "stop"]


# -- measuring ---------------------------------------------------------------------------------------------------------


def spoken(name: str = "one") -> Clip:
    return clip(name, "one two", SPEECH)


async def test_latencies_count_from_the_speech_itself() -> None:
    stt = MockSTT(["one two"], delay_s=0.25)
    (heard,) = await hear(stt, [spoken()])
    assert heard.text == "one two"
    assert heard.final_s == pytest.approx(0.25, abs=0.001)
    assert heard.error == ""


class Moody(MockSTT):
    """Fails for the second utterance, each time that it is asked."""

    utterances = 0

    async def begin(self) -> None:
        self.utterances += 1
        await super().begin()

    async def finish(self) -> Transcription:
        if self.utterances in (2, 3):
            raise ServiceError("no ear today")
        return await super().finish()


async def test_a_failure_belongs_to_its_clip_and_the_next_one_is_heard() -> None:
    heard = await hear(Moody(["one two"] * 5), [spoken("a"), spoken("b"), spoken("c")])
    assert [bool(one.error) for one in heard] == [False, True, False]
    assert "no ear today" in heard[1].error
    assert heard[2].text == "one two"


class Dead(MockSTT):
    async def open(self) -> None:
        raise ConfigurationError("no such model")


async def test_a_service_that_does_not_start_gives_an_error_for_each_clip() -> None:
    heard = await hear(Dead([]), [spoken("a"), spoken("b")])
    assert all("no such model" in one.error for one in heard)


class Cut(MockSTT):
    async def feed(self, pcm: bytes) -> str:
        self.session.cancel("cut off")
        return ""


async def test_a_call_that_ends_in_the_middle_of_a_clip_gives_an_error_for_each_clip() -> None:
    heard = await hear(Cut([]), [spoken("a"), spoken("b")])
    assert [one.error for one in heard] == ["the session has ended"] * 2


class DeadVoice(MockTTS):
    async def open(self) -> None:
        raise ConfigurationError("no such voice")


async def test_a_voice_that_does_not_start_gives_an_error_for_each_text() -> None:
    assert all("no such voice" in one.error for one in await speak_all(DeadVoice(), ["Good morning.", "Good night."]))


async def test_a_voice_that_fails_gives_an_error_for_its_text() -> None:
    class Mute(MockTTS):
        async def synthesize(self, text: str, voice: str) -> Any:
            if "mute" in text:
                raise ServiceError("no voice today")
            async for chunk in super().synthesize(text, voice):
                yield chunk

    good, mute, again = await speak_all(Mute(), ["Good morning.", "I am mute.", "Good night."])
    assert good.error == again.error == ""
    assert "no voice today" in mute.error
    assert mute.first_audio_s is None
    assert good.has_word_times is False


def test_a_model_may_follow_the_name_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("DEEPGRAM_API_KEY", "OPENAI_API_KEY", "ELEVENLABS_API_KEY"):
        monkeypatch.setenv(key, "test")
    made = [one.make() for one in named_services("stt", "deepgram:nova-2,openai:gpt-4o-transcribe,elevenlabs")]
    assert [stt.model for stt in made] == ["nova-2", "gpt-4o-transcribe", "scribe_v2_realtime"]
    made = [one.make() for one in named_services("tts", "deepgram:aura-2-apollo-en,openai:tts-1,local:en-gb")]
    assert [tts.model for tts in made] == ["aura-2-apollo-en", "tts-1", "espeak-ng"]
    assert [one.name for one in named_services("stt", "whisper:/models/tiny.en,local")] == ["whisper:tiny.en", "local"]
    (sphinx,) = named_services("stt", "local:large")
    with pytest.raises(ConfigurationError, match="sphinx takes no model"):
        sphinx.make()
