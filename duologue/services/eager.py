"""`Eager`: an answer that begins before the caller's turn has certainly ended, and is kept back until it has."""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, Self

import msgspec

from ..agents.engine import EngineConfig
from ..errors import DeadlineExceeded
from ..frames import BotText, EagerEndOfTurn, Frame, Usage, UserTranscript
from ..processors.kernel.handlers import find_handler
from ..processors.kernel.lane import Overdue
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Stopped, Wake, Work, loop_time
from ..session.item import Item
from .ahead import Prepare
from .answering import MAX_CALLS, Asked, Model, Pieces
from .context import Message, Request, ToolRequest
from .sentences import SentenceSplitter
from .thoughts import ModelText, ThoughtsGiven, begins_with_thoughts
from .tts import TTS

log = logging.getLogger("duologue")

KEEP_S = 20.0
"""Seconds that an answer is kept for a turn that neither ends nor goes on."""
_MEANT = frozenset("%&#@*/\\")  # punctuation that is said
_HYPHENS = "Pd"


class Guesser(Model, Protocol):
    """The part of an `LLM` that its prepared answers use."""

    eager_starts: int

    def ask(self, request: Request) -> Pieces: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...
    def push(self, frame: Frame) -> Awaitable[None]: ...


class Eager:
    """The prepared answers of an `LLM`. At most one is in progress.

    Nothing of it leaves this object before `take`, except its first sentence, which the text-to-speech prepares and
    keeps. It is thrown away when the caller goes on, the agent is interrupted, the configuration or the log changes, or
    the request for the answer to the turn is another one, apart from the case, punctuation and spaces of the words.
    """

    def __init__(self, llm: Guesser) -> None:
        self._llm = llm
        self._guess: Guess | None = None
        self._starts = 0  # in the caller's turn
        self._number = 0
        self._may_hear = self._may_speak = True
        self._forget: Callable[[], None] = lambda: None

    def place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Learn the processors between the speech-to-text and the text-to-speech.

        Nothing is prepared if one may change the caller's words, unless it handles `EagerEndOfTurn` too. No sentence
        is prepared if one may change the agent's text.
        """
        given = max((place for place, node in enumerate(before) if UserTranscript in node.gives), default=-1)
        self._may_hear = all(
            not _may_change(node, UserTranscript) or _may_change(node, EagerEndOfTurn) for node in before[given + 1 :]
        )
        spoken = next((place for place, node in enumerate(after) if isinstance(node, TTS)), None)
        self._may_speak = spoken is not None and not any(_may_change(node, BotText) for node in after[:spoken])

    def begin(self, text: str, config: EngineConfig, request: Callable[[], Request]) -> None:
        """Prepare the answer to `text`, unless it is in progress already or the turn has had its `eager_starts`."""
        llm, words = self._llm, plain_words(text)
        if self._guess is not None and self._guess.words == words and self._guess.config == config:
            return
        self.discard("other words")
        if not words or self._starts >= llm.eager_starts or not self._may_hear or llm.session.floor.owner == "agent":
            return
        self._starts += 1
        self._number += 1
        speaks = self._may_speak and not llm.session.hooks.has(BotText)
        self._guess = guess = Guess(llm, self._number, words, config, request(), speaks=speaks)
        stop_listening = llm.session.conversation.listen(self._item_changed, lambda item: self.discard("a shorter log"))
        timer = asyncio.get_running_loop().call_later(KEEP_S, self.discard, "the turn does not end")

        def forget() -> None:
            stop_listening()
            timer.cancel()

        self._forget = forget
        llm.spawn(guess.read)

    def _item_changed(self, item: Item) -> None:
        is_said = item.role == "caller" and item.kind == "message" and not item.author
        if self._guess is None or not is_said or plain_words(item.text) != self._guess.words:
            self.discard("the log has changed")

    def take(self, request: Request | None, config: EngineConfig) -> Guess | None:
        """Return the prepared answer if it is the one to this request, and throw any other away."""
        guess = self._guess
        if guess is None:
            return None
        if request is None or guess.failed or guess.config != config or not _alike(guess.request, request):
            self.discard("another request")
            return None
        self._guess = None
        self._forget()
        guess.taken = True
        return guess

    def turn_ended(self) -> None:
        """Note the end of the caller's turn: the next one has its own `eager_starts`."""
        self._starts = 0

    def discard(self, why: str) -> None:
        """Throw the prepared answer away, if there is one: its request is closed, its sentence is not spoken."""
        guess, self._guess = self._guess, None
        if guess is not None:
            log.info("session %s: a prepared answer is thrown away: %s", self._llm.session.id, why)
            self._forget()
            guess.discard()


class Guess:
    """An answer to words that the caller has said, perhaps not to the end. Kept until it is taken or discarded.

    `with guess:` closes its request at the end of the block.
    """

    def __init__(
        self, llm: Guesser, number: int, words: str, config: EngineConfig, request: Request, *, speaks: bool
    ) -> None:
        self.words, self.config, self.request = words, config, request
        self.taken = False
        """True once it is the answer to the caller's turn."""
        self._llm = llm
        self._number = number
        self._work: Work[None] = Work(llm, f"{llm.name}.eager", llm.timeout_s)
        self._pieces: deque[str | ToolRequest | Usage] = deque()
        self._news = Wake()
        self._given = self._done = self._asked_to_speak = False
        self._error: Exception | None = None
        self._asked: Asked | None = None  # the account of the request
        self._characters = self._calls = 0
        self._ends_at = loop_time() + llm.max_answer_s
        first = llm.thinks_first
        self._text = ModelText(thinks_first=begins_with_thoughts(llm.model) if first is None else first)
        self._splitter = SentenceSplitter(config.language) if speaks else None
        self._begun = False  # its text has begun

    @property
    def failed(self) -> bool:
        """True if the answer has failed: it is asked for anew."""
        return self._error is not None

    async def read(self) -> None:
        """Read the answer to its end, or until it is stopped."""
        try:
            pieces = self._llm.ask(self.request)
            self._asked = self._llm.spent.take()
            await self._work.read(pieces, self._take, self._finish)
        except Stopped:
            pass
        except Overdue:
            self._error = DeadlineExceeded(f"the model gave nothing for {self._llm.timeout_s:g} s")
        except Exception as error:
            self._error = error
            log.info("session %s: no answer in advance: %s", self._llm.session.id, error)
            if self._asked is not None:
                self._asked.failed()
        finally:
            if self._given and self._asked is not None:
                self._asked.close()
            self._done = True
            self._news.wake()

    async def _take(self, piece: Any) -> bool:
        if isinstance(piece, Usage):
            if self._asked is not None:
                self._asked.told(piece)
                return False
        elif piece != "":
            self._work.touch()
        if isinstance(piece, str):
            self._characters += len(piece)
            if self._asked is not None:
                self._asked.wrote(piece)
        elif isinstance(piece, ToolRequest):
            self._calls += 1
        if piece != "" and self._calls <= MAX_CALLS:
            self._pieces.append(piece)
            self._news.wake()
        if isinstance(piece, str):
            await self._prepare(piece)
        return self._characters > self._llm.max_answer_characters or loop_time() > self._ends_at

    async def _finish(self) -> None:
        await self._prepare(None)

    async def _prepare(self, piece: str | None) -> None:
        """Let the text-to-speech prepare the first sentence, once its end is known. None is the end of the text."""
        splitter = self._splitter
        if splitter is None:
            return
        try:
            text = self._text.flush() if piece is None else self._text.feed(piece)
        except ThoughtsGiven:
            self._splitter = None
            return
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        sentences = splitter.feed(text) if text else []
        if piece is None and not sentences:
            sentences = [splitter.flush()]
        if sentences and sentences[0] and not self.taken:
            self._splitter = None
            self._asked_to_speak = True
            config = self.config
            await self._llm.push(
                Prepare(number=self._number, text=sentences[0], voice=config.voice, language=config.language)
            )

    def pieces(self) -> Pieces | None:
        """Return the answer: what has come of it, then the rest as it comes. None if that was returned before."""
        if self._given:
            return None
        self._given = True
        if self._asked is not None:
            asked, self._asked = self._asked, None
            asked.again()
            self._llm.spent.give(asked)
        return self._rest()

    async def _rest(self) -> Pieces:
        try:
            while True:
                while self._pieces:
                    yield self._pieces.popleft()
                if self._done:
                    break
                await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop reading, and close the request."""
        self._work.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def discard(self) -> None:
        """Stop reading, drop the prepared sentence, and tell the consumption."""
        self.stop()
        llm = self._llm
        if self._asked_to_speak:
            llm.spawn(self._take_back)
        if self._asked is not None:
            self._asked.close(discarded=True)

    async def _take_back(self) -> None:
        await self._llm.push(Prepare(number=self._number))


def plain_words(text: str) -> str:
    """Return a text without case, punctuation and surplus spaces. Marks within numbers stay: 3.5 is not 35."""
    text = unicodedata.normalize("NFKC", text).casefold()
    kept = []
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category[0] == "P" and character not in _MEANT:
            before, after = text[place - 1 : place], text[place + 1 : place + 2]
            if after.isdigit() and (before.isdigit() or (category == _HYPHENS and not before.isalpha())):
                kept.append(character)
            elif category == _HYPHENS:
                kept.append(" ")
        else:
            kept.append(character)
    return " ".join("".join(kept).split())


def _alike(guessed: Request, wanted: Request) -> bool:
    """Return True for two requests that differ at most in the form of the caller's latest words."""
    if guessed == wanted:
        return True
    if len(guessed.messages) != len(wanted.messages):
        return False
    place = next((p for p in reversed(range(len(wanted.messages))) if wanted.messages[p].role == "user"), None)
    if place is None:
        return False
    return _with_plain(guessed, place) == _with_plain(wanted, place)


def _with_plain(request: Request, place: int) -> Request:
    messages: list[Message] = list(request.messages)
    messages[place] = msgspec.structs.replace(messages[place], text=plain_words(messages[place].text))
    return msgspec.structs.replace(request, messages=tuple(messages))


def _may_change(node: Node, kind: type[Frame]) -> bool:
    return find_handler(node.spec().down, kind) is not None
