"""`PiperTTS` with the real library and a voice that a package ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from duologue.audio.resample import Resampler
from duologue.errors import ConfigurationError
from duologue.frames import BotAudio, WordTimes
from duologue.services.piper import PiperOptions, PiperTTS
from duologue.services.piper.voices import voice_file
from duologue.testing.mocks import MockLLM
from tests.services.story import story
from tests.services.voices import JOE
from tests.services.whisper.test_stt import whisper


def piper(**settings: Any) -> PiperTTS:
    tts = PiperTTS(JOE, **settings)
    tts.timeout_s = 300  # the machine that tests may be busy
    tts.load()
    return tts


async def said(tts: PiperTTS, text: str = "Good morning.", voice: str = "") -> bytes:
    return b"".join([chunk.audio async for chunk in tts.synthesize(text, voice)])


async def test_sentences_are_spoken_and_can_be_understood() -> None:
    tts = piper(options=PiperOptions(noise_scale=0.0, noise_w_scale=0.0))  # at random, a word is misheard now and then
    async with story(llm=MockLLM(["The train leaves at noon. Have a nice day!"]), tts=tts) as call:
        await call.types("Go.")
        await call.until(lambda: call.responses and "goes on" not in call.responses[0], "the end", 600)
    assert call.responses == [": The train leaves at noon. Have a nice day! (completed)"]
    audio = call.came(BotAudio)
    assert {frame.sample_rate for frame in audio} == {22_050}
    assert 2 < call.spoken_s < 6
    words = [word.text.strip() for frame in call.came(WordTimes) for word in frame.words]
    assert {"train", "noon.", "nice", "day!"} <= set(words)
    stt = whisper()
    stt.load()
    resampler = Resampler(22_050, 16_000)
    await stt.begin()
    await stt.feed(resampler.process(b"".join(frame.audio for frame in audio)) + resampler.flush())
    assert (await stt.finish()).text.rstrip("!.") == "The train leaves at noon. Have a nice day"


async def test_an_interruption_drops_the_rest_of_the_sentence() -> None:
    async with story(llm=MockLLM(["One two three four five six seven. Eight nine ten."]), tts=piper()) as call:
        await call.types("Go.")
        await call.until(lambda: call.came(BotAudio), "audio", 600)
        before = len(call.came(BotAudio))
        call.session.interrupt()
        await anyio.sleep(5)
        assert len(call.came(BotAudio)) == before
        assert not call.errors


async def test_speed_and_volume_are_obeyed() -> None:
    quiet: dict[str, Any] = {"noise_scale": 0.0, "noise_w_scale": 0.0}
    usual = np.frombuffer(await said(piper(options=PiperOptions(**quiet))), "<i2")
    fast = np.frombuffer(await said(piper(options=PiperOptions(speed=2.0, **quiet))), "<i2")
    soft = np.frombuffer(await said(piper(options=PiperOptions(volume=0.25, **quiet))), "<i2")
    assert len(fast) / len(usual) == pytest.approx(0.5, abs=0.1)
    assert np.abs(soft).max() / np.abs(usual).max() == pytest.approx(0.25, abs=0.02)


async def test_brackets_are_not_read_as_phonemes() -> None:
    options = PiperOptions(noise_scale=0.0, noise_w_scale=0.0)
    tts = piper(options=options)
    assert await said(tts, "See [[one]] there.") == await said(tts, "See [ [one]] there.")


async def test_a_text_without_a_sound_is_no_error() -> None:
    assert await said(piper(), "…") in (b"", await said(piper(), "…"))


async def test_another_voice_comes_at_the_rate_of_the_first(tmp_path: Path) -> None:
    other = copied(tmp_path, audio={"sample_rate": 16_000})
    tts = piper(others={"low": other}, options=PiperOptions(noise_scale=0.0, noise_w_scale=0.0))
    usual, low = await said(tts), await said(tts, voice="low")
    assert len(low) / len(usual) == pytest.approx(22_050 / 16_000, abs=0.05)


def copied(folder: Path, **changes: Any) -> Path:
    """The voice under another name, with changed settings."""
    path = folder / "voice.onnx"
    shutil.copy(JOE, path)
    settings = json.loads(Path(f"{JOE}.json").read_text()) | changes
    Path(f"{path}.json").write_text(json.dumps(settings))
    return path


def test_unknown_voices_and_speakers_are_named(tmp_path: Path) -> None:
    tts = PiperTTS(JOE, others={"choir": copied(tmp_path, speaker_id_map={"alto": 0, "bass": 1}, num_speakers=2)})
    tts.check_voice("choir:bass")
    tts.check_voice("choir")
    with pytest.raises(ConfigurationError, match=r"'marin'.*choir"):
        tts.check_voice("marin")
    with pytest.raises(ConfigurationError, match=r"'tenor'.*alto, bass"):
        tts.check_voice("choir:tenor")
    with pytest.raises(ConfigurationError, match="'p239'"):
        tts.check_voice(":p239")


def test_the_process_loads_a_voice_once() -> None:
    one, two = voice_file(JOE, cuda=False, threads=1), voice_file(JOE, cuda=False, threads=1)
    assert one.load() is two.load()


def test_a_file_that_is_no_voice_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.onnx"
    with pytest.raises(ConfigurationError, match=r"none\.onnx"):
        PiperTTS(missing)
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(b"no model")
    with pytest.raises(ConfigurationError, match=r"alone\.onnx\.json"):
        PiperTTS(alone)
    settings = Path(f"{alone}.json")
    for text in ("not json", "[]", "{}", '{"audio": {"sample_rate": 5}}', '{"audio": 3}'):
        settings.write_text(text)
        with pytest.raises(ConfigurationError, match=r"alone\.onnx\.json"):
            PiperTTS(alone)
    settings.write_text('{"audio": {"sample_rate": 22050}}')
    with pytest.raises(ConfigurationError, match=r"alone\.onnx"):
        PiperTTS(alone).load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("speed", 0.2), ("speed", 5), ("volume", 3), ("noise_scale", -1), ("noise_w_scale", 3), ("threads", 0)],
)
def test_an_option_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        PiperOptions(**{name: value})
