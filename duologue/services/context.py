"""`messages`: the log in the form that models take, within a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import msgspec

from ..agents.tool import ToolSpec
from ..errors import ConfigurationError
from ..session.conversation import Conversation
from ..session.item import Item, byte_length
from ..session.ledger import Ledger
from ..session.session import Session
from ..session.tool_calls import PENDING, late_text

BYTES_PER_TOKEN = 3
"""Bytes of UTF-8 that are counted as one token. English has about four, Chinese about three."""
ITEMS_PER_MESSAGE = 4
"""Items of the log that are read for each message of a budget."""
SAY = "Say exactly this, word for word, and nothing else: "
"""The instruction that makes a speech-to-speech model say a text of the application."""
IMAGE_LEFT_OUT = "(an image that was shown before)"
"""Replaces an image that does not fit into a request."""
IMAGE_UNSEEN = "(an image, which you cannot see)"
"""Replaces an image for a model that takes none."""
IMAGE_COMES = "(an image that has not come yet)"
"""Stands for an image that is not ready."""
_PENDING = json.dumps(PENDING)


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A model's request for a tool call."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a request.

    `calls` are the tool calls of an assistant's message; `call_id` is the call that a tool's message answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolRequest, ...] = ()
    call_id: str = ""
    name: str = ""
    image: bytes = b""
    mime: str = ""
    url: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a model: the instructions, the conversation, and the tools.

    `tool_choice` is "required" or the name of a tool that the model must call, "none" if it may call none of them, or
    "" to leave it to the model. Only a service with `LLM.chooses_tools` receives another value than "".
    """

    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    tool_choice: str = ""
    model: str = ""
    """The model to ask, "" for the service's own. Only a service with `LLM.chooses_model` receives one."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the conversation in a request: the newest turns that fit are sent, each as a whole.

    `messages` is the number of messages of caller and agent; results and notes among them are sent as well. `tokens`
    limits texts, arguments and results; a token is estimated as `BYTES_PER_TOKEN` bytes. `images` and `image_bytes`
    limit the number and the bytes of images, the frames of a camera among them; older images are mentioned and not
    sent. A tool call and its result are kept together. The newest turn is sent even if it is longer, without its
    earlier texts if the caller typed several, and so are the newest words of the caller.
    The instructions and tools are not counted.
    """

    messages: int = 400
    tokens: int = 32_000
    image_bytes: int = 4 * 1024 * 1024
    images: int = 8

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 0:
                raise ConfigurationError(f"a budget's {name} must not be negative, not {getattr(self, name)}")

    @property
    def text_bytes(self) -> int:
        """The limit of texts, arguments and results in bytes of UTF-8."""
        return self.tokens * BYTES_PER_TOKEN


DEFAULT_BUDGET = Budget()


class LogPart(NamedTuple):
    """The newest items of a log within a budget, oldest first; the ids of the images among them that do not fit.

    `cut` is True if older items do not fit.
    """

    items: list[Item]
    hidden: set[str]
    cut: bool


def messages(
    conversation: Conversation,
    ledger: Ledger,
    *,
    open_calls: bool = True,
    budget: Budget = DEFAULT_BUDGET,
    since: str = "",
) -> tuple[Message, ...]:
    """Return the conversation in the form that language models take, as far as the budget allows.

    `since` is the id of the first item that counts, "" for all.
    """
    part = newest_part(conversation, ledger, budget, since)
    return rendered(conversation, ledger, part, budget, open_calls=open_calls)


def rendered(
    conversation: Conversation,
    ledger: Ledger,
    part: LogPart,
    budget: Budget,
    *,
    open_calls: bool = True,
    guess: str = "",
) -> tuple[Message, ...]:
    """Return a part of the log in the form that language models take.

    Consecutive items of one side are one message. An agent's message is its heard text. A response that is not settled
    is sent with its text up to now, and corrected later if the caller interrupts it. A tool call without a result is
    answered "pending", because models require a result for every call; without `open_calls` it is left out. The last
    message has the results that came late (`ToolCalls.news`). `guess` is appended as words of the caller that are not
    in the log yet.
    """
    items, hidden, _ = part
    results = {item.call_id: item for item in items if item.kind == "tool_result"}
    out: list[Message] = []
    asked: list[Item] = []
    for item in items:
        if item.kind == "tool_call":
            if open_calls or item.call_id in results:
                asked.append(item)
            continue
        if asked:
            _add_calls(out, asked, results)
        if _is_words(item):  # else its transcript is still to come
            _append(out, Message(role="user", text=f"[{item.author}] {item.text}" if item.author else item.text))
        elif _is_image(item):
            _append(out, image_message(item, item.id in hidden))
        elif item.kind in ("handoff", "note") and item.text and item.role != "agent":  # the agent's is of a tool
            out.append(Message(role="system", text=item.text))
        elif item.role == "agent" and item.kind == "message" and (text := item.text or ledger.text_of(item.id)):
            _add_words(out, text, filler=item.author == "filler")
    if asked:
        _add_calls(out, asked, results)
    if guess:
        _append(out, Message(role="user", text=guess))
    return (*_recent(out, budget.messages), *_news(conversation, items, ledger, guess))


def _news(conversation: Conversation, items: Sequence[Item], ledger: Ledger, guess: str) -> list[Message]:
    """Return messages on results that came late, for a model that may look at the last messages only.

    A result that no message follows needs none, nor does one that the caller's words follow, if no model was asked in
    between.
    """
    news = {call.id: call for call in conversation.calls.news}
    follows = {"user"} if guess else set[str]()
    for item in reversed(items) if news else ():
        if item.kind in ("tool_call", "tool_result"):
            if item.call_id in news and (
                not follows or ("user" in follows and not news[item.call_id].asked_while_open)
            ):
                del news[item.call_id]
        elif item.text or _is_image(item) or (item.role == "agent" and ledger.text_of(item.id)):
            follows.add("user" if item.role == "caller" else item.role)
    return [
        Message(role="system", text=late_text(result.name, result.text, running=call.state == "late"))
        for call in news.values()
        if (result := conversation.get(call.result_id)) is not None
    ]


def newest_part(conversation: Conversation, ledger: Ledger, budget: Budget, since: str = "") -> LogPart:
    """Return the newest turns within the budget, each as a whole, from the item `since` on.

    The time it takes grows with these items, not with the conversation.
    """
    if not since and _all_fit(conversation, ledger, budget):
        return LogPart(list(conversation), set(), False)
    text_left, images_left, image_bytes_left = budget.text_bytes, budget.images, budget.image_bytes
    items_left = ITEMS_PER_MESSAGE * max(1, budget.messages)
    newest = next((item.turn for item in reversed(conversation) if item.turn), -1)
    found: list[Item] = []
    hidden: set[str] = set()
    sides, side, heard_caller, cut = 0, "", False, False
    backwards = reversed(conversation)
    for item in backwards:
        shown, size = _sizes(item, ledger)
        text_left -= size
        items_left -= 1
        now = _side(item)
        sides += bool(now) and now != side
        side = now if now or not size else ""
        if text_left < 0 or items_left < 0 or sides > budget.messages:
            cut = True
            if item.turn != newest:
                _end_before(item, found, backwards)
                break
            if heard_caller and _is_words(item):
                break
        if shown:
            images_left -= 1
            image_bytes_left -= shown
            if min(images_left, image_bytes_left) < 0 and item.turn != newest:
                hidden.add(item.id)
        heard_caller = heard_caller or _is_words(item)
        found.append(item)
        if item.id == since:
            break
    found.reverse()
    return LogPart(found, hidden, cut)


def _end_before(item: Item, found: list[Item], before: Iterator[Item]) -> None:
    """Remove the rest of the turn of `item`, which does not fit, and add the caller's words if there are none."""
    rest: list[Item] = []
    while found and item.turn and found[-1].turn == item.turn:
        rest.append(found.pop())
    if not any(map(_is_words, found)):
        found += _newest_words(chain(reversed(rest), [item], before))


def _all_fit(conversation: Conversation, ledger: Ledger, budget: Budget) -> bool:
    """Return True if the whole conversation is sure to fit into the budget."""
    size = conversation.size + sum(byte_length(response.text) for response in ledger.unsettled)
    return (
        size <= min(budget.text_bytes, budget.image_bytes)
        and len(conversation) <= budget.messages
        and conversation.images <= budget.images
    )


def _newest_words(backwards: Iterable[Item]) -> list[Item]:
    """Return the items of the caller's newest turn with words, newest first."""
    words: list[Item] = []
    for item in backwards:
        if _is_words(item) and (not words or item.turn == words[0].turn):
            words.append(item)
        elif words:
            break
    return words


def _side(item: Item) -> str:
    if item.kind == "message" or _is_image(item):
        return item.role
    return "agent" if item.kind == "tool_call" else ""


def _sizes(item: Item, ledger: Ledger) -> tuple[int, int]:
    """Return the bytes of an item's image and of its text."""
    if _is_image(item):
        return byte_length(item.data), 0
    if item.kind == "tool_call":
        return 0, byte_length(item.data)
    return 0, byte_length(item.text or (ledger.text_of(item.id) if item.role == "agent" else ""))


def _append(out: list[Message], message: Message) -> None:
    """Append a message, or join it to the previous one of the same role: models expect alternating roles."""
    last = out[-1] if out else None
    if last is None or last.role != message.role or (_shows_image(last) and _shows_image(message)):
        out.append(message)
        return
    source = message if _shows_image(message) else last
    between = "\n" if message.role == "user" else " "
    text = between.join(part for part in (last.text.rstrip(), message.text) if part)
    out[-1] = msgspec.structs.replace(source, text=text)


def _shows_image(message: Message) -> bool:
    return bool(message.image or message.url)


def _add_calls(out: list[Message], asked: list[Item], results: dict[str, Item]) -> None:
    """Append the calls of one response, joined to the text before them, and then their results."""
    calls = tuple(ToolRequest(call_id=item.call_id, name=item.name, arguments=item.data) for item in asked)
    _append(out, Message(role="assistant"))
    out[-1] = msgspec.structs.replace(out[-1], calls=calls)
    for item in asked:
        result = results.get(item.call_id)
        text = result.text if result is not None else _PENDING
        out.append(Message(role="tool", text=text, call_id=item.call_id, name=item.name))
    asked.clear()


def _add_words(out: list[Message], text: str, *, filler: bool) -> None:
    """Append words of the agent. Those that filled the time until a result stand before the call, for a model that
    has the results: none goes on with words of its own that come last.
    """
    place = len(out) - 1
    while filler and place > 0 and out[place].role == "tool":
        place -= 1
    if filler and 0 <= place < len(out) - 1 and out[place].role == "assistant":
        before = out[place]
        out[place] = msgspec.structs.replace(before, text=" ".join(filter(None, [before.text.rstrip(), text])))
    else:
        _append(out, Message(role="assistant", text=text))


def _is_words(item: Item) -> bool:
    return item.role == "caller" and item.kind == "message" and item.name != "image" and bool(item.text)


def _is_image(item: Item) -> bool:
    return item.role == "caller" and item.name == "image"


def image_message(item: Item, hidden: bool = False) -> Message:
    """Return an image of the log in the form that models take: the image, or a few words in its place."""
    if hidden or item.data is None:  # None: the log has dropped the image
        return Message(role="user", text=IMAGE_LEFT_OUT)
    if item.status == "in_progress":
        return Message(role="user", text=IMAGE_COMES)
    mime, image = item.data["mime"], item.data["image"]
    return Message(role="user", mime=mime, image=image, url="" if image else item.data["url"])


def without_image(message: Message) -> Message:
    """Return a message for a model that takes no images: an image is mentioned."""
    if not _shows_image(message):
        return message
    text = "\n".join(part for part in (IMAGE_UNSEEN, message.text) if part)
    return msgspec.structs.replace(message, image=b"", mime="", url="", text=text)


def _recent(told: Sequence[Message], limit: int) -> tuple[Message, ...]:
    """Return the last `limit` messages of caller and agent, with the results and notes among them.

    The caller's last message is included even if it is older.
    """
    if len(told) <= limit:
        return tuple(told)
    spoken = [place for place, message in enumerate(told) if message.role in ("user", "assistant")]
    if len(spoken) <= limit:
        return tuple(told)
    begin = spoken[-limit] if limit else len(told)
    words = next((message for message in reversed(told) if message.role == "user"), None)
    if words is None or any(message is words for message in told[begin:]):
        return tuple(told[begin:])
    return (words, *told[begin:])


def own_since(session: Session) -> str:
    """Return the id of the item from which on the session's agent knows the log, "" for all: see `Agent.history`."""
    agent = session.agent
    if agent is None or agent.history == "all":
        return ""
    handoffs = (item.id for item in reversed(session.conversation) if item.kind == "handoff" and item.text)
    return next(handoffs, "")


def estimated_tokens(request: Request) -> int:
    """Return an estimate of a request's tokens: `BYTES_PER_TOKEN` bytes of text each."""
    size = byte_length(request.instructions)
    for message in request.messages:
        size += byte_length(message.text)
        for call in message.calls:
            size += byte_length(call.arguments)
    return size // BYTES_PER_TOKEN
