"""Test audio, and turns found in it by its level."""

from __future__ import annotations

import pytest

from duologue.audio.pcm import duration_s, rms_dbfs, silence
from duologue.errors import BadInput, ConfigurationError
from duologue.testing.tones import FoundSpeech, TurnFinder, pieces, tone

RATE = 16_000


class TestTones:
    def test_a_tone_has_its_length_and_level_and_is_always_the_same(self) -> None:
        pcm = tone(0.5, RATE, hz=300, dbfs=-12)
        assert duration_s(pcm, RATE) == 0.5
        assert rms_dbfs(pcm) == pytest.approx(-12, abs=0.1)
        assert tone(0.5, RATE, hz=300, dbfs=-12) == pcm
        assert tone(0, RATE) == b""

    @pytest.mark.parametrize(
        ("seconds", "hz", "dbfs"), [(-1.0, 440, -20), (float("inf"), 440, -20), (1, 8000, -20), (1, 440, 0)]
    )
    def test_impossible_tones_are_refused(self, seconds: float, hz: float, dbfs: float) -> None:
        with pytest.raises(BadInput):
            tone(seconds, RATE, hz=hz, dbfs=dbfs)

    def test_pieces_make_up_the_whole(self) -> None:
        pcm = tone(0.05, RATE)
        cut = list(pieces(pcm, RATE, 20))
        assert [len(piece) for piece in cut] == [640, 640, 320]
        assert b"".join(cut) == pcm
        with pytest.raises(BadInput):
            pieces(pcm, RATE, 0)


class TestTurnFinder:
    AUDIO = silence(0.3, RATE) + tone(1, RATE) + silence(0.2, RATE) + tone(0.5, RATE) + silence(0.6, RATE)

    @pytest.mark.parametrize("ms", [2.5, 10, 20, 33, 1000])
    def test_speech_is_found_wherever_the_audio_is_cut(self, ms: float) -> None:
        finder = TurnFinder(RATE, silence_ms=500, speech_ms=20)
        found = [speech for piece in pieces(self.AUDIO, RATE, ms) for speech in finder.feed(piece)]
        assert found == [FoundSpeech(True, 4_800, 5_120), FoundSpeech(False, 32_000, 40_000)]
        assert not finder.speaking

    def test_a_shorter_silence_parts_the_same_audio(self) -> None:
        found = TurnFinder(RATE, silence_ms=200).feed(self.AUDIO)
        assert [speech.begun for speech in found] == [True, False, True, False]

    def test_sounds_that_are_too_short_or_too_quiet_are_no_speech(self) -> None:
        finder = TurnFinder(RATE, speech_ms=50)
        assert finder.feed(silence(0.1, RATE) + tone(0.04, RATE) + silence(0.1, RATE)) == []
        assert finder.feed(tone(1, RATE, dbfs=-50)) == []

    def test_speech_ends_with_the_audio(self) -> None:
        finder = TurnFinder(RATE)
        assert finder.flush() == []
        finder.feed(tone(0.5, RATE) + silence(0.1, RATE))
        assert finder.flush() == [FoundSpeech(False, 8_000, 9_600)]
        assert finder.flush() == []
        assert finder.feed(tone(0.5, RATE)) == [FoundSpeech(True, 9_600, 9_920)]

    def test_another_rate(self) -> None:
        found = TurnFinder(24_000, silence_ms=100).feed(tone(0.2, 24_000) + silence(0.2, 24_000))
        assert found == [FoundSpeech(True, 0, 480), FoundSpeech(False, 4_800, 7_200)]

    def test_impossible_settings_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="silence_ms"):
            TurnFinder(RATE, silence_ms=-1)
        with pytest.raises(ConfigurationError, match="speech_ms"):
            TurnFinder(RATE, speech_ms=float("nan"))
        with pytest.raises(BadInput):
            TurnFinder(0)
