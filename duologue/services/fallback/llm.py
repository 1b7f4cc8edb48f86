"""`FallbackLLM`: several language models, of which the next one answers if one fails."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from ...errors import ConfigurationError, ServiceError
from ...frames import Usage
from ...frames.scripts import UNSPACED
from ...images.limits import common_limits
from ...processors.kernel.host import Host
from ...processors.kernel.node import Node
from ...processors.kernel.tasks import loop_time
from ..answering import PIECES
from ..context import BYTES_PER_TOKEN, Budget, Message, Request, ToolRequest, estimated_tokens
from ..llm import LLM
from ..remote.llm import RemoteLLM
from ..service import stream_of, wrong_piece
from ..thoughts import ModelText, ThoughtsGiven, begins_with_thoughts
from .attempt import Attempt
from .members import FallbackLimits, Members, Round

CONTINUE = (
    "Your last message was cut off after its last word. Write only what follows it, as if there had been no break: "
    "repeat nothing, and add no introduction. If it is complete, write nothing."
)
"""The instruction for a model that continues the answer of another one."""
LEAST_REPEATED = 3
"""The fewest words of an answer that are dropped because the one before began with them."""
PROBE = Request(instructions="Answer with one word.", messages=(Message(role="user", text="Are you there?"),))
"""The request by which a model is probed."""


class FallbackLLM(LLM):
    """Several language models as one: see `Fallback`."""

    def __init__(self, models: Sequence[LLM], limits: FallbackLimits) -> None:
        self.members = Members(self, "llm", models, limits, self._try_out)
        super().__init__()
        first = models[0]
        self.spending, self.summary, self.eager_starts = first.spending, first.summary, first.eager_starts
        self.failure, self.not_understood = first.failure, first.not_understood
        self.max_answer_s, self.max_answer_characters = first.max_answer_s, first.max_answer_characters
        self.image_rules, self.camera_fps = first.image_rules, first.camera_fps
        self.images = common_limits(model.images for model in models)
        self.chooses_tools = all(model.chooses_tools for model in models)
        self._own_limits = {model: model.limits for model in models if isinstance(model, RemoteLLM)}
        self.timeout_s = limits.first_s * len(models) + max(model.timeout_s for model in models)

    @property
    def name(self) -> str:
        return self.members.name

    @property
    def budget(self) -> Budget:
        """The part of the conversation that all models take."""
        budgets = [model.budget for model in self.members.services]
        return Budget(
            messages=min(budget.messages for budget in budgets),
            tokens=min(budget.tokens for budget in budgets),
            image_bytes=min(budget.image_bytes for budget in budgets),
            images=min(budget.images for budget in budgets),
        )

    @budget.setter
    def budget(self, budget: Budget) -> None:
        for model in self.members.services:
            model.budget = budget

    @property
    def thinks_first(self) -> bool | None:
        """False: the thoughts of each model are taken out of its text here."""
        return False

    @thinks_first.setter
    def thinks_first(self, thinks_first: bool | None) -> None:
        if not thinks_first:
            return
        self.members.active.service.thinks_first = True

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that none of the models takes."""
        for name, value in options.items():
            errors = [error for model in self.members.services if (error := _refusal(model, name, value)) is not None]
            if len(errors) == len(self.members.services):
                raise errors[0]

    def _join(self, host: Host) -> None:
        super()._join(host)
        self.members.join(host)

    def _leave(self) -> None:
        super()._leave()
        self.members.leave()

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        super().check_place(before, after)
        self.members.check_place((*before, *after))

    async def open(self) -> None:
        """Open the models: see `Fallback`."""
        await super().open()
        await self.members.open()

    async def close(self) -> None:
        """Close all models."""
        await super().close()
        await self.members.close()

    # -- an answer -------------------------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the answer of the first model that works; after a failure, what is left of it from the next one.

        Tool requests come last: those of a model that fails are not made. Raises ServiceError or DeadlineExceeded if
        all fail.
        """
        asked, said = self.members.round(), ""
        while (model := await asked.begin()) is not None:
            once_more = True
            while once_more:
                once_more, written, told = False, 0, False
                try:
                    async with aclosing(self._answer_of(model, asked, request, said)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, str):
                                said += piece
                                written += len(piece)
                            told = told or isinstance(piece, Usage)
                            yield piece
                    asked.worked()
                    return
                except ThoughtsGiven:
                    model.thinks_first = True
                    raise
                except Exception as error:
                    if written and not told:
                        yield _estimated(model, request, written)
                    once_more = await asked.wait_for(error)
                    if not once_more:
                        asked.failed(error)
        raise asked.error()

    async def _answer_of(
        self, model: LLM, asked: Round[LLM], request: Request, said: str
    ) -> AsyncGenerator[str | ToolRequest | Usage, None]:
        thinks = model.thinks_first
        text = ModelText(thinks_first=begins_with_thoughts(model.model) if thinks is None else thinks)
        rest, words = Rest(said), WholeWords()
        calls: list[ToolRequest] = []
        begun, since = False, loop_time()
        watched = self._limit(model, asked)
        attempt = Attempt(self, f"{model.name}.generate", self._stream(model, request, said))
        try:
            while True:
                limit_s = math.inf if watched else asked.limit_s(begun, math.inf)
                piece = await attempt.next(max(0.0, since + limit_s - loop_time()))
                if piece is None:
                    break
                if isinstance(piece, Usage):
                    yield piece
                    continue
                if isinstance(piece, ToolRequest):
                    _check_call(piece)
                    calls.append(piece)
                elif isinstance(piece, str):
                    if not piece:
                        continue
                    if told := words.feed(rest.feed(text.feed(piece))):
                        yield told
                else:
                    raise wrong_piece(model, "generate", piece, PIECES)
                begun, since = True, loop_time()
        finally:
            attempt.stop()
        if told := words.feed(rest.feed(text.flush()) + rest.flush()) + words.flush():
            said += told
            yield told
        if not (said.strip() or words.given or calls):
            raise ServiceError("the model gave no words")
        for call in calls:
            yield call

    def _limit(self, model: LLM, asked: Round[LLM]) -> bool:
        """Return True for a model that watches the limits itself, because it sees thoughts and pieces of tool calls."""
        if not isinstance(model, RemoteLLM):
            return False
        own = self._own_limits[model]
        model.limits = msgspec.structs.replace(
            own,
            first_token_s=min(own.first_token_s, asked.limit_s(False, own.first_token_s)),
            stall_s=min(own.stall_s, asked.limit_s(True, own.stall_s)),
        )
        return True

    def _stream(self, model: LLM, request: Request, said: str) -> AsyncIterator[str | ToolRequest | Usage]:
        model.config = self.config
        options = {name: value for name, value in request.options.items() if _refusal(model, name, value) is None}
        wanted = msgspec.structs.replace(request, options=options)
        if not model.chooses_tools:
            tools = () if request.tool_choice == "none" else request.tools
            wanted = msgspec.structs.replace(wanted, tools=tools, tool_choice="")
        if said:
            begun = (Message(role="assistant", text=said), Message(role="system", text=CONTINUE))
            wanted = msgspec.structs.replace(wanted, messages=(*request.messages, *begun))
        return stream_of(model, "generate", model.generate(wanted), PIECES)

    async def _try_out(self, model: LLM) -> None:
        attempt = Attempt(self, f"{model.name}.generate", self._stream(model, PROBE, ""))
        try:
            due = loop_time() + self.members.limits.first_s
            while (piece := await attempt.next(due - loop_time())) is not None:
                if isinstance(piece, str) and piece.strip():
                    return
        finally:
            attempt.stop()
        raise ServiceError("the model gave no words")


def _refusal(model: LLM, name: str, value: Any) -> ConfigurationError | None:
    """Return the error with which a model refuses an option, None if it takes it."""
    try:
        model.check_options({name: value})
    except ConfigurationError as error:
        return error
    return None


def _estimated(model: LLM, request: Request, characters: int) -> Usage:
    """Return the consumption of an answer that has failed after its first words."""
    return Usage(
        service=model.name,
        model=model.model,
        input_tokens=estimated_tokens(request),
        output_tokens=characters // BYTES_PER_TOKEN,
        estimated=True,
    )


def _check_call(call: ToolRequest) -> None:
    if not isinstance(call.arguments, dict):
        kind = type(call.arguments).__name__
        raise ServiceError(f"the model gave arguments for the tool {call.name!r} that are {kind}, not an object")


class WholeWords:
    """Passes on a text in pieces up to its last whole word, so that a break is never inside a word or a number."""

    _OPEN = re.compile(rf"[^\s{UNSPACED}]*(?:[^\W{UNSPACED}]|\d[.,:])\Z")

    def __init__(self) -> None:
        self.given = False
        """True once text was returned that is not only space."""
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece. Returns the whole words."""
        text = self._held + piece
        found = self._OPEN.search(text)
        end = found.start() if found is not None else len(text)
        text, self._held = text[:end], text[end:]
        self.given = self.given or bool(text.strip())
        return text

    def flush(self) -> str:
        """End the text. Returns its last word."""
        rest, self._held = self._held, ""
        self.given = self.given or bool(rest.strip())
        return rest


_STOP_END = re.compile(rf"[^\s\w{UNSPACED}]\Z")
_BEGINS_WORD = re.compile(rf"[^\W{UNSPACED}]")
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


class Rest:
    """Takes the beginning out of a text that repeats the end, or the whole, of what was `said` before it."""

    def __init__(self, said: str) -> None:
        self._said = [_spelling(word[0]) for word in _WORD.finditer(said)]
        self._open = bool(self._said)
        self._ends_in_space = said[-1:].isspace()
        self._ends_in_stop = bool(_STOP_END.search(said))
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece. Returns the text that is certainly new."""
        if not self._open:
            return piece
        self._held += piece
        return "" if self._may_repeat() else self._decide()

    def flush(self) -> str:
        """End the text. Returns the rest of it that is new."""
        return self._decide() if self._open else ""

    def _may_repeat(self) -> bool:
        """Return True if more text is needed: all of it up to now is in what was said, up to its end."""
        words = [_spelling(word[0]) for word in _WORD.finditer(self._held)]
        if not words:
            return True
        *whole, last = words
        said = self._said
        for start in range(len(said)):
            tail = said[start:]
            if len(tail) > len(whole) and tail[: len(whole)] == whole and tail[len(whole)].startswith(last):
                return True
        return False

    def _decide(self) -> str:
        self._open = False
        found = list(_WORD.finditer(self._held))
        words = [_spelling(word[0]) for word in found]
        repeated = next((n for n in range(len(words), 0, -1) if self._said[-n:] == words[:n]), 0)
        if not repeated and len(words) >= LEAST_REPEATED and self._said[: len(words)] == words:
            repeated = len(words)  # it begins again, and ends early
        text = self._held[found[repeated - 1].end() :] if repeated else self._held
        if self._ends_in_space:
            return text.lstrip()
        return f" {text}" if self._ends_in_stop and _BEGINS_WORD.match(text) else text


def _spelling(word: str) -> str:
    """Return what two spellings of a word have in common."""
    return "".join(filter(str.isalnum, word.casefold())) or word
