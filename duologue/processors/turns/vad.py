"""`Vad`: finds the start and stop of speech in the caller's audio; `SpeechGate`: a simpler one for native engines."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping

from ...audio.pcm import downmix
from ...audio.vad import AgentAware, Detector, Framer, default_detector
from ...frames import (
    BotStartedSpeaking,
    BotStoppedSpeaking,
    End,
    Frame,
    Input,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
)
from ..kernel.lane import DONE
from ..processor import handles
from .policy import VadPolicy
from .stream import STALL_S, AudioFollower, split

RESUMES_S = 0.6
"""Seconds after speech within which two voiced frames in a row resume it."""
GATE_START_S = 0.06
"""Seconds of voice without a pause that a `SpeechGate` counts as speech."""
GATE_PAUSE_S = 0.6
"""Seconds of a pause that a `SpeechGate` counts as the end of speech. Providers wait about as long."""
INPUT_MISSING = "put the transport's input before it"
_PIECE_S = 0.1  # longer pieces are processed and passed on in parts of this length
_SHORT, _SHORT_FROM_HZ = 1_600, 8_000  # this many bytes are never longer, from this rate on


class Vad(AudioFollower):
    """Marks where the caller's speech starts and stops. All audio passes, unchanged and at once.

    `detector` scores audio frames; a score of `threshold` (0 to 1) or more is voiced. The default is WebRTC's detector
    behind a `NoiseGate`, at the rate of the first audio if it takes that; `SileroVad` tells speech from other sounds.
    Speech starts once `start_ms` of about the last 1.5 `start_ms` were voiced, and stops `stop_ms` after the last
    voiced frame; a single voiced frame does not count. Within `RESUMES_S` of it, two frames in a row are enough to
    start again: in noise only the loudest sounds of a word are heard. `SpeechStarted.at` is the start of the first
    voiced frame and `SpeechStopped.at` the end of the last one. Both are pushed right after the sample that proved
    them, which cuts a piece of audio in two. Pieces over 100 ms are passed on in parts.

    Speech also stops at the `End`, and when no audio has come for `STALL_S`. Raises ConfigurationError for a setting
    out of range.
    """

    gives = frozenset({SpeechStarted})
    judges_speech = True
    needs: Mapping[type[Frame], str] = {UserAudio: INPUT_MISSING}

    def __init__(
        self, detector: Detector | None = None, *, start_ms: int = 60, stop_ms: int = 200, threshold: float = 0.5
    ) -> None:
        super().__init__()
        self.policy = VadPolicy(start_ms=start_ms, stop_ms=stop_ms, threshold=threshold)
        """The settings with which it was made."""
        self.threshold = threshold
        self._detector = detector  # None: made for the rate of the first audio
        self._aware = detector if isinstance(detector, AgentAware) else None
        self._frame_s = 0.0
        self._stop_s = stop_ms / 1000
        # One bit for each recent frame, 1 if voiced; the lowest bit is the latest frame.
        self._history = 0
        self._needed = self._window = 1
        self._framer: Framer | None = None
        self._sample_rate = 0
        self._speaking = False
        self._started_at = 0.0
        self._voiced_until = 0.0
        self._resumes_until = -math.inf  # session time up to which little voice is speech again

    async def open(self) -> None:
        """Take the clock and the floor of the session."""
        await super().open()
        self._floor, self._ear = self.session.floor, self.session.audio.ear
        if self._detector is None:
            default_detector(16_000)  # the first audio does not wait for the imports

    async def close(self) -> None:
        """End the speech, if there is one."""
        await super().close()
        if self._speaking:
            self._floor.caller_speaks(False, self._voiced_until)

    @handles(BotStartedSpeaking)
    def agent_started(self, frame: BotStartedSpeaking) -> None:
        """Tell the detector that the caller hears the agent."""
        if self._aware is not None:
            self._aware.agent_speaks(True)

    @handles(BotStoppedSpeaking)
    def agent_stopped(self, frame: BotStoppedSpeaking) -> None:
        """Tell the detector that the agent is silent."""
        if self._aware is not None:
            self._aware.agent_speaks(False)

    def pass_at_once(self, frame: Frame) -> Awaitable[None] | None:
        """Take a piece of audio of a usual length."""
        if isinstance(frame, UserAudio) and len(frame.audio) <= _SHORT and frame.sample_rate >= _SHORT_FROM_HZ:
            return self._pass(frame)
        return None

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass a piece of audio on in parts that are not too long, with the marks of speech in it."""
        while len(frame.audio) > 2 * frame.channels * (longest := int(frame.sample_rate * _PIECE_S) or 1):
            part, frame = split(frame, longest)
            await self._pass(part)
        await self._pass(frame)

    def _pass(self, frame: UserAudio) -> Awaitable[None]:
        """Push a piece and the marks of speech in it. The pushing may have to wait."""
        pcm, rate, time, start = frame.audio, frame.sample_rate, self._time, frame.at
        if start < time.end_s:
            start = time.end_s
        time.end_s = start + len(pcm) / (2 * frame.channels * rate)
        score = None
        marks: list[tuple[int, Input]] = []
        try:
            if rate != self._sample_rate:
                self._tune(rate)
            if (framer := self._framer) is not None:
                if frame.channels != 1:
                    pcm = downmix(pcm, frame.channels)
                if self._ear.seconds:
                    self._ear.add(pcm, rate, start)
                score = framer.score(pcm)
                if score is not None and score < self.threshold and not self._speaking:  # most pieces of most calls
                    if self._history:
                        self._history = self._history << 1 & self._window
                        self._floor.caller_may_speak = self._history & 3 != 0
                    return self._down[frame.__class__](frame)
                self._judge(framer, score, pcm, rate, start, marks)
        except Exception as error:  # the audio passes even if the detector fails
            self.session.report(error, self.name, frame)
            if self._speaking:
                marks.append((0, self._stop()))
        self._arrived_at = None
        passed = self._push_marked(frame, marks) if marks else self._down[frame.__class__](frame)
        if passed is not DONE:
            return self._arrives(passed)
        if self._speaking:
            self._arrived_at = self._loop.time()
        return passed

    def _judge(
        self, framer: Framer, score: float | None, pcm: bytes, rate: int, start: float, marks: list[tuple[int, Input]]
    ) -> None:
        """Add the frames that a piece proves to `marks`, each with the number of samples before it."""
        voiced_until = self._voiced_until
        if self._speaking and start - voiced_until > self._stop_s + STALL_S:
            marks.append((0, self._stop()))  # the stream has a gap
        if score is not None:
            self._count(score >= self.threshold, self._time.end_s, len(pcm) // 2, marks)
        else:
            fed = framer.fed
            for score, end in framer.process(pcm):
                self._count(score >= self.threshold, start + (end - fed) / rate, max(0, end - fed), marks)
        self._floor.caller_may_speak = self._history & 3 != 0
        if self._voiced_until != voiced_until and self._speaking:
            self._ear.voiced_until = self._voiced_until
            try:
                self._floor.caller_voiced(self._started_at, self._voiced_until)
            except Exception as error:  # from a listener
                self.session.report(error, self.name, None)

    async def _push_marked(self, frame: UserAudio, marks: list[tuple[int, Input]]) -> None:
        passed = 0
        for place, mark in marks:
            samples = place - passed
            if 0 < samples < len(frame.audio) // (2 * frame.channels):
                head, frame = split(frame, samples)
                await self.push(head)
                passed = place
            elif samples > 0:
                await self.push(frame)
                await self.push(mark)
                return
            await self.push(mark)
        await self.push(frame)

    @handles(End)
    async def end(self, frame: End) -> None:
        """End the speech with the call."""
        if self._speaking:
            await self.push(self._stop())

    def _count(self, voiced: bool, at: float, place: int, marks: list[tuple[int, Input]]) -> None:
        """Take the verdict on the audio frame that ends at a session time, after `place` samples of the piece."""
        history = self._history = (self._history << 1 | voiced) & self._window
        if not self._speaking:
            if voiced and (history.bit_count() >= self._needed or (history & 2 and at < self._resumes_until)):
                marks.append((place, self._start(at)))
        elif voiced:
            if self._needed == 1 or history & 6:
                self._voiced_until = at
        elif at - self._voiced_until > self._stop_s - 1e-6:
            marks.append((place, self._stop()))

    def _tune(self, sample_rate: int) -> None:
        """Take audio of another rate from now on. Raises BadInput if it cannot be converted to the detector's rate."""
        self._sample_rate, self._framer = sample_rate, None
        detector = self._detector
        if detector is None:
            detector = self._detector = default_detector(sample_rate)
        self._frame_s = detector.frame_samples / detector.sample_rate
        self._needed = math.ceil(self.policy.start_ms / 1000 / self._frame_s - 1e-9)
        self._window = (1 << (self._needed + self._needed // 2)) - 1
        self._framer = Framer(detector, sample_rate)

    def _start(self, at: float) -> SpeechStarted:
        self._speaking = True
        began = at - self._frame_s * self._history.bit_length()
        # Before 0 is audio of an earlier call that this one goes on from.
        self._started_at = began if at < 0 else max(0.0, began)
        self._voiced_until = at
        self._floor.caller_speaks(True, self._started_at)
        self._attend(STALL_S)
        return SpeechStarted(at=self._started_at)

    def _stop(self) -> SpeechStopped:
        self._speaking = False
        self._history = 0
        self._resumes_until = self._voiced_until + RESUMES_S
        self._floor.caller_speaks(False, self._voiced_until)
        return SpeechStopped(at=self._voiced_until)

    def _left_s(self, idle_s: float) -> float | None:
        return STALL_S - idle_s if self._speaking else None

    async def _fall_silent(self) -> None:
        if self._speaking:
            await self.push(self._stop())


class SpeechGate:
    """Follows the caller's audio. It only decides which audio is kept; it does not change what the caller hears."""

    def __init__(self) -> None:
        self._detector: Detector | None = None
        self._framer: Framer | None = None
        self._sample_rate = 0
        self._voiced_from: float | None = None
        self._voiced_until = 0.0
        self.speaking = False
        """True while the caller speaks, short pauses included."""

    def hear(self, frame: UserAudio) -> float | None:
        """Take the next piece of audio. Returns the session time at which speech began or ended, if it did.

        Raises BadInput for audio of an impossible rate.
        """
        if frame.sample_rate != self._sample_rate:
            self._sample_rate = frame.sample_rate
            if self._detector is None:
                self._detector = default_detector(frame.sample_rate)
            self._framer = Framer(self._detector, frame.sample_rate)
        assert self._framer is not None
        assert self._detector is not None
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        fed, news = self._framer.fed, None
        frame_s = self._detector.frame_samples / self._detector.sample_rate
        for score, end in self._framer.process(pcm):
            at = frame.at + (end - fed) / frame.sample_rate
            if score >= 0.5:
                self._voiced_until = at
                if self._voiced_from is None:
                    self._voiced_from = at - frame_s
                if not self.speaking and at - self._voiced_from > GATE_START_S - 1e-6:
                    self.speaking, news = True, self._voiced_from
            elif not self.speaking:
                self._voiced_from = None
            elif at - self._voiced_until > GATE_PAUSE_S - 1e-6:
                self.speaking, self._voiced_from, news = False, None, self._voiced_until
        return news
