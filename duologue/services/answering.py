"""`Answering`: one answer of a model, from the request to its last piece. `Spending`: the budget of a call."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec

from ..agents.engine import EngineConfig
from ..agents.tool import Filler
from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import BotText, Frame, Signal, Usage
from ..processors.kernel.groups import leaves
from ..processors.kernel.host import LaneOwner
from ..processors.kernel.lane import Overdue
from ..processors.kernel.tasks import Stopped, Work, close_stream, loop_time
from ..processors.tools.filler import LOOK_S, text_of
from .context import Request, ToolRequest, estimated_tokens
from .sentences import SentenceSplitter
from .service import wrong_piece
from .thoughts import ModelText, ThoughtsGiven, begins_with_thoughts
from .tts import TTS

Pieces = AsyncIterator[str | ToolRequest | Usage]
"""An answer of a model, piece by piece."""
log = logging.getLogger("duologue")
MAX_RETRY_AFTER_S = 10.0
"""The longest `retry_after_s` of an error that is waited for. A caller waits no longer for an answer."""
MAX_CALLS = 64
"""Tool calls of one answer. Further calls are not read."""
PIECES = "str, ToolRequest or Usage"


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call: its requests to the model, and the tokens of these requests and their answers.

    The tokens are those of `Usage`; requests of models that give none are estimated.
    """

    requests: int = 5_000
    tokens: int = 50_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: a call needs at least 1")


DEFAULT_SPENDING = Spending()


class Spent:
    """The requests and tokens that a call has used."""

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self._asked: Asked | None = None

    def ask(self, llm: Model, request: Request) -> None:
        """Count a request. `take` returns its account."""
        asked = self._asked = Asked(llm, request)
        self.requests += 1
        self.tokens += asked.estimated

    def take(self) -> Asked | None:
        """Return the account of the request that was made last, once; None if there is none."""
        asked, self._asked = self._asked, None
        return asked

    def give(self, asked: Asked) -> None:
        """Let the next `take` return this account: another reader goes on with the answer."""
        self._asked = asked

    def beyond(self, limits: Spending) -> bool:
        """Return True if no further request is allowed."""
        return self.requests >= limits.requests or self.tokens >= limits.tokens

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.tokens} tokens"


class Asked:
    """The account of one request to a model. Until the model reports its consumption, it is estimated.

    The model's last report counts; a `Fallback` has one for each model. If there is none, the estimate is reported.
    """

    def __init__(self, llm: Model, request: Request) -> None:
        self.estimated = estimated_tokens(request)
        """Tokens of the request, estimated."""
        self._llm = llm
        self._told: dict[tuple[str, str], Usage] = {}
        self._came = False
        self._running = llm.session.cost.running(llm.name, request.model or llm.model)
        self._running.read(self.estimated)

    def wrote(self, text: str) -> None:
        """Count text that the model has written."""
        self._came = True
        if not self._told:
            self._running.wrote(len(text))

    def again(self) -> None:
        """Forget the text: it is counted again."""
        if not self._told:
            self._running.settle()
            self._running.read(self.estimated)

    def failed(self) -> None:
        """Note that the request has failed. It costs nothing if nothing has come of it."""
        if not (self._came or self._told):
            self._running.settle()

    def told(self, usage: Usage) -> None:
        """Take a report of the model."""
        self._told[usage.service, usage.model] = usage
        self._running.told(self._told.values())

    def close(self, **label: Any) -> None:
        """Broadcast the reports, with the fields of `label`. Closing it twice does nothing."""
        estimate = self._running.estimate()
        reports = [*self._told.values()] or ([estimate] if estimate is not None else [])
        self._told = {}
        self._running.close()
        llm = self._llm
        for usage in reports:
            llm.spent.tokens += usage.input_tokens + usage.output_tokens
            llm.broadcast(msgspec.structs.replace(usage, **label))
        if reports:
            llm.spent.tokens -= self.estimated


class Model(LaneOwner, Protocol):
    """The part of an `LLM` that its answers use."""

    model: str
    timeout_s: float
    max_answer_s: float
    max_answer_characters: int
    thinks_first: bool | None
    spent: Spent
    config: EngineConfig

    @property
    def session(self) -> Any: ...
    def push(self, frame: Frame) -> Awaitable[None]: ...
    def broadcast(self, signal: Signal) -> None: ...


class Answering:
    """Reads one answer of a model, and pushes its text. A text of the application is read like an answer."""

    def __init__(self, llm: Model, turn: int, response_id: str) -> None:
        self.turn = turn
        self.calls: list[ToolRequest] = []
        self.over = False
        """True once the response is complete, or was given up."""
        self.filled = False
        """True once a filler was said."""
        self._llm = llm
        self._session = llm.session
        self._response_id = response_id
        self._work: Work[Any] | None = None
        self._stopped = False
        self._characters = 0
        self._ends_at = math.inf  # loop time

    def stop(self) -> None:
        """Stop it, now."""
        self._stopped = True
        if self._work is not None:
            self._work.stop()

    @property
    def begun(self) -> bool:
        """True once the model has given a word or a call, and after the end of the answer."""
        return bool(self._characters or self.calls or self._stopped or self.over)

    async def fill(self, filler: Filler, after_s: float) -> None:
        """Push the filler once neither side has spoken for `after_s` seconds, unless the model begins before.

        The ledger has it as spoken, and not as written by the model. Without a TTS there is no silence to fill.
        """
        floor, llm, due = self._session.floor, self._llm, loop_time() + after_s
        while (left_s := due - loop_time()) > 0:
            await asyncio.sleep(min(left_s, LOOK_S))
            if self.begun or not self._is_spoken():
                return
            if floor.agent_speaking or floor.caller_speaking:
                due = loop_time() + after_s
        try:
            text = await text_of(filler, llm.name)
        except Exception as error:
            self._session.report(error, llm.name)
            return
        if text and not self.begun and self.turn > floor.fence and not floor.caller_speaking:
            self.filled = True
            await llm.push(BotText(turn=self.turn, response_id=self._response_id, text=f"{text} "))

    def work(self, what: str, limit_s: float = math.inf) -> Work[Any]:
        """Return work for a part of the answer, which `stop` stops as well."""
        work = self._work = Work(self._llm, f"{self._llm.name}.{what}", limit_s)
        if self._stopped:
            work.stop()
        return work

    async def give(self, generate: Callable[[], Pieces], *, again: bool) -> None:
        """Read an answer, and once more if it is empty or fails before its first word, if `again`.

        Raises Stopped after `stop`, and the error of an answer that has failed.
        """
        try:
            await self._read(generate, model=again)
            return
        except (Stopped, ThoughtsGiven):
            raise
        except Exception as error:
            wait_s = self._retry_after(error) if again else None
            if wait_s is None:
                raise
            log.info("session %s: %s is asked once more: %s", self._session.id, self._llm.name, error)
            self.calls.clear()
            if wait_s:
                await self.work("pause").run(asyncio.sleep(wait_s))
            if self._session.floor.caller_speaking:
                raise
        await self._read(generate, model=True)

    def _retry_after(self, error: Exception) -> float | None:
        """Return the seconds after which the answer may be asked for again, None if it may not be."""
        if self._characters or self._session.floor.caller_speaking or getattr(error, "fatal", False):
            return None
        if isinstance(error, ConfigurationError | DeadlineExceeded):
            return None
        wait_s: float = getattr(error, "retry_after_s", None) or 0.0
        return wait_s if wait_s <= MAX_RETRY_AFTER_S else None

    async def _read(self, generate: Callable[[], Pieces], *, model: bool) -> None:
        llm, hooks = self._llm, self._session.hooks
        work = self.work("generate", llm.timeout_s)
        # A TTS calls the hooks for its sentences itself, behind all processors that change the text.
        splitter = SentenceSplitter(llm.config.language) if hooks.has(BotText) and not self._is_spoken() else None
        first = llm.thinks_first
        said = ModelText(thinks_first=begins_with_thoughts(llm.model) if first is None else first)
        self._ends_at = loop_time() + llm.max_answer_s

        pieces = generate()
        asked = llm.spent.take() if model else None

        async def take(piece: object) -> bool:
            if isinstance(piece, str):
                if piece:
                    if asked is not None:
                        asked.wrote(piece)
                    await self._push(said.feed(piece), splitter)
                    work.touch()
            elif isinstance(piece, ToolRequest):
                self._take_call(piece)
                work.touch()
            elif isinstance(piece, Usage):
                if asked is not None:
                    asked.told(piece)
                else:
                    llm.broadcast(msgspec.structs.replace(piece, turn=self.turn, response_id=self._response_id))
            else:
                raise wrong_piece(llm, "generate", piece, PIECES)
            return self._characters > llm.max_answer_characters or work.since > self._ends_at

        try:
            await work.read(pieces, take, lambda: self._finish(said, splitter))
        except Exception as error:
            if asked is not None and not isinstance(error, Stopped):
                asked.failed()
            if isinstance(error, Overdue):
                raise DeadlineExceeded(f"the model gave nothing for {llm.timeout_s:g} s") from None
            raise
        finally:
            if asked is not None:
                asked.close(turn=self.turn, response_id=self._response_id)
        self._report_cut()
        if model and not self._characters and not self.calls:
            raise ServiceError("the model gave no words")

    def _take_call(self, call: ToolRequest) -> None:
        if not isinstance(call.arguments, dict):
            kind = type(call.arguments).__name__
            raise ServiceError(f"the model gave arguments for the tool {call.name!r} that are {kind}, not an object")
        if len(self.calls) < MAX_CALLS:
            self.calls.append(call)

    def _report_cut(self) -> None:
        llm = self._llm
        if self._characters > llm.max_answer_characters:
            limit = f"{llm.max_answer_characters} characters"
        elif loop_time() > self._ends_at:
            limit = f"{llm.max_answer_s:g} s"
        else:
            return
        self._session.report(ServiceError(f"an answer is longer than {limit}: the rest is left out"), llm.name)

    async def _finish(self, said: ModelText, splitter: SentenceSplitter | None) -> None:
        await self._push(said.flush(), splitter)
        if splitter is not None:
            await self._push_checked([splitter.flush()])

    async def _push(self, text: str, splitter: SentenceSplitter | None) -> None:
        if not self._characters:
            text = text.lstrip()
        if not text:
            return
        self._characters += len(text)
        self._written(text)
        if splitter is None:
            await self._say(BotText(turn=self.turn, response_id=self._response_id, text=text))
        else:
            await self._push_checked(splitter.feed(text))

    def _written(self, text: str) -> None:
        self._session.ledger.write(self._response_id, text)

    async def _say(self, frame: BotText) -> None:
        await self._llm.push(frame)

    async def _push_checked(self, sentences: list[str]) -> None:
        for sentence in sentences:
            frame = BotText(turn=self.turn, response_id=self._response_id, text=sentence)
            checked = await self._session.hooks.sentence(frame)
            if checked is not None and checked.text:
                await self._say(checked)

    def _is_spoken(self) -> bool:
        return any(isinstance(leaf, TTS) for leaf in leaves(self._session.pipeline))


class Aside(Answering):
    """An answer beside the call: it is neither spoken nor logged. See `LLM.aside`."""

    def __init__(self, llm: Model, response_id: str, say: Callable[[str], None]) -> None:
        super().__init__(llm, 0, response_id)
        self._give_text = say

    def _written(self, text: str) -> None:
        pass

    async def _say(self, frame: BotText) -> None:
        self._give_text(frame.text)

    def _is_spoken(self) -> bool:
        return False


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
            raise ServiceError("the model calls tools although it may not")
    finally:
        await close_stream(pieces)
