"""`LLM`: the base of language-model services."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from ..agents.engine import EngineConfig
from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import (
    BotText,
    ClientChanged,
    EndOfTurn,
    Input,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    ToolCall,
    Usage,
    UserTranscript,
)
from ..processors.kernel.groups import leaves
from ..processors.kernel.lane import Overdue, Patience
from ..processors.processor import handles
from .answers import MAX_CALLS_PER_TURN, Answers, refusal, tool_choice_of
from .context import DEFAULT_BUDGET, Budget, Message, Request, ToolRequest, messages
from .sentences import SentenceSplitter
from .thoughts import ModelText, ThoughtsGiven, begins_with_thoughts
from .tts import TTS

__all__ = ["LLM", "Budget", "Message", "Pieces", "Request", "ToolRequest", "messages"]

Pieces = AsyncIterator[str | ToolRequest | Usage]
"""An answer of a model, piece by piece."""


class LLM(Answers):
    """Answers the caller, in text.

    A service implements `generate`. This class logs the caller's words and every tool call with its result, begins a
    turn when the caller has finished, and gives one response at a time: pieces of text as they arrive, tool calls only
    at the end of a response that was not interrupted. When all results of a turn's calls are in, the answer goes on,
    once. A result that arrives after the turn of its call is the last message of the next request, which is made when
    nobody speaks.

    A model's thoughts, as `<think>` marks them, are neither said nor logged. Set `thinks_first` for a model that marks
    only their end: its text is held back until then. With None, models that are known to do so are found by name, and
    others once it has happened: the answer is broken off and asked for again.

    The agent says `not_understood` when no word of the caller's speech was recognised, and `failure` when the model
    fails or gives no output for `timeout_s` seconds. With None it says nothing.
    """

    gives = frozenset({BotText, ToolCall})
    follows = frozenset({UserTranscript})

    model: str = ""
    timeout_s: float = 20.0
    chooses_tools: bool = False
    """True if the service obeys `Request.tool_choice`."""
    budget: Budget = DEFAULT_BUDGET
    """The part of the conversation that each request carries."""
    not_understood: str | None = "Sorry, I did not catch that."
    thinks_first: bool | None = None
    failure: str | None = "Sorry, something went wrong. Could you say that again?"

    def generate(self, request: Request) -> Pieces:
        """Yield pieces of text, tool requests, and usage if it is known. An interruption cancels it."""
        raise NotImplementedError

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the service does not take. By default it takes none."""
        if options:
            raise ConfigurationError(f"{self.name} takes no options: {', '.join(sorted(options))}")

    def __init__(self) -> None:
        super().__init__()
        self._patience: Patience | None = None  # of the answer in progress

    def client_changed(self, signal: ClientChanged) -> None:
        """Cancel the answer in progress once the client has gone."""
        super().client_changed(signal)
        if self._unheard and self._patience is not None:
            self._patience.give_up()

    # -- the caller -------------------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Log the caller's words."""
        if frame.final and frame.text:
            self._log_caller(frame.text, id=frame.utterance, at=frame.start_s, ended_at=frame.end_s)
            self._said = "words"
        elif frame.final and not self._said:
            self._said = "noise"
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Ask for an answer, unless the turn was a backchannel."""
        said, self._said = self._said, ""
        if not self.session.floor.take_dismissed():
            self._unanswered = "words" if "words" in (said, self._unanswered) else said or self._unanswered
        if self._unanswered:
            self.queue(frame)
        await self.push(frame)

    # -- the agent --------------------------------------------------------------------------------------------------

    async def _not_understood(self, config: EngineConfig) -> int:
        floor, text, turn = self.session.floor, self.not_understood, 0
        self._unanswered = ""
        self.session.conversation.add("note", "caller", turn=floor.turn + 1, text="(not understood)")
        if text and floor.owner == "caller":  # while the agent speaks, it was a noise
            turn = floor.begin()
            await self._respond(turn, config, lambda: fixed(text))
        return turn

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        await self._respond(turn, config, lambda: fixed(text))

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        # The present configuration: there may have been a hand-off since the request.
        config, failure, news = self.config, self.failure, self.session.calls.news
        choice = tool_choice_of(asked)
        self._unanswered = ""
        request = Request(
            instructions="\n\n".join(part for part in (config.prompt, extra) if part),
            messages=messages(self.session.conversation, self.session.ledger, budget=self.budget),
            tools=config.tools,
            options=config.options,
            tool_choice=choice if self.chooses_tools and choice != "none" else "",
        )
        self.session.calls.asking()
        calls = self.session.calls.asked_in(turn)
        if calls < MAX_CALLS_PER_TURN and choice != "none":
            status = await self._respond(turn, config, lambda: self.generate(request))
        else:
            if choice != "none":
                error = f"{calls} tool calls in one turn: it goes on without tools"
                self.session.report(ServiceError(error), self.name)
            bare = msgspec.structs.replace(request, tools=())
            status = await self._respond(turn, config, lambda: without_calls(self.generate(bare)))
        if status == "completed":
            self.session.calls.told(news)
        elif status == "failed" and failure:
            await self._respond(turn, config, lambda: fixed(failure))

    async def _respond(self, turn: int, config: EngineConfig, generate: Callable[[], Pieces]) -> ResponseStatus:
        """Give one response between its brackets. The fence cancels it at once; it ends as interrupted then."""
        session = self.session
        if turn <= session.floor.fence:
            return "interrupted"
        response_id = session.ledger.new_id()
        status: ResponseStatus = "interrupted"
        reason = ""
        session.ledger.open(response_id, turn, config.agent, drafted=True)
        with session.floor.scope(turn):
            await self.push(ResponseStarted(turn=turn, response_id=response_id, agent=config.agent, voice=config.voice))
            try:
                calls = await self._stream(turn, response_id, generate())
            except ThoughtsGiven:
                self._answer_without_thoughts(response_id)
            except Exception as error:
                status, reason = "failed", str(error) or type(error).__name__
                session.report(ServiceError(f"no answer: {reason}"), self.name)
            else:
                if turn > session.floor.fence:
                    await self._call(turn, response_id, config, calls)
                status = "completed"
        if turn <= session.floor.fence or self._unheard:
            status, reason = "interrupted", ""
        await self.push(ResponseEnded(turn=turn, response_id=response_id, status=status, reason=reason))
        return status

    def _answer_without_thoughts(self, response_id: str) -> None:
        """Break off a response that has begun with thoughts, and ask for the answer again."""
        self.thinks_first = True
        told = "the model says its thoughts, and marks only their end: from now on its text waits for that"
        self.session.report(ServiceError(told), self.name)
        self.session.ledger.withdraw(response_id)
        self.session.interrupt("thoughts")
        self._unanswered = "words"
        self.queue(EndOfTurn(at=self.session.now(), by="thoughts"))

    async def _stream(self, turn: int, response_id: str, pieces: Pieces) -> list[ToolRequest]:
        calls: list[ToolRequest] = []
        # A TTS calls the hooks for its sentences itself, behind all processors that change the text.
        splitter = SentenceSplitter() if self.session.hooks.has(BotText) and not self._is_spoken() else None
        patience, said = Patience(), self._new_text()
        self._patience = patience
        try:
            while not self._unheard and (piece := await patience.wait(anext(pieces, None), self.timeout_s)) is not None:
                if isinstance(piece, str):
                    await self._give(turn, response_id, said.feed(piece), splitter)
                elif isinstance(piece, ToolRequest):
                    calls.append(piece)
                else:
                    self.broadcast(msgspec.structs.replace(piece, turn=turn, response_id=response_id))
            await self._give(turn, response_id, said.flush(), splitter)
            if splitter is not None:
                await self._push_checked(BotText(turn=turn, response_id=response_id, text=""), [splitter.flush()])
            return calls
        except Overdue:
            if self._unheard:
                return []
            raise DeadlineExceeded(f"the model gave nothing for {self.timeout_s:g} s") from None
        finally:
            patience.end()
            self._patience = None
            await close_pieces(pieces)

    def _new_text(self) -> ModelText:
        first = self.thinks_first
        return ModelText(thinks_first=begins_with_thoughts(self.model) if first is None else first)

    async def _give(self, turn: int, response_id: str, text: str, splitter: SentenceSplitter | None) -> None:
        if not text:
            return
        self.session.ledger.write(response_id, text)
        frame = BotText(turn=turn, response_id=response_id, text=text)
        if splitter is None:
            await self.push(frame)
        else:
            await self._push_checked(frame, splitter.feed(text))

    def _is_spoken(self) -> bool:
        return any(isinstance(leaf, TTS) for leaf in leaves(self.session.pipeline))

    async def _push_checked(self, text: BotText, sentences: list[str]) -> None:
        for sentence in sentences:
            checked = await self.session.hooks.sentence(msgspec.structs.replace(text, text=sentence))
            if checked is not None and checked.text:
                await self.push(checked)

    async def _call(self, turn: int, response_id: str, config: EngineConfig, requests: list[ToolRequest]) -> None:
        """Log the calls, then make them, one after the other."""
        made = self.log_calls(turn, response_id, config.agent, requests)
        waiting = deque(self.allowed(turn, made))
        self.refuse(made[len(waiting) :])
        try:
            while waiting and turn > self.session.floor.fence:
                await self.push(waiting[0])
                if turn > self.session.floor.fence:
                    waiting.popleft()
        finally:
            for call in waiting:  # interrupted before they were made, or on the way to their runner
                self.take_result(refusal(call, "cancelled: the caller interrupted", respond=False))


async def fixed(text: str) -> Pieces:
    """Yield a fixed text as one piece."""
    yield text


async def without_calls(pieces: Pieces) -> Pieces:
    """Yield all pieces except tool requests. Raises ServiceError if there are only tool requests."""
    said = called = False
    try:
        async for piece in pieces:
            if isinstance(piece, ToolRequest):
                called = True
            else:
                said = said or isinstance(piece, str)
                yield piece
        if called and not said:
            raise ServiceError("the model calls tools although it has none")
    finally:
        await close_pieces(pieces)


async def close_pieces(pieces: Pieces) -> None:
    """Close the model's answer, complete or not."""
    end = getattr(pieces, "aclose", None)
    if end is not None:
        await end()
