"""`LLM`: the base of language models. It decides when the agent answers, and keeps the text side of the log."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from ..errors import ConfigurationError, ServiceError
from ..frames import (
    BotText,
    End,
    EndOfTurn,
    Input,
    Interrupted,
    Respond,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    Say,
    ToolCall,
    ToolResult,
    UserImage,
    UserText,
    UserTranscript,
)
from ..processors.base import Processor, handles
from ..processors.engine import EngineConfig, Handover, Owed
from ..session.conversation import Conversation
from .messages import Message, Request, ToolRequest, messages
from .pieces import Pieces, close, fixed, next_piece, without_calls
from .queue import Queue

__all__ = ["LLM", "Message", "Pieces", "Request", "ToolRequest", "messages"]

MAX_CALLS_PER_TURN = 16
"""A model that calls tools without end must answer without them from here on."""


class LLM(Processor):
    """Answers the caller, in text.

    A service implements `generate`. This class writes what the caller said and every tool call with its result into
    the conversation, begins a turn when the caller has finished, and gives one response at a time: text pieces as
    they come, tool calls only when the response stands. When all results of a turn's calls are in, the answer goes
    on, once. A result that comes after its turn was interrupted is answered as soon as nobody speaks.

    `not_understood` is said when the caller spoke and no word was recognised, `failure` when the model fails, or
    gives nothing for `timeout_s`; None says nothing.
    """

    model: str = ""
    timeout_s: float = 20.0
    not_understood: str | None = "Sorry, I did not catch that."
    failure: str | None = "Sorry, something went wrong. Could you say that again?"

    def __init__(self) -> None:
        self.config = EngineConfig()
        """How the agent is set up; a response takes what holds when it begins."""
        self._jobs: Queue | None = None
        self._said: Owed = ""  # what the caller's turn that goes on has brought so far
        self._unanswered: Owed = ""  # what finished turns, and late results of tools, want an answer to
        self._to_continue: set[int] = set()
        self._due: Counter[int] = Counter()  # jobs that wait, by the turn that they belong to
        self._interruptions = 0
        self._leaving = False
        self._kept: list[Input] = []

    def generate(self, request: Request) -> Pieces:
        """Answer: pieces of text as they come, tool requests, and usage if it is known. Cancelled on interruption."""
        raise NotImplementedError

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the service does not take. It takes none by default."""
        if options:
            raise ConfigurationError(f"{self.name} takes no options: {', '.join(sorted(options))}")

    async def open(self) -> None:
        """One worker gives the responses, one after the other. Subclasses call it first."""
        self._jobs = Queue(self, self.session)
        self._leaving = False

    async def close(self) -> None:
        """Nothing is answered any more. Subclasses call it too."""
        if self._jobs is not None:
            self._jobs.close()

    # -- what the caller does --------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Log what was said."""
        if frame.final and frame.text:
            self._log_caller(frame.text, at=frame.start_s, ended_at=frame.end_s)
            self._said = "words"
        elif frame.final and not self._said:
            self._said = "noise"
        await self.push(frame)

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text. The caller's own interrupts the agent, as speech would."""
        floor, by_caller = self.session.floor, frame.author == "caller"
        if by_caller and frame.respond and floor.owner == "agent" and not floor.is_protected(floor.turn):
            self.session.interrupt("typed input")
        self._log_caller(frame.text, author="" if by_caller else frame.author)
        if frame.respond:
            self._unanswered = "words"
            self._queue(frame)
        await self.push(frame)

    @handles(UserImage)
    async def image(self, frame: UserImage) -> None:
        """Log an image; the next answer sees it."""
        source = {"mime": frame.mime, "url": frame.url, "image": frame.image}
        self._log_caller("", name="image", data=source)
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """The caller waits for an answer, if it was more than a backchannel."""
        floor = self.session.floor
        said, self._said = self._said, ""
        dismissed, floor.dismissed = floor.dismissed and floor.owner == "agent", False
        if not dismissed:
            self._unanswered = "words" if "words" in (said, self._unanswered) else said or self._unanswered
        if self._unanswered:
            self._queue(frame)
        await self.push(frame)

    @handles(Say)
    @handles(Say, upstream=True)
    async def say(self, frame: Say) -> None:
        """Say a text as it stands."""
        self._queue(frame)

    @handles(Respond)
    async def respond(self, frame: Respond) -> None:
        """Answer now, whatever the caller does."""
        self._queue(frame)

    @handles(ToolResult, upstream=True)
    async def tool_result(self, frame: ToolResult) -> None:
        """Log a result; the last one of its turn lets the answer go on."""
        self._take_result(frame)

    def _take_result(self, frame: ToolResult) -> None:
        conversation, floor = self.session.conversation, self.session.floor
        answered = next((i for i in conversation if i.kind == "tool_result" and i.call_id == frame.call_id), None)
        if answered is not None and frame.turn <= floor.fence:
            if frame.is_error:
                return  # it was answered as cancelled already
            # It was done all the same.
            conversation.update(answered.id, data=frame.result, text=_as_text(frame.result))
        else:
            conversation.add(
                "tool_result",
                "tool",
                turn=frame.turn,
                call_id=frame.call_id,
                name=frame.name,
                data=frame.result,
                text=_as_text(frame.result),
            )
        if frame.respond and not self.session.draining:
            self._to_continue.add(frame.turn)
        if self._waits_for_tools(frame.turn):
            return
        if frame.turn not in self._to_continue:
            self._settle(frame.turn)
            return
        self._to_continue.discard(frame.turn)
        if frame.turn > floor.fence:
            self._queue(frame)
        else:
            # The turn that asked was interrupted. Whoever speaks now will be answered with the result in view; if
            # nobody does, it is told now.
            self._unanswered = "words"
            if not floor.caller_speaking:
                self._queue(EndOfTurn(at=self.session.now(), by="tool result"))

    @handles(End)
    async def end(self, frame: End) -> None:
        """The call ends once what the agent was asked for has been given."""
        if self._jobs is not None:
            await self._jobs.drain()

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Nothing of the turn goes on by itself, and what was to be said is not."""
        self._interruptions += 1
        self._to_continue = {turn for turn in self._to_continue if turn > signal.turn}

    def _log_caller(self, text: str, **fields: Any) -> None:
        turn = self.session.floor.turn + 1
        self.session.conversation.add("message", "caller", turn=turn, text=text, **fields)

    def _waits_for_tools(self, turn: int) -> bool:
        return any(call.turn == turn for call in self.session.conversation.open_calls())

    def _settle(self, turn: int) -> None:
        """The turn is over, unless something of it is still to come."""
        if not self._due[turn] and not self._waits_for_tools(turn):
            del self._due[turn]
            self.session.floor.finish(turn)

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Give what has been begun, and what is to be said; begin no other answer from now on."""
        self._leaving = True
        if self._jobs is not None:
            await self._jobs.drain()

    def stay(self) -> None:
        """The change does not come about: go on."""
        self._leaving = False
        kept, self._kept = self._kept, []
        for frame in kept:
            self._queue(frame)

    def release(self) -> Handover:
        """Give away what the caller is still owed; nothing of it is given here any more."""
        assert self._jobs is not None
        waiting = [frame for frame in self._jobs.take("up") if isinstance(frame, Input)]
        left = Handover(
            asked=(*self._kept, *waiting),
            said=self._said,
            unanswered=self._unanswered,
            to_continue=frozenset(self._to_continue),
        )
        self._kept.clear()
        self._said = self._unanswered = ""
        self._to_continue.clear()
        self._due.clear()
        return left

    def adopt(self, left: Handover) -> None:
        """Take over what another owed."""
        self._said, self._unanswered = left.said, left.unanswered
        self._to_continue |= left.to_continue
        for frame in left.asked:
            if isinstance(frame, Say):
                self._queue(frame)
        for result in left.results:  # before what the caller asked: whatever answers them answers that too
            self._take_result(result)
        for frame in left.asked:
            if not isinstance(frame, Say):
                self._queue(frame)

    # -- what the agent does ---------------------------------------------------------------------------------------

    def _queue(self, frame: Input) -> None:
        assert self._jobs is not None
        config, turn, before = self.config, _turn_of(frame), self._interruptions
        self._due[turn] += 1

        async def work(frame: Input) -> None:
            self._due[turn] -= 1
            if before == self._interruptions or not _is_void_after_interruption(frame):
                await self._work(frame, config)
            elif turn:
                self._settle(turn)

        self._jobs.put_up(work, frame)

    async def _work(self, frame: Input, config: EngineConfig) -> None:
        """One job of the worker. `config` is that of the moment in which it was asked for."""
        floor, asked_in, turn = self.session.floor, _turn_of(frame), 0
        if self._leaving and not isinstance(frame, Say):
            self._kept.append(frame)
            return
        try:
            if 0 < asked_in <= floor.fence:
                if isinstance(frame, ToolResult):  # interrupted while it waited: the caller's next turn sees the result
                    self._unanswered = "words"
            elif isinstance(frame, Say):
                turn = asked_in if asked_in == floor.turn > 0 else floor.begin(protected=frame.protected)
                await self._respond(turn, config, lambda: fixed(frame.text))
            elif asked_in and asked_in == floor.turn and "words" not in (self._said, self._unanswered):
                turn = asked_in
                await self._answer(turn, "")
            elif isinstance(frame, ToolResult | Respond) or self._unanswered == "words":
                turn = floor.begin()
                await self._answer(turn, frame.instructions if isinstance(frame, Respond) else "")
            elif self._unanswered == "noise":
                turn = await self._not_understood(config)
        except Exception as error:
            self.session.report(error, self.name, frame)
        for each in {asked_in, turn} - {0}:
            self._settle(each)

    async def _not_understood(self, config: EngineConfig) -> int:
        floor, text, turn = self.session.floor, self.not_understood, 0
        self._unanswered = ""
        self.session.conversation.add("note", "caller", turn=floor.turn + 1, text="(not understood)")
        if text and floor.owner == "caller":  # never over its own speech: it was a noise then
            turn = floor.begin()
            await self._respond(turn, config, lambda: fixed(text))
        return turn

    async def _answer(self, turn: int, extra: str) -> None:
        # With what holds now: a hand-off may have come in since this was asked for.
        config, failure = self.config, self.failure
        self._unanswered = ""
        request = Request(
            instructions="\n\n".join(part for part in (config.prompt, extra) if part),
            messages=messages(self.session.conversation, self.session.ledger),
            tools=config.tools,
            options=config.options,
        )
        calls = sum(item.kind == "tool_call" and item.turn == turn for item in self.session.conversation)
        if calls < MAX_CALLS_PER_TURN:
            status = await self._respond(turn, config, lambda: self.generate(request))
        else:
            self.session.report(ServiceError(f"{calls} tool calls in one turn: it goes on without tools"), self.name)
            bare = msgspec.structs.replace(request, tools=())
            status = await self._respond(turn, config, lambda: without_calls(self.generate(bare)))
        if status == "failed" and failure:
            await self._respond(turn, config, lambda: fixed(failure))

    async def _respond(self, turn: int, config: EngineConfig, generate: Callable[[], Pieces]) -> ResponseStatus:
        """One response, bracketed. Cancelled, and ended as interrupted, the moment that its turn is fenced."""
        session = self.session
        if turn <= session.floor.fence:
            return "interrupted"
        response_id = session.ledger.new_id()
        status: ResponseStatus = "interrupted"
        reason = ""
        session.ledger.open(response_id, turn, config.agent)
        with session.floor.scope(turn):
            await self.push(ResponseStarted(turn=turn, response_id=response_id, agent=config.agent, voice=config.voice))
            try:
                calls = await self._stream(turn, response_id, generate())
            except Exception as error:
                status, reason = "failed", str(error) or type(error).__name__
                session.report(ServiceError(f"no answer: {reason}"), self.name)
            else:
                if turn > session.floor.fence:
                    await self._call(turn, response_id, config, calls)
                status = "completed"
        if turn <= session.floor.fence:
            status, reason = "interrupted", ""
        await self.push(ResponseEnded(turn=turn, response_id=response_id, status=status, reason=reason))
        return status

    async def _stream(self, turn: int, response_id: str, pieces: Pieces) -> list[ToolRequest]:
        calls: list[ToolRequest] = []
        try:
            while True:
                piece = await next_piece(pieces, self.timeout_s)
                if piece is None:
                    return calls
                if isinstance(piece, str):
                    self.session.ledger.add_text(response_id, piece)
                    await self.push(BotText(turn=turn, response_id=response_id, text=piece))
                elif isinstance(piece, ToolRequest):
                    calls.append(piece)
                else:
                    self.broadcast(msgspec.structs.replace(piece, turn=turn, response_id=response_id))
        finally:
            await close(pieces)

    async def _call(self, turn: int, response_id: str, config: EngineConfig, requests: list[ToolRequest]) -> None:
        """Log the calls, all before the first is made, so that no result can pass for the last one."""
        conversation = self.session.conversation
        waiting: deque[ToolCall] = deque()
        for request in requests:
            call_id = _unused(request.call_id, conversation)
            conversation.add(
                "tool_call",
                "agent",
                turn=turn,
                agent=config.agent,
                call_id=call_id,
                name=request.name,
                data=request.arguments,
            )
            waiting.append(
                ToolCall(
                    turn=turn, response_id=response_id, call_id=call_id, name=request.name, arguments=request.arguments
                )
            )
        try:
            while waiting and turn > self.session.floor.fence:
                await self.push(waiting[0])
                if turn > self.session.floor.fence:
                    waiting.popleft()
        finally:
            for call in waiting:  # interrupted before it was made, or on its way to whoever makes it
                cancelled = {"error": "cancelled: the caller interrupted"}
                self._take_result(
                    ToolResult(
                        call_id=call.call_id, name=call.name, turn=turn, result=cancelled, is_error=True, respond=False
                    )
                )


def _turn_of(frame: Input) -> int:
    """The turn that a job goes on with, 0 for none."""
    return frame.turn if isinstance(frame, Say | ToolResult) else 0


def _is_void_after_interruption(frame: Input) -> bool:
    """Whether a job is what the agent was about to say, and not what the caller waits for."""
    return isinstance(frame, Respond) or (isinstance(frame, Say) and not frame.protected)


def _unused(call_id: str, conversation: Conversation) -> str:
    """The id of a call, made different if the model gave it to another one before, as some do."""
    taken = {item.call_id for item in conversation if item.kind == "tool_call"}
    numbers = count(len(taken) + 1)
    unused = call_id or f"call_{next(numbers)}"
    while unused in taken:
        unused = f"{call_id or 'call'}_{next(numbers)}"
    return unused


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
