"""A scripted language model behind an HTTP API: its acts, their times, and the tokens that it counts.

Besides `Speak`, `CallTool`, `Wait`, `Fail`, `Close`, `HalfOpen` and `Raw` it has acts of its own:

    [Reject(429, "rate_limit_exceeded", "Slow down.", retry_after_s=2.0)]
    [Think("Is it raining?"), Speak("It rains.")]
    [Speak("As I was"), Stop("length")]
"""

from __future__ import annotations

import asyncio
import math
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...errors import ConfigurationError
from .http import HTTPRequest
from .languages import words_before_space
from .manners import Manners, sleep
from .server import (
    SPEECH_CHARACTERS_PER_S,
    Asked,
    CallTool,
    Close,
    Fail,
    HalfOpen,
    Model,
    Raw,
    Speak,
    Wait,
    scripted,
)
from .spoiled import spoiled

BYTES_PER_TOKEN = 4
"""Bytes that the scripted models count as one token."""
CACHED_FROM = 1024
"""The fewest tokens of a prompt that are cached."""
CACHED_STEP = 128
"""The number of cached tokens is a multiple of this."""
MAX_PROMPTS = 64
"""The latest prompts that the cache remembers."""
_RETRY_AFTER = re.compile(r"again in ([\d.]+)s")


@dataclass(frozen=True, slots=True)
class Think:
    """The model thinks. The wire shows the text, if the vendor shows thoughts."""

    text: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The model refuses, in these words."""

    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The answer ends here, for a reason: at the limit of tokens, or by the provider's filter."""

    reason: Literal["length", "content_filter"] = "length"


@dataclass(frozen=True, slots=True)
class Reject:
    """The request is refused. It must be the first act."""

    status: int
    code: str = ""
    message: str = "The request was refused."
    retry_after_s: float | None = None


TextAct: TypeAlias = Any
"""An act of `server.Act`, or one of this module."""


class Answer(ABC):
    """One answer on a vendor's wire. The subclass writes the vendor's messages."""

    def __init__(self, request: HTTPRequest) -> None:
        self.request = request
        self.begun = False
        self.said = 0
        """Characters of text, thoughts and arguments that were sent."""
        self.thought = 0

    async def message(self, value: dict[str, Any] | str) -> None:
        """Send a message as an event of the stream, which begins with the first one."""
        await self.begin()
        await self.request.send(self.event(value))

    async def begin(self) -> None:
        """Begin the stream."""
        if not self.begun:
            self.begun = True
            await self.request.begin(200, {"Content-Type": "text/event-stream; charset=utf-8"})
            await self.opened()

    @abstractmethod
    def event(self, value: dict[str, Any] | str) -> bytes:
        """Return a message as an event of the stream."""

    async def opened(self) -> None:  # noqa: B027  some wires have none
        """Send the messages with which every stream begins."""

    @abstractmethod
    async def text(self, text: str) -> None:
        """Send a piece of the answer's text."""

    @abstractmethod
    async def think(self, text: str) -> None:
        """Send a thought."""

    @abstractmethod
    async def refuse(self, text: str) -> None:
        """Send a refusal."""

    @abstractmethod
    async def call(self, act: CallTool) -> None:
        """Send a tool call."""

    @abstractmethod
    async def stop(self, reason: str) -> None:
        """End the answer: "stop", "length" or "content_filter"."""

    @abstractmethod
    async def fail(self, code: str, message: str) -> None:
        """Fail in the middle of the stream."""

    @abstractmethod
    async def reject(self, act: Reject) -> None:
        """Refuse the request."""


class PromptCache:
    """Counts tokens, and those of a prompt's beginning that an earlier prompt had as well."""

    def __init__(self) -> None:
        self.prompts: deque[bytes] = deque(maxlen=MAX_PROMPTS)

    def count(self, prompt: bytes) -> tuple[int, int]:
        """Return the tokens of a prompt, and how many of them were cached. The prompt is cached from now on."""
        shared = max((_shared(prompt, earlier) for earlier in self.prompts), default=0) // BYTES_PER_TOKEN
        self.prompts.append(prompt)
        cached = shared // CACHED_STEP * CACHED_STEP
        return math.ceil(len(prompt) / BYTES_PER_TOKEN), cached if cached >= CACHED_FROM else 0


def _shared(one: bytes, other: bytes) -> int:
    """Return the length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class TextModel:
    """Plays the script of a language model.

    The first token comes after `first_token_s`, each further token after `token_s`, and arguments of tools in pieces of
    `arguments_cut` characters.
    """

    def __init__(self, model: Model | Sequence[Sequence[TextAct]], manners: Manners | None = None) -> None:
        self.model: Model = model if callable(model) else scripted(model)
        self.manners = manners
        self.first_token_s = 0.0
        self.token_s = 0.0
        self.arguments_cut = 7
        self.cache = PromptCache()
        self.asked: list[Asked] = []
        """The requests that the script has answered."""
        self._calls = 0

    def call_id(self, act: CallTool) -> str:
        """Return the id of a call."""
        self._calls += 1
        return act.call_id or f"call_{self._calls:024d}"

    async def perform(self, asked: Asked, answer: Answer) -> None:
        """Play the script's answer."""
        self.asked.append(asked)
        acts = list(spoiled(self.manners, "llm", self.model, asked))
        if self.first_token_s:
            await asyncio.sleep(self.first_token_s)
        match acts[:1]:
            case [Reject() as act]:
                await answer.reject(act)
                return
            case [Fail() as act]:
                await answer.reject(_rejection(act))
                return
        tokens = self._tokens(acts)
        async for token in tokens if self.manners is None else self.manners.tokens(tokens):
            if not await self._play(token, answer):
                return
        await answer.begin()
        await answer.stop("stop")
        await answer.request.end()

    async def _tokens(self, acts: Sequence[TextAct]) -> AsyncIterator[Any]:
        """Yield the words of speech as strings, and other acts as they are."""
        said = False
        for act in acts:
            if not isinstance(act, Speak):
                yield act
                continue
            for word in words_before_space(f" {act.text}" if said else act.text) or [act.text]:
                yield word
                pause_s = len(word) / SPEECH_CHARACTERS_PER_S / act.pace if act.pace else self.token_s
                if pause_s:
                    await asyncio.sleep(pause_s)
            said = True

    async def _play(self, act: Any, answer: Answer) -> bool:
        """Play one act. Returns False if nothing comes after it."""
        match act:
            case str():
                answer.said += len(act)
                await answer.text(act)
            case Think():
                answer.thought += len(act.text)
                await answer.think(act.text)
            case Refuse():
                answer.said += len(act.text)
                await answer.refuse(act.text)
            case CallTool():
                await answer.call(act)
            case Wait():
                await sleep(act.seconds)
            case Raw(message=bytes() as data):
                await answer.begin()
                await answer.request.send(data)
            case Raw(message=str() | dict() as message):
                await answer.message(message)
            case Stop():
                await answer.begin()
                await answer.stop(act.reason)
                await answer.request.end()
                return False
            case Fail():
                await answer.fail(act.code, act.message)
                await answer.request.end()
                return False
            case Close():
                await answer.begin()
                answer.request.cut(reset=act.code in (0, 1006))
                return False
            case HalfOpen():
                await answer.begin()
                await sleep(math.inf)
            case _:
                raise ConfigurationError(f"{act!r} cannot be scripted here")
        return True


def _rejection(act: Fail) -> Reject:
    """Return the refusal that stands for a failure before the first token."""
    named = _RETRY_AFTER.search(act.message)
    status = 429 if act.code in ("rate_limit_exceeded", "insufficient_quota") else 500
    return Reject(status, act.code, act.message, float(named[1]) if named else None)
