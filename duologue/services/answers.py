"""`Answers`: decides when a response is due, and logs typed text, images and tool calls; shared by all engines."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from ..agents.engine import EngineConfig, Handover, Pending
from ..errors import BadInput, ToolError
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
    ToolCall,
    ToolResult,
    UserImage,
    UserText,
)
from ..processors.handoff.handoff import first_configuration
from ..processors.kernel.lane import DrainableLane
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import loop_time
from ..processors.processor import Processor, handles
from .contract import check_made, check_opened

IMAGE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
"""The MIME types of images that models take."""
MAX_CALLS_PER_TURN = 16
"""Tool calls of one turn. After that the model must answer without tools."""


class AskedTool(Protocol):
    """A model's request for a tool call, with the model's own id of the call."""

    @property
    def call_id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> dict[str, Any]: ...


class Answers(Processor):
    """Decides when the agent answers, and logs typed text, images, tool calls and their results.

    It does one job at a time: an answer to the caller, a text of the application, an answer with the results of tools.
    When all results of a turn's calls are in, the answer goes on, once. A result that arrives after its turn was
    interrupted is answered as soon as nobody speaks. Subclasses implement `_answer` and `_speak`.
    """

    answer_every_s: float = 0.3
    """The shortest time from one answer to the next, in seconds. The results of tools do not wait for it."""

    is_made = False
    """True once `__init__` has run."""

    def __init__(self) -> None:
        self.is_made = True
        self.config = EngineConfig()
        """The configuration. A response uses the one in force when it begins."""
        self._jobs: DrainableLane | None = None
        self._greeting = ""
        self._said: Pending = ""  # content of the turn in progress
        self._unanswered: Pending = ""  # content of finished turns, and late results of tools
        self._due: Counter[int] = Counter()  # the number of waiting jobs of each turn
        self._interruptions = 0
        self._leaving = False
        self._unheard = False  # the client has gone: nobody can hear an answer
        self._kept: list[Input] = []
        self._answered_at = -math.inf  # loop time at which the latest answer began
        self._texts_wait = False  # a job that answers typed texts has not begun

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

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require that `__init__` has run."""
        check_made(self, Answers)
        super().check_place(before, after)

    def check_opened(self) -> None:
        """Require that `open` has run."""
        check_opened(self, self._jobs is not None)

    async def open(self) -> None:
        """Start the worker that gives one response after the other. Overriding methods call this first."""
        self._jobs = DrainableLane(self)
        self._leaving = self._texts_wait = False
        self._answered_at = -math.inf

    def first_change(self, voices: str) -> Configure | None:
        """Return the change to the session's agent, None without an agent, and keep the agent's greeting for later.

        `voices` is the family of the engine's voices.
        """
        change, self._greeting = first_configuration(self.session, self.config, voices)
        return change

    @handles(SessionStarted)
    async def begin(self, signal: SessionStarted) -> None:
        """Let the session's agent say its greeting."""
        if self._greeting:
            self.queue(Say(text=self._greeting))

    async def close(self) -> None:
        """Stop answering. Overriding methods call this, too."""
        if self._jobs is not None:
            self._jobs.close()

    # -- frames ----------------------------------------------------------------------------------------------------

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text. Text of the caller interrupts the agent, as speech does."""
        floor, by_caller = self.session.floor, frame.author == "caller"
        if by_caller and frame.respond and floor.owner == "agent" and not floor.is_protected(floor.turn):
            self.session.interrupt("typed input")
        self._log_caller(frame.text, id=frame.id, author="" if by_caller else frame.author)
        if frame.respond:
            self._unanswered = "words"
            self.queue(frame)
        await self.push(frame)

    @handles(UserImage)
    async def image(self, frame: UserImage) -> None:
        """Log an image, which the next answer includes. Raises BadInput for a type that models do not take."""
        if not frame.url and frame.mime not in IMAGE_TYPES:
            raise BadInput(f"an image of type {frame.mime!r}: models take {', '.join(sorted(IMAGE_TYPES))}")
        source = {"mime": frame.mime, "url": frame.url, "image": frame.image}
        self._log_caller("", id=frame.id, name="image", data=source)
        await self.push(frame)

    @handles(Say, Respond)
    @handles(Say, upstream=True)
    async def speak(self, frame: Say | Respond) -> None:
        """Say a text word for word, or answer now, even while the caller speaks."""
        self.queue(frame)

    @handles(ToolResult, upstream=True)
    async def tool_result(self, frame: ToolResult) -> None:
        """Log a result. The last one of its turn lets the answer go on."""
        self.take_result(frame)

    def take_result(self, frame: ToolResult) -> None:
        """Log a result of a tool. The last one of its turn lets the answer go on."""
        calls, conversation, floor = self.session.calls, self.session.conversation, self.session.floor
        call, content = calls.get(frame.call_id), {"data": frame.result, "text": as_text(frame.result)}
        if call is not None and call.state in ("late", "cancelled"):
            if frame.is_error and call.state == "cancelled":
                return  # the log says that already
            conversation.update(call.result_id, **content)
            calls.came_late(call.id)
            if frame.respond and floor.fence < frame.turn == floor.turn and calls.waits(frame.turn):
                calls.continue_after(frame.turn)  # with the results of the other calls
            elif frame.respond:
                self._tell_late()
            return
        names = {"call_id": frame.call_id, "name": frame.name}
        conversation.add("tool_result", "tool", turn=frame.turn, **names, **content)
        if not frame.final:
            calls.replaceable(frame.call_id, "late")
        elif frame.turn <= floor.fence or frame.turn < floor.turn:  # the turn of the call is over
            if frame.is_error and not frame.respond:
                calls.replaceable(frame.call_id, "cancelled")
            else:
                calls.came_late(frame.call_id)
        if frame.respond and not self.session.draining:
            calls.continue_after(frame.turn)
        if calls.waits(frame.turn):
            return
        if not calls.take_continuation(frame.turn):
            self.settle(frame.turn)
        elif frame.turn > floor.fence:
            self.queue(frame)
        else:
            self._tell_late()

    def _tell_late(self) -> None:
        # The turn of the call is over. The next answer will include the result. If nobody speaks, it is due now.
        if self.session.draining:
            return
        self._unanswered = "words"
        if not self.session.floor.caller_speaking:
            self.queue(EndOfTurn(at=self.session.now(), by="tool result"))

    @handles(End)
    async def end(self, frame: End) -> None:
        """Let the call end once all requested responses have been given."""
        if self._jobs is not None:
            await self._jobs.drain()

    @handles(ClientChanged)
    def client_changed(self, signal: ClientChanged) -> None:
        """Give no further answers once the client has gone. Tools in progress run on."""
        if signal.state == "gone":
            self._unheard = True

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Drop the jobs of interrupted turns, and the texts that wait to be said."""
        self._interruptions += 1
        self.session.calls.fence(signal.turn)

    def _log_caller(self, text: str, *, id: str = "", **fields: Any) -> None:
        conversation, turn = self.session.conversation, self.session.floor.turn + 1
        if conversation.get(id) is not None:
            id = ""  # a second final text of the utterance: a message of its own
        conversation.add("message", "caller", id=id, turn=turn, text=text, **fields)

    def log_calls(
        self, turn: int, response_id: str, agent: str, asked: Sequence[AskedTool], owner: object = None
    ) -> list[ToolCall]:
        """Log the tool calls of a response, each under a unique id. Returns the calls to make.

        All are logged before the first is made: an early result is not mistaken for the last one. `owner` is the
        connection that receives the results.
        """
        calls, made = self.session.calls, []
        for wanted in asked:
            call_id = calls.new_id(wanted.call_id)
            self.session.conversation.add(
                "tool_call", "agent", turn=turn, agent=agent, call_id=call_id, name=wanted.name, data=wanted.arguments
            )
            calls.assign(call_id, response_id=response_id, owner=owner, provider_id=wanted.call_id)
            made.append(
                ToolCall(
                    turn=turn, response_id=response_id, call_id=call_id, name=wanted.name, arguments=wanted.arguments
                )
            )
        return made

    def allowed(self, turn: int, made: Sequence[ToolCall]) -> Sequence[ToolCall]:
        """Return the calls, just logged, that are within the limit of their turn: the first ones."""
        beyond = self.session.calls.asked_in(turn) - MAX_CALLS_PER_TURN
        return made[: max(0, len(made) - max(0, beyond))]

    def refuse(self, calls: Sequence[ToolCall], *, respond: bool = True) -> None:
        """Answer logged calls that are beyond the limit of their turn with an error, and report that."""
        if not calls:
            return
        asked = self.session.calls.asked_in(calls[0].turn)
        goes_on = "answer without them" if respond else "the answer ends here"
        error = f"{asked} tool calls in one turn: {goes_on}"
        self.session.report(ToolError(error), self.name)
        for call in calls:
            self.take_result(refusal(call, error, respond=respond))

    def begin_turn(self, *, protected: bool = False) -> int:
        """Begin a turn of the agent and return its number. The caller cannot interrupt a protected turn."""
        return self.session.floor.begin(protected=protected)

    def settle(self, turn: int) -> None:
        """End the turn, unless one of its jobs or results is still to come."""
        if not self._due[turn] and not self.session.calls.waits(turn):
            del self._due[turn]
            self.session.floor.finish(turn)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Finish the responses that have begun and the `Say`s that wait, and begin no others."""
        self._leaving = True
        if self._jobs is not None:
            await self._jobs.drain()

    def stay(self) -> None:
        """Go on after `drain`: the change of engines was called off."""
        self._leaving = False
        kept, self._kept = self._kept, []
        for frame in kept:
            self.queue(frame)

    def release(self) -> Handover:
        """Return the owed answers, and give none of them here any more."""
        assert self._jobs is not None
        waiting = [frame for frame in self._jobs.take("up") if isinstance(frame, Input)]
        left = Handover(asked=(*self._kept, *waiting), said=self._said, unanswered=self._unanswered)
        self._kept.clear()
        self._texts_wait = False
        self._said = self._unanswered = ""
        self._due.clear()
        return left

    def adopt(self, left: Handover) -> None:
        """Take over the owed answers of another engine."""
        self._said, self._unanswered = left.said, left.unanswered
        for frame in left.asked:
            if isinstance(frame, Say):
                self.queue(frame)
        for result in left.results:  # first, because their answer also answers the caller
            self.take_result(result)
        for frame in left.asked:
            if not isinstance(frame, Say):
                self.queue(frame)

    # -- one job after the other -------------------------------------------------------------------------------------

    def queue(self, frame: Input) -> None:
        """Queue a job. It is done with the present configuration. Texts that wait already are answered together."""
        assert self._jobs is not None
        if isinstance(frame, UserText):
            if self._texts_wait:
                return
            self._texts_wait = not self._jobs.full
        config, turn, before = self.config, _turn_of(frame), self._interruptions
        self._due[turn] += not self._jobs.full  # a full lane refuses the job

        async def work(frame: Input) -> None:
            self._due[turn] -= 1
            if isinstance(frame, UserText):
                self._texts_wait = False
            if before == self._interruptions or not _is_void_after_interruption(frame):
                await self._work(frame, config)
            elif turn:
                self.settle(turn)

        self._jobs.put_up(work, frame)

    async def _work(self, frame: Input, config: EngineConfig) -> None:
        """Do one job. `config` is the configuration at the time of its request."""
        floor, asked_in, turn = self.session.floor, _turn_of(frame), 0
        if isinstance(frame, Respond) or (self._unanswered == "words" and not isinstance(frame, Say | ToolResult)):
            wait_s = self._answered_at + self.answer_every_s - loop_time()
            if wait_s > 0:  # texts that arrive meanwhile are answered as well
                await asyncio.sleep(wait_s)
            self._answered_at = loop_time()
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
            elif isinstance(frame, Say):
                turn = asked_in if asked_in == floor.turn > 0 else self.begin_turn(protected=frame.protected)
                await self._speak(turn, config, frame.text)
            elif asked_in and asked_in == floor.turn and "words" not in (self._said, self._unanswered):
                turn = asked_in
                await self._answer(turn, "", frame)
            elif isinstance(frame, ToolResult | Respond) or self._unanswered == "words":
                turn = self.begin_turn()
                await self._answer(turn, frame.instructions if isinstance(frame, _WITH_SETTINGS) else "", frame)
            elif self._unanswered in ("noise", "failed"):
                turn = await self._not_understood(config)
        except Exception as error:
            self.session.report(error, self.name, frame)
        for each in {asked_in, turn} - {0}:
            self.settle(each)


_WITH_SETTINGS = (Respond, EndOfTurn)


def tool_choice_of(frame: Input) -> str:
    """Return the choice of tools for the answer to a frame: see `Respond`."""
    return frame.tool_choice if isinstance(frame, _WITH_SETTINGS) else ""


def _turn_of(frame: Input) -> int:
    """Return the turn that a job continues, 0 for a new one."""
    return frame.turn if isinstance(frame, Say | ToolResult) else 0


def _is_void_after_interruption(frame: Input) -> bool:
    """Return True for a job that an interruption cancels, because the caller does not wait for it."""
    return isinstance(frame, Respond) or (isinstance(frame, Say) and not frame.protected)


def as_text(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def refusal(call: ToolCall, error: str, *, respond: bool) -> ToolResult:
    """Return the result of a call that is not made."""
    result = {"error": error}
    return ToolResult(
        call_id=call.call_id, name=call.name, turn=call.turn, result=result, is_error=True, respond=respond
    )
