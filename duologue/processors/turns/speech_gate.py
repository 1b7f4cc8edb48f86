"""`SpeechGate`: finds the caller's speech for a native engine when neither its provider nor a `Vad` does."""

from __future__ import annotations

from ...audio.pcm import downmix
from ...audio.vad import Framer, NoiseGate, WebRtcVad
from ...frames import UserAudio

START_S = 0.06
"""Seconds of voice without a pause that count as speech."""
PAUSE_S = 0.6
"""Seconds of a pause that ends a turn; providers wait about as long."""


class SpeechGate:
    """Follows the caller's audio. Its result decides only which audio is kept, and never what the caller hears."""

    def __init__(self) -> None:
        self._detector = NoiseGate(WebRtcVad())
        self._framer: Framer | None = None
        self._sample_rate = 0
        self._fed = 0  # samples given to the framer
        self._voiced_from: float | None = None
        self._voiced_until = 0.0
        self.speaking = False
        """True while the caller speaks, short pauses included."""

    def hear(self, frame: UserAudio) -> float | None:
        """Take the next piece of audio. Returns the session time at which speech began or ended, if it did.

        Raises BadInput for audio of an impossible rate.
        """
        if frame.sample_rate != self._sample_rate:
            self._sample_rate, self._fed = frame.sample_rate, 0
            self._framer = Framer(self._detector, frame.sample_rate)
        assert self._framer is not None
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        fed, news = self._fed, None
        self._fed += len(pcm) // 2
        frame_s = self._detector.frame_samples / self._detector.sample_rate
        for score, end in self._framer.process(pcm):
            at = frame.at + (end - fed) / frame.sample_rate
            if score >= 0.5:
                self._voiced_until = at
                if self._voiced_from is None:
                    self._voiced_from = at - frame_s
                if not self.speaking and at - self._voiced_from > START_S - 1e-6:
                    self.speaking, news = True, self._voiced_from
            elif not self.speaking:
                self._voiced_from = None
            elif at - self._voiced_until > PAUSE_S - 1e-6:
                self.speaking, self._voiced_from, news = False, None, self._voiced_until
        return news
