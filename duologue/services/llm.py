"""`LLM`: the base of language models. It decides when the agent answers, and keeps the text side of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import anyio
import msgspec

from ..errors import ConfigurationError, ServiceError
from ..frames import (
    BotText,
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
    Usage,
    UserImage,
    UserText,
    UserTranscript,
)
from ..processors.base import Processor, handles
from ..processors.lane import Lane
from ..processors.tools import ToolSpec
from ..session.conversation import Conversation, Item
from ..session.ledger import Ledger
from .engine import EngineConfig


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A model asks for a tool."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a request. `calls` are the tools an assistant's message asked for, `call_id` what is answered."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolRequest, ...] = ()
    call_id: str = ""
    name: str = ""
    image: bytes = b""
    mime: str = ""
    url: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked: its instructions, the conversation so far, and the tools it may use."""

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class LLM(Processor):
    """Answers the caller, in text.

    A service implements `generate`. This class writes what the caller said and every tool call with its result into
    the conversation, begins a turn when the caller has finished, and gives one response at a time: text pieces as
    they come, tool calls only when the response stands. When all results of a turn's calls are in, the answer goes
    on, once. A result that comes after its turn was interrupted is answered as soon as nobody speaks.

    `not_understood` is said when the caller spoke and no word was recognised, `failure` when the model fails;
    None says nothing.
    """

    model: str = ""
    not_understood: str | None = "Sorry, I did not catch that."
    failure: str | None = "Sorry, something went wrong. Could you say that again?"

    def __init__(self) -> None:
        self.config = EngineConfig()
        """How the agent is set up; a response takes what holds when it begins."""
        self._jobs: Lane | None = None
        self._said: Literal["", "noise", "words"] = ""
        """What the caller's turn that goes on has brought so far."""
        self._unanswered: Literal["", "noise", "words"] = ""
        """What the caller's finished turns, and late tool results, want an answer to."""
        self._to_continue: set[int] = set()
        self._responses = 0

    def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Answer: pieces of text as they come, tool requests, and usage if it is known. Cancelled on interruption."""
        raise NotImplementedError

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the service does not take. It takes none by default."""
        if options:
            raise ConfigurationError(f"{self.name} takes no options: {', '.join(sorted(options))}")

    async def open(self) -> None:
        """One worker gives the responses, one after the other."""
        self._jobs = Lane(self, self.session)

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
        floor = self.session.floor
        if frame.respond and floor.owner == "agent" and not floor.is_protected(floor.turn):
            self.session.interrupt("typed input")
        self._log_caller(frame.text, author="" if frame.author == "caller" else frame.author)
        await self.push(frame)
        if frame.respond:
            self._unanswered = "words"
            await self._queue(frame)

    @handles(UserImage)
    async def image(self, frame: UserImage) -> None:
        """Log an image; the next answer sees it."""
        source = {"mime": frame.mime, "url": frame.url, "image": frame.image}
        self._log_caller("", name="image", data=source)
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """The caller waits for an answer, if it was more than a backchannel."""
        await self.push(frame)
        floor = self.session.floor
        said, self._said = self._said, ""
        dismissed, floor.dismissed = floor.dismissed and floor.owner == "agent", False
        if not dismissed:
            self._unanswered = "words" if "words" in (said, self._unanswered) else said or self._unanswered
        if self._unanswered:
            await self._queue(frame)

    @handles(Say)
    @handles(Say, upstream=True)
    async def say(self, frame: Say) -> None:
        """Say a text as it stands."""
        await self._queue(frame)

    @handles(Respond)
    async def respond(self, frame: Respond) -> None:
        """Answer now, whatever the caller does."""
        await self._queue(frame)

    @handles(ToolResult, upstream=True)
    async def tool_result(self, frame: ToolResult) -> None:
        """Log a result; the last one of its turn lets the answer go on."""
        conversation, floor = self.session.conversation, self.session.floor
        conversation.add(
            "tool_result",
            "tool",
            turn=frame.turn,
            call_id=frame.call_id,
            name=frame.name,
            data=frame.result,
            text=_as_text(frame.result),
        )
        if frame.respond:
            self._to_continue.add(frame.turn)
        if any(call.turn == frame.turn for call in conversation.open_calls()):
            return
        if frame.turn not in self._to_continue:
            floor.finish(frame.turn)
            return
        self._to_continue.discard(frame.turn)
        if frame.turn > floor.fence:
            await self._queue(frame)
        else:
            # The turn that asked was interrupted. Whoever speaks now will be answered with the result in view; if
            # nobody does, it is told now.
            self._unanswered = "words"
            if not floor.caller_speaking:
                await self._queue(EndOfTurn(at=self.session.now(), by="tool result"))

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Nothing of the turn goes on by itself."""
        self._to_continue = {turn for turn in self._to_continue if turn > signal.turn}

    def _log_caller(self, text: str, **fields: Any) -> None:
        turn = self.session.floor.turn + 1
        self.session.conversation.add("message", "caller", turn=turn, text=text, **fields)

    # -- what the agent does ---------------------------------------------------------------------------------------

    async def _queue(self, frame: Input) -> None:
        assert self._jobs is not None
        config = self.config
        await self._jobs.put_up(lambda job: self._work(job, config), frame)

    async def _work(self, frame: Input, config: EngineConfig) -> None:
        """One job of the worker. `config` is that of the moment in which it was asked for."""
        floor = self.session.floor
        if isinstance(frame, Say):
            turn = frame.turn or floor.begin(protected=frame.protected)
            await self._respond(turn, config, _fixed(frame.text))
            if not frame.turn:
                floor.finish(turn)
            return
        if isinstance(frame, ToolResult):
            turn = frame.turn
            if turn <= floor.fence:
                self._unanswered = "words"  # interrupted while it waited: the caller's next turn sees the result
                return
        elif isinstance(frame, Respond):
            turn, self._unanswered = floor.begin(), ""
        elif self._unanswered:
            unanswered, self._unanswered = self._unanswered, ""
            if unanswered == "noise":
                await self._not_understood(config)
                return
            turn = floor.begin()
        else:
            return
        extra = frame.instructions if isinstance(frame, Respond) else ""
        # A continuation speaks with what holds now: a hand-off may have come in between.
        await self._answer(turn, self.config, extra)
        if not any(call.turn == turn for call in self.session.conversation.open_calls()):
            floor.finish(turn)

    async def _not_understood(self, config: EngineConfig) -> None:
        floor = self.session.floor
        self.session.conversation.add("note", "caller", turn=floor.turn + 1, text="(not understood)")
        if self.not_understood and floor.owner == "caller":  # never over its own speech: it was a noise then
            turn = floor.begin()
            await self._respond(turn, config, _fixed(self.not_understood))
            floor.finish(turn)

    async def _answer(self, turn: int, config: EngineConfig, extra: str) -> None:
        instructions = f"{config.instructions}\n\n{extra}" if extra else config.instructions
        request = Request(
            instructions=instructions,
            messages=messages(self.session.conversation, self.session.ledger),
            tools=config.tools,
            options=config.options,
        )
        status = await self._respond(turn, config, self.generate(request))
        if status == "failed" and self.failure and turn > self.session.floor.fence:
            await self._respond(turn, config, _fixed(self.failure))

    async def _respond(
        self, turn: int, config: EngineConfig, pieces: AsyncIterator[str | ToolRequest | Usage]
    ) -> ResponseStatus:
        """One response, bracketed. Cancelled, and ended as interrupted, the moment that its turn is fenced."""
        session = self.session
        self._responses += 1
        response_id = f"resp_{self._responses}"
        status: ResponseStatus = "interrupted"
        reason = ""
        session.ledger.open(response_id, turn, config.agent)
        with session.floor.scope(turn):
            await self.push(ResponseStarted(turn=turn, response_id=response_id, agent=config.agent, voice=config.voice))
            try:
                calls = await self._stream(turn, response_id, pieces)
            except Exception as error:
                status, reason = "failed", str(error)
                session.report(ServiceError(f"no answer: {error}"), self.name)
            else:
                for call in calls:
                    self._log_call(turn, config, call)
                for call in calls:
                    await self.push(
                        ToolCall(
                            turn=turn,
                            response_id=response_id,
                            call_id=call.call_id,
                            name=call.name,
                            arguments=call.arguments,
                        )
                    )
                status = "completed"
        with anyio.CancelScope(shield=True):
            await self.push(ResponseEnded(turn=turn, response_id=response_id, status=status, reason=reason))
        return status

    async def _stream(
        self, turn: int, response_id: str, pieces: AsyncIterator[str | ToolRequest | Usage]
    ) -> list[ToolRequest]:
        calls: list[ToolRequest] = []
        try:
            async for piece in pieces:
                if isinstance(piece, str):
                    self.session.ledger.add_text(response_id, piece)
                    await self.push(BotText(turn=turn, response_id=response_id, text=piece))
                elif isinstance(piece, ToolRequest):
                    calls.append(piece)
                else:
                    self.broadcast(msgspec.structs.replace(piece, turn=turn, response_id=response_id))
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        return calls

    def _log_call(self, turn: int, config: EngineConfig, call: ToolRequest) -> None:
        self.session.conversation.add(
            "tool_call",
            "agent",
            turn=turn,
            agent=config.agent,
            call_id=call.call_id,
            name=call.name,
            data=call.arguments,
        )


async def _fixed(text: str) -> AsyncIterator[str | ToolRequest | Usage]:
    yield text


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def messages(conversation: Conversation, ledger: Ledger) -> tuple[Message, ...]:
    """The conversation as a language model takes it.

    What an agent says counts as heard, except for a response that is still being said: that counts as it was
    generated, and is corrected if the caller cuts it. A tool call that has no result yet is answered "pending", for
    every call must have its result.
    """
    results = {item.call_id: item for item in conversation if item.kind == "tool_result"}
    out: list[Message] = []
    asked: list[Item] = []
    for item in conversation:
        if item.kind == "tool_call":
            asked.append(item)
            continue
        _add_calls(out, asked, results)
        if item.kind in ("handoff", "note"):
            out.append(Message(role="system", text=item.text))
        elif item.role == "agent":
            if text := item.text or ledger.text_of(item.id):
                out.append(Message(role="assistant", text=text))
        elif item.role == "caller":
            out.append(_from_caller(item))
    _add_calls(out, asked, results)
    return tuple(out)


def _add_calls(out: list[Message], asked: list[Item], results: dict[str, Item]) -> None:
    """The calls of one response, with what was said before them, and then their results."""
    if not asked:
        return
    calls = tuple(ToolRequest(call_id=item.call_id, name=item.name, arguments=item.data) for item in asked)
    if out and out[-1].role == "assistant" and not out[-1].calls:
        out[-1] = msgspec.structs.replace(out[-1], calls=calls)
    else:
        out.append(Message(role="assistant", calls=calls))
    for item in asked:
        result = results.get(item.call_id)
        text = result.text if result is not None else '{"status": "pending"}'
        out.append(Message(role="tool", text=text, call_id=item.call_id, name=item.name))
    asked.clear()


def _from_caller(item: Item) -> Message:
    if item.name == "image":
        return Message(role="user", mime=item.data["mime"], url=item.data["url"], image=item.data["image"])
    return Message(role="user", text=f"[{item.author}] {item.text}" if item.author else item.text)
