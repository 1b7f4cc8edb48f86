"""`Frustration`: hears that the caller becomes frustrated, and asks the model to do something about it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ...audio.voice_meter import VoiceMeter
from ...frames import (
    Affect,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Dismissed,
    EndOfTurn,
    Transcribed,
    UserText,
    UserTranscript,
)
from ..processor import Processor, handles
from .acting import Acting, Choose
from .baseline import CallerVoice
from .judge import Judge, voice_evidence
from .policy import FrustrationPolicy
from .wording import CallerWording

AUTHOR = "policy"
"""The author of the requests in the log."""
_PRE_ROLL_S = 0.6  # a detector is sure of speech only some time after its first sound


class Frustration(Processor):
    """Measures the caller's frustration, and asks the model to acknowledge it, to be brief, or to offer a person.

    The evidence is the caller's voice (louder, higher or faster than *their* usual voice, from the third second of
    speech on), their words (they say the same again, that they have said it before, or ask for a person; also typed
    words) and a provider's `Affect`. `FrustrationChanged` says the state and what is done. A state is left at a lower
    level than it is entered, and acts have a pause between them: see `FrustrationPolicy`.

    The model is asked by a text of the author "policy", before it answers the turn that shows the frustration if that
    is known in time, else before its next answer; never while it speaks. Put the processor before an engine, behind
    `Endpointing`; or into `Cascade(…, heard=[Frustration()])`, where the words of a turn count for its own answer.

    `choose(signal)`, a `def` or an `async def`, gets the signal with the proposed acts before they are done, and
    returns those to do, or None for all of them. It may also do something itself, such as a transfer.
    """

    def __init__(self, policy: FrustrationPolicy | None = None, *, choose: Choose | None = None) -> None:
        self.policy = policy or FrustrationPolicy()
        self.judge = Judge()
        """The level of the caller's frustration, its state and its reasons."""
        self._meter, self._voice, self._wording = VoiceMeter(), CallerVoice(), CallerWording()
        self._recent: deque[tuple[bytes, int, float]] = deque()  # audio before the speech, with its time
        self._speaking = False
        self._spoke_from = 0.0
        self._above: dict[str, float] = {}  # of the speech of this turn that is not judged yet
        self._turn_over = True
        self._affects = 0
        self._affect = 0.0  # the mean of the turn
        self._read: deque[str] = deque(maxlen=8)  # utterances whose text came as a frame
        self._acting = Acting(self, self.policy, choose)
        self._stop: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Listen to the caller."""
        self._stop = self.session.audio.said.add(self._hear)

    async def close(self) -> None:
        """Stop listening."""
        self._stop()

    # -- the voice ---------------------------------------------------------------------------------------------------

    def _hear(self, pcm: bytes, sample_rate: int, at: float) -> None:
        if self._speaking:
            self._meter.add(pcm, sample_rate)
            return
        recent = self._recent
        recent.append((pcm, sample_rate, at))
        while recent[0][2] < at - _PRE_ROLL_S:
            recent.popleft()

    @handles(CallerStartedSpeaking)
    def started(self, signal: CallerStartedSpeaking) -> None:
        """Begin to measure a speech."""
        self._begin_turn()
        self._speaking, self._spoke_from = True, signal.at
        self._meter.begin()
        for pcm, sample_rate, at in self._recent:
            if at + len(pcm) / (2 * sample_rate) > signal.at:
                self._meter.add(pcm, sample_rate)
        self._recent.clear()

    @handles(CallerStoppedSpeaking)
    def stopped(self, signal: CallerStoppedSpeaking) -> None:
        """Compare the speech with the caller's usual voice."""
        if self._speaking:
            self._speaking = False
            for name, deviations in self._voice.compare(self._meter.end()).items():
                self._above[name] = max(deviations, self._above.get(name, deviations))
            self._meter.begin()

    @handles(Dismissed)
    def dismissed(self, signal: Dismissed) -> None:
        """Forget a sound that was not the caller's turn."""
        self._above.clear()

    # -- the words and the affect --------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Read the caller's words."""
        if frame.final and frame.text:
            if frame.utterance:
                self._read.append(frame.utterance)
            self._judge(self._wording.read(frame.text, frame.utterance))
        await self.push(frame)

    @handles(Transcribed)
    def transcribed(self, signal: Transcribed) -> None:
        """Read the caller's words if they do not come as a frame: the engine knows them first."""
        if signal.final and signal.text and signal.utterance not in self._read:
            self._judge(self._wording.read(signal.text, signal.utterance))
            self._plan()

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Read typed words."""
        if frame.author == "caller" and frame.text:
            self._begin_turn()
            self._judge(self._wording.read(frame.text))
            self._turn_over = frame.respond
            if frame.respond:
                await self._act()
        await self.push(frame)

    @handles(Affect)
    def affect(self, signal: Affect) -> None:
        """Take what a provider hears in the voice."""
        weights, calm = self.policy.affect, self.policy.affect_calm
        scores = signal.scores.items()
        score = max((weights.get(name.lower(), 0.0) * min(1.0, max(0.0, value)) for name, value in scores), default=0.0)
        self._affects += 1
        self._affect += (score - self._affect) / self._affects
        self._judge({"affect": max(0.0, self._affect - calm) / (1 - calm)})
        if self._is_silent():
            self._plan()

    # -- the level -----------------------------------------------------------------------------------------------------

    def _begin_turn(self) -> None:
        if self._turn_over:
            self._turn_over = False
            self._above.clear()
            self._affects, self._affect = 0, 0.0
            self.judge.begin_turn()

    def _judge(self, parts: dict[str, float]) -> None:
        """Judge the turn with the parts that are new, and with its voice."""
        self.judge.add({**voice_evidence(self._above), **parts})

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Judge the turn, and ask the model before it answers."""
        if self._above:
            self._judge({})
        self._turn_over = True
        await self._act()
        await self.push(frame)

    @handles(BotStartedSpeaking)
    def agent_begins(self, signal: BotStartedSpeaking) -> None:
        """Judge the turn, if an engine has found its end by itself."""
        if self._above and not self._turn_over:
            self._judge({})
        self._turn_over = True

    @handles(BotStoppedSpeaking)
    def agent_stops(self, signal: BotStoppedSpeaking) -> None:
        """Ask the model for what became known too late for this answer."""
        self._plan()

    # -- the acts -----------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Act if something is due, as soon as the agent is silent."""
        if self._acting.is_due(self.judge):
            self.spawn(self._act_between)

    async def _act_between(self) -> None:
        if self._is_silent() and not self.session.draining:
            await self._act()

    def _is_silent(self) -> bool:
        floor = self.session.floor
        return floor.owner != "agent" and not floor.caller_speaking

    async def _act(self) -> None:
        """Tell the state if it has changed, and ask the model for the acts that are due."""
        if self._acting.is_due(self.judge):
            signal = await self._acting.decide(self.judge)
            self.session.broadcast(signal)
            if signal.acts:
                await self.push(UserText(text=self._acting.request(signal), author=AUTHOR, respond=False))
