"""`Endpointing`: decides when the caller's turn is over."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError
from ...frames import (
    EagerEndOfTurn,
    End,
    EndOfTurn,
    Frame,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    UserAudio,
    UserTranscript,
)
from ..kernel.lane import DONE
from ..kernel.node import Node
from ..processor import handles
from .lexicon import read_lexicons
from .policy import EndpointingPolicy
from .smart_turn import TurnModel
from .stalled import StalledWords
from .stream import STALL_S, AudioFollower, split
from .turn_sound import TurnSound
from .turn_words import TurnWords

log = logging.getLogger("duologue")

LAG_S = 0.6
"""Seconds by which words are behind the speech: newer words in a silence are from speech that was not detected."""
NOISE_S = 0.15
"""Seconds by which a silence is longer in noise: a detector hears the beginning of speech late there."""
PUT_OFF_S, MOST_PUT_OFF_S = 0.02, 0.1
"""Seconds by which an end is put off while the latest sound may be speech: each time, and at most."""


def check_turns(node: Node, before: Sequence[Node], after: Sequence[Node]) -> None:
    """Check the place of a service that takes the caller's turns from the processors before it.

    Raises ConfigurationError if speech is detected there, but not the ends of turns. If neither is, the service takes
    only typed text: the log has a warning.
    """
    if node.session.microphone.mode == "push_to_talk" or any(EndOfTurn in other.gives for other in before):
        return
    if any(SpeechStarted in other.gives for other in before):
        raise ConfigurationError(f"{node.name} gets no EndOfTurn frames: put Endpointing before it, behind Vad")
    late = next((other for other in after if EndOfTurn in other.gives), None)
    if late is not None:
        raise ConfigurationError(
            f"{node.name} stands before {late.name}, which gives the caller's turns: put it behind"
        )
    if any(UserAudio in other.gives for other in before):
        log.warning("%s takes only typed text: for speech, put Vad and Endpointing before it", node.name)


def _merged(policy: EndpointingPolicy | None, **given: Any) -> EndpointingPolicy:
    """Return a policy with the settings that are given. None are not."""
    settings = {name: value for name, value in given.items() if value is not None}
    if "silence_ms" in settings:
        settings["by_words"] = False
    return dataclasses.replace(policy or EndpointingPolicy(), **settings)


class Endpointing(AudioFollower):
    """Ends the caller's turn, by a silence whose length depends on their words: see `EndpointingPolicy`.

    Single settings replace those of the policy; with `silence_ms` the silence always has this length. Raises
    ConfigurationError for a setting out of range.

    Silence is measured in the audio, and `EndOfTurn` has its place there; if the audio stops, the clock measures.
    Speech within the silence (by="silence") continues the turn; words change its length, for the future only. A turn of
    `max_turn_s` is ended (by="limit"); if the caller speaks on, the next one starts at the same sample. The same holds
    (by="stall") for one whose words stall while the detector hears a lower voice: others talk. The `End` ends it, too.

    Speech shorter than `min_speech_ms` does not start a turn: its audio passes, its `SpeechStarted` and
    `SpeechStopped` do not. Every `SpeechStarted` that passes is followed by an `EndOfTurn`. Words that are recognised
    outside a turn start a turn. `turn_model`, such as `SmartTurn`, is asked at pauses where no words are known.
    """

    gives = frozenset({EndOfTurn})
    judges_speech = True
    needs: Mapping[type[Frame], str] = {SpeechStarted: "put Vad before it"}

    def __init__(
        self,
        policy: EndpointingPolicy | None = None,
        /,
        *,
        silence_ms: int | None = None,
        min_speech_ms: int | None = None,
        max_turn_s: float | None = None,
        eager_ms: int | None = None,
        turn_model: TurnModel | None = None,
    ) -> None:
        super().__init__()
        self.policy = _merged(
            policy, silence_ms=silence_ms, min_speech_ms=min_speech_ms, max_turn_s=max_turn_s, eager_ms=eager_ms
        )
        """May be replaced at any time. It holds for the silences that begin after that."""
        self._sound = TurnSound(turn_model) if turn_model is not None else None
        self._open = False
        self._speaking = False
        self._began_at = 0.0
        self._spoke_until = 0.0
        self._stalled = StalledWords()
        self._put_off_s = 0.0  # for what may be the beginning of speech
        self._silence_s = 0.0  # the silence that ends the turn, as things are
        self._ends_at = math.inf  # audio time at which the turn ends, if nothing more is said
        self._due_at = math.inf  # the same, or an earlier time at which its probable end is pushed
        self._eager = False  # it was pushed, and the caller has been silent since
        self._ended_at = 0.0  # audio time of the latest EndOfTurn
        self._candidate: SpeechStarted | None = None  # speech that is still too short
        self._words = TurnWords(self._sound)
        self._stop_listening: Callable[[], None] = lambda: None
        self._voice_start = self._voice_end = -1.0  # session times of the latest speech; none yet

    async def open(self) -> None:
        """Follow the length of the caller's speech."""
        await super().open()
        if self._sound is not None:
            await self._sound.load()
        read_lexicons()
        self._words.follow(self.session)
        self._stop_listening = self.session.floor.on_voice(self._voiced)

    async def close(self) -> None:
        """Stop following it."""
        await super().close()
        self._stop_listening()
        self._words.close()

    def _voiced(self, start_s: float, end_s: float) -> None:
        self._voice_start, self._voice_end = start_s, end_s

    def pass_at_once(self, frame: Frame) -> Awaitable[None] | None:
        """Pass a piece of audio on in which nothing is due."""
        if not isinstance(frame, UserAudio) or self._sound is not None or not self._time.take(frame, self._due_at):
            return None
        self._arrived_at = None
        passed = self._down[frame.__class__](frame)
        stays = self._candidate is None and self._due_at > self._time.end_s + 1e-6
        if passed is not DONE or not stays or self._stalls(frame):
            return self._finish(frame, passed)
        self._arrived_at = self._loop.time()
        return passed

    def _stalls(self, frame: UserAudio) -> bool:
        if not self._open or not self.policy.by_words:
            return False
        return self._stalled.passed(frame, self._time.end_s, self._speaking)

    async def _finish(self, frame: UserAudio, passed: Awaitable[None]) -> None:
        await passed
        if self._stalls(frame):
            await self._end_turn("stall")
        await self._settle()
        self._arrived_at = self._loop.time()

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Pass the audio on, with an `EndOfTurn` at its place in it."""
        self._arrived_at = None
        start = self._time.start_of(frame)
        if self._sound is not None:
            self._sound.hear(frame)
        while self._due_at <= self._time.end_s:
            samples = round((self._due_at - start) * frame.sample_rate)
            if samples >= len(frame.audio) // (2 * frame.channels):
                break
            if samples > 0:
                head, frame = split(frame, samples)
                start += samples / frame.sample_rate
                await self.push(head)
            await self._end_due()
        await self._finish(frame, self.push(frame))

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        """Begin or continue a turn."""
        if self._open:
            if not self._speaking:
                self._words.resumed(frame.at - self._spoke_until)
                self._stalled.resumed(frame.at)
            self._speaking = True
            self._due_at = self._ends_at = self._began_at + self.policy.max_turn_s
            if self._eager:
                self._eager = False
                await self.push(TurnResumed(at=frame.at))
            await self.push(frame)
        elif self._voice_start == frame.at:
            self._candidate = frame
        else:  # the detector does not announce the length of the speech
            await self._begin(frame)
        await self._settle()

    @handles(SpeechStopped)
    async def stopped(self, frame: SpeechStopped) -> None:
        """Begin to measure the silence."""
        if self._candidate is not None:
            candidate, self._candidate = self._candidate, None
            if frame.at - candidate.at < self.policy.min_speech_ms / 1000 - 1e-6:
                return
            await self._begin(candidate)
        if not self._open:
            return
        self._speaking = False
        if self._sound is not None and self._words.patience(frame.at) is None:
            self.spawn(self._ask, self._sound, frame.at)
        self._stalled.paused(frame.at)
        self._silent_since(frame.at)
        await self.push(frame)
        await self._settle()

    async def _ask(self, sound: TurnSound, stopped_at: float) -> None:
        """Ask the model if the turn is complete: that changes the silence that ends it, for the future only."""
        judged = await sound.judge(stopped_at, self._time.end_s - self._began_at)
        if judged and self._open and not self._speaking and self._spoke_until == stopped_at:
            self._silent_since(stopped_at)

    @handles(UserTranscript, upstream=True)
    async def transcript(self, frame: UserTranscript) -> None:
        """Take the caller's words. Those from after the latest turn begin one: the detector missed their speech."""
        # Do not push downstream from here: the transcribing service would wait for itself.
        if not self._open and frame.end_s > self._ended_at and frame.text.strip():
            self._open_at(frame.start_s)
            self._words.take(frame, self._time.end_s)
            self._silent_since(frame.end_s)
        elif self._open:
            now, before = self._time.end_s, self._words.text
            changed = self._words.take(frame, now)
            if self._words.text != before:
                self._stalled.words_came(now, self.policy.stall_ms / 1000)
                if not self._speaking:  # the detector may have missed speech
                    self._spoke_until = max(self._spoke_until, now - LAG_S)
            if changed and not self._speaking:
                self._silent_since(self._spoke_until)
        await self.push_up(frame)

    @handles(End)
    async def end(self, frame: End) -> None:
        """End the turn with the call."""
        if self._open:
            await self._end_turn("end")

    async def _settle(self) -> None:
        """Begin or end the turn if that is due at the end of the present audio."""
        candidate = self._candidate
        long_enough = self._voice_end - self._voice_start >= self.policy.min_speech_ms / 1000 - 1e-6
        if long_enough and candidate is not None and self._voice_start == candidate.at:
            self._candidate = None
            await self._begin(candidate)
        while self._due_at <= self._time.end_s + 1e-6:
            await self._end_due()

    async def _begin(self, frame: SpeechStarted) -> None:
        self._speaking = True
        self._open_at(frame.at)
        await self.push(frame)

    def _open_at(self, at: float) -> None:
        self._open, self._began_at = True, at
        self._due_at = self._ends_at = at + self.policy.max_turn_s
        self._words.policy = self.policy
        self._words.begin(at)
        self._stalled.begin()
        self._attend()

    def _silent_since(self, at: float) -> None:
        """Set the end of the turn for a silence that began at an audio time. It does not lie in the past."""
        self._spoke_until, self._put_off_s = at, 0.0
        self._silence_s = self._words.silence_s(at) + (NOISE_S if self._stalled.noisy else 0.0)
        limit = self._began_at + self.policy.max_turn_s
        self._due_at = self._ends_at = min(max(at + self._silence_s, self._time.end_s), limit)
        if self.policy.eager_ms and not self._eager and not self._words.go_on:
            self._due_at = min(at + self.policy.eager_ms / 1000, self._ends_at)

    async def _end_due(self) -> None:
        """End the turn, or push its probable end. Sound that may be the beginning of speech puts both off."""
        if self.session.floor.caller_may_speak and not self._speaking and self._put_off_s < MOST_PUT_OFF_S:
            self._put_off_s += PUT_OFF_S
            self._ends_at, self._due_at = self._ends_at + PUT_OFF_S, self._due_at + PUT_OFF_S
            return
        if self._due_at < self._ends_at:
            self._due_at, self._eager = self._ends_at, True
            await self.push(EagerEndOfTurn(at=self._spoke_until))
            return
        silent = not self._speaking and self._due_at >= self._spoke_until + self._silence_s - 1e-6
        await self._end_turn("silence" if silent else "limit")

    async def _end_turn(self, by: str) -> None:
        """End the turn at `_ends_at` or at the end of the audio, whichever is earlier."""
        place = min(self._ends_at, self._time.end_s)
        speaking, self._speaking = self._speaking, False
        self._open = self._eager = False
        self._due_at, self._ends_at, self._ended_at = math.inf, math.inf, place
        self._words.end(place, by)
        if speaking:
            self._spoke_until = place
            await self.push(SpeechStopped(at=place))
        await self.push(EndOfTurn(at=self._spoke_until, by=by))
        if speaking and by in ("limit", "stall"):
            await self._begin(SpeechStarted(at=place))

    def _left_s(self, idle_s: float) -> float | None:
        if not self._open:
            return None
        silence = idle_s if self._speaking else idle_s + self._time.end_s - self._spoke_until
        needed = self.policy.silence_ms / 1000 if self._speaking else self._silence_s
        return max(STALL_S - idle_s, needed - silence)

    async def _fall_silent(self) -> None:
        if self._open:
            await self._end_turn("silence")
