"""`Answers`: decides when a response is due, and logs typed text, images and tool calls; shared by all engines."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Any

from ..agents.engine import EngineConfig, Handover, Pending
from ..frames import (
    ClientChanged,
    Configure,
    End,
    EndOfTurn,
    Input,
    Interrupted,
    Respond,
    Say,
    SessionStarted,
    ToolResult,
    UserImage,
    UserText,
)
from ..images.limits import DEFAULT_IMAGES, DEFAULT_RULES, ImageLimits, ImageRules
from ..processors.handoff.handoff import first_configuration
from ..processors.kernel.tasks import loop_time
from ..processors.processor import handles
from ..session.resuming import goes_on
from ..session.session import Session
from .answer_queue import AnswerQueue, turn_of
from .pictures import Pictures
from .service import Service
from .tool_log import log_result

LATE = "tool result"
"""The origin of an end of turn that asks for the answer to a late result."""


class Answers(Service):
    """Decides when the agent answers, and logs typed text, images, tool calls and their results.

    It does one job at a time: an answer to the caller, a text of the application, an answer with the results of tools.
    When all results of a turn's calls are in, the answer goes on, once. A result that arrives after its turn was
    interrupted is answered as soon as nobody speaks. Subclasses implement `_answer` and `_speak`.
    """

    answer_every_s: float = 0.3
    """The shortest time from one answer to the next, in seconds. The results of tools do not wait for it."""
    image_rules: ImageRules = DEFAULT_RULES
    """The limits of the caller's images, and the addresses from which they are fetched."""
    camera_fps: float = 1.0
    """Frames a second of a camera or screen that are looked at. Only the newest one is kept until then."""

    def __init__(self) -> None:
        super().__init__()
        self.config = EngineConfig()
        """The configuration. A response uses the one in force when it begins."""
        self._jobs, self._pictures = AnswerQueue(self), Pictures(self)
        self._greeting = ""
        self._said: Pending = ""  # content of the turn in progress
        self._unanswered: Pending = ""  # content of finished turns, and late results of tools
        self._leaving = self._unheard = False  # unheard: the client has gone, and nobody can hear an answer
        self._kept: list[Input] = []
        self._answered_at = -math.inf  # loop time at which the latest answer began

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        """Answer `asked` in this turn, with `extra` instructions for this answer, and with its choice of tools."""
        raise NotImplementedError

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        """Say a text word for word in this turn."""
        raise NotImplementedError

    async def _not_understood(self, config: EngineConfig) -> int:
        """Answer speech without words, or speech that no service could transcribe.

        Returns the turn of the answer, 0 for none.
        """
        raise NotImplementedError

    async def open(self) -> None:
        """Start the worker that gives one response after the other. Overriding methods call this first."""
        await super().open()
        self._pictures.check()
        self._jobs.open()
        self._leaving, self._answered_at = False, -math.inf

    async def first_change(self, voices: str) -> Configure | None:
        """Return the change to the session's agent, None without an agent, and keep the agent's greeting for later.

        `voices` is the family of the engine's voices.
        """
        change, self._greeting = await first_configuration(self.session, self.config, voices)
        return change

    async def fresh_config(self) -> EngineConfig:
        """Return the configuration, with the active agent's instructions as they are now: see `Prompts.fresh`."""
        if self.session.agent is not None and self.session.agent.varies:
            fresh = await self.session.prompts.fresh(before := self.config)
            if self.config is before:  # it has not been changed meanwhile
                self.config = fresh
        return self.config

    @handles(SessionStarted)
    async def begin(self, signal: SessionStarted) -> None:
        """Let the session's agent say its greeting."""
        if self._greeting and not goes_on(self.session.resumed):
            self.queue(Say(text=self.session.prompts.fill(self._greeting)))

    async def close(self) -> None:
        """Stop answering. Overriding methods call this, too."""
        self._jobs.close()

    # -- frames ----------------------------------------------------------------------------------------------------

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text. Text of the caller interrupts the agent, as speech does."""
        floor, by_caller = self.session.floor, frame.author == "caller"
        if by_caller and frame.respond and floor.owner == "agent" and not floor.is_protected(floor.turn):
            self.session.interrupt("typed input")
        if by_caller:
            self.look()
        log_caller(self.session, frame.text, id=frame.id, author="" if by_caller else frame.author)
        if frame.respond:
            self._unanswered = "words"
            self.queue(frame)
        await self.push(frame)

    @handles(UserImage)
    @handles(UserImage, upstream=True)
    async def image(self, frame: UserImage) -> None:
        """Log an image, make it ready, and let the next answers see it. Raises BadInput for one that is refused."""
        self._pictures.take(frame)
        await self.push(frame)

    @property
    def image_limits(self) -> ImageLimits | None:
        """The images that the model takes, None if it takes none."""
        return DEFAULT_IMAGES

    def seen(self, frame: UserImage) -> None:
        """Take an image that is ready and in the log."""

    def watched(self, frame: UserImage) -> None:
        """Take the next frame of the caller's camera or screen, at most `camera_fps` a second."""

    def look(self) -> None:
        """Log the newest frame of the caller's camera or screen, which belongs to what they say in this turn."""
        self._pictures.show()

    @handles(Say, Respond)
    @handles(Say, upstream=True)
    async def speak(self, frame: Say | Respond) -> None:
        """Say a text word for word, or answer now, even while the caller speaks."""
        if isinstance(frame, Respond):
            self.look()
        self.queue(frame)

    @handles(ToolResult, upstream=True)
    async def tool_result(self, frame: ToolResult) -> None:
        """Log a result. The last one of its turn lets the answer go on."""
        self.take_result(frame)

    def take_result(self, frame: ToolResult) -> None:
        """Log a result of a tool. The last one of its turn lets the answer go on."""
        due = log_result(self.session, frame)
        if due == "answer":
            self.queue(frame)
        elif due == "end":
            self.settle(frame.turn)
        elif due == "late" and not self.session.draining:
            # The turn of the call is over. The next answer includes the result. If nobody speaks, it is due now.
            self._unanswered = "words"
            if not self.session.floor.caller_speaking:
                self.queue(EndOfTurn(at=self.session.now(), by=LATE))

    @handles(End)
    async def end(self, frame: End) -> None:
        """Let the call end once all requested responses have been given."""
        await self._jobs.drain()

    @handles(ClientChanged)
    def client_changed(self, signal: ClientChanged) -> None:
        """Give no further answers once the client has gone. Tools in progress run on."""
        self._unheard = self._unheard or signal.state == "gone"

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Drop the jobs of interrupted turns, and the texts that wait to be said."""
        self._jobs.interrupt()
        self.session.calls.fence(signal.turn)

    def begin_turn(self, *, protected: bool = False) -> int:
        """Begin a turn of the agent and return its number. The caller cannot interrupt a protected turn."""
        return self.session.floor.begin(protected=protected)

    def settle(self, turn: int) -> None:
        """End the turn, unless one of its jobs or results is still to come."""
        self._jobs.settle(turn)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Finish the responses that have begun and the `Say`s that wait, and begin no others."""
        self._leaving = True
        await self._jobs.drain()

    def stay(self) -> None:
        """Go on after `drain`: the change of engines was called off."""
        self._leaving = False
        kept, self._kept = self._kept, []
        for frame in kept:
            self.queue(frame)

    def release(self) -> Handover:
        """Return the owed answers, and give none of them here any more."""
        asked, images = (*self._kept, *self._jobs.release()), self._pictures.release()
        left = Handover(asked=asked, said=self._said, unanswered=self._unanswered, images=images)
        self._kept.clear()
        self._said = self._unanswered = ""
        return left

    def adopt(self, left: Handover) -> None:
        """Take over the owed answers of another engine."""
        self._said, self._unanswered = left.said, left.unanswered
        self._pictures.adopt(left.images)
        for frame in left.asked:
            if isinstance(frame, Say):
                self.queue(frame)
        for result in left.results:  # first, because their answer also answers the caller
            self.take_result(result)
        for frame in left.asked:
            if not isinstance(frame, Say):
                self.queue(frame)

    def queue(self, frame: Input) -> None:
        """Queue a job. It is done with the present configuration. Texts that wait already are answered together."""
        self._jobs.put(frame, partial(self._work, config=self.config))

    async def _work(self, frame: Input, config: EngineConfig) -> None:
        """Do one job. `config` is the configuration at the time of its request."""
        floor, asked_in, turn = self.session.floor, turn_of(frame), 0
        if isinstance(frame, Respond) or (self._unanswered == "words" and not isinstance(frame, Say | ToolResult)):
            wait_s = self._answered_at + self.answer_every_s - loop_time()
            if wait_s > 0:  # texts that arrive meanwhile are answered as well
                await asyncio.sleep(wait_s)
            self._answered_at = loop_time()
        if not isinstance(frame, Say | ToolResult):
            await self._pictures.ready()
            if self._unanswered == "words" or isinstance(frame, Respond):
                self.look()
        if self._leaving and not isinstance(frame, Say):
            self._kept.append(frame)
            return
        if self._unheard:
            self.settle(asked_in)
            return
        try:
            if 0 < asked_in <= floor.fence:
                if isinstance(frame, ToolResult):  # interrupted while it waited: the next answer includes the result
                    self._unanswered = "words"
            elif self._is_included(frame) or _is_idle_filler(self.session, frame):
                pass
            elif isinstance(frame, Say):
                turn = asked_in if asked_in == floor.turn > 0 else self.begin_turn(protected=frame.protected)
                await self._speak(turn, config, frame.text)
            elif asked_in == floor.turn > 0 and "words" not in (self._said, self._unanswered):
                await self._answer_all(turn := asked_in, frame)
            elif isinstance(frame, ToolResult | Respond) or self._unanswered == "words":
                await self._answer_all(turn := self.begin_turn(), frame)
            elif self._unanswered in ("noise", "failed"):
                turn = await self._not_understood(config)
        except Exception as error:
            self.session.report(error, self.name, frame)
        for each in {asked_in, turn} - {0}:
            self.settle(each)

    async def _answer_all(self, turn: int, frame: Input) -> None:
        """Answer, and note the results that wait for an answer of their own: this one includes them."""
        results, kept = self._jobs.results, len(self._kept)
        await self._answer(turn, extra_of(frame), frame)
        if len(self._kept) == kept and turn > self.session.floor.fence:
            self._jobs.included(results)

    def _is_included(self, frame: Input) -> bool:
        """Return True for a result that another answer has included."""
        return self._jobs.has_included(frame)


def _is_idle_filler(session: Session, frame: Input) -> bool:
    """Return True for a text that fills the time until a result for which the caller does not wait any more."""
    if not (isinstance(frame, Say) and frame.call_id):
        return False
    call = session.calls.get(frame.call_id)
    return call is None or not call.open or frame.turn != session.floor.turn


_WITH_SETTINGS = (Respond, EndOfTurn)


def extra_of(frame: Input) -> str:
    """Return the instructions for the answer to a frame alone: see `Respond`."""
    return frame.instructions if isinstance(frame, _WITH_SETTINGS) else ""


def tool_choice_of(frame: Input) -> str:
    """Return the choice of tools for the answer to a frame: see `Respond`."""
    return frame.tool_choice if isinstance(frame, _WITH_SETTINGS) else ""


def log_caller(session: Session, text: str, *, id: str = "", **fields: Any) -> None:
    """Log a message of the caller."""
    conversation, turn = session.conversation, session.floor.turn + 1
    if conversation.get(id) is not None:
        id = ""  # a second final text of the utterance: a message of its own
    conversation.add("message", "caller", id=id, turn=turn, text=text, **fields)
