"""Ready tools for agents: end the call, show a text, hand the call on, remember something. And the context of a tool.

from duologue.tools import end_conversation, output_text_content, remember, transfer

agent = Agent(name="Ann", tools=[end_conversation, output_text_content, remember, transfer({"nurse": call_a_nurse})])
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

import msgspec

from .agents.docstrings import summary as first_paragraph
from .agents.tool import Tool, run_in_thread
from .agents.tool_context import ToolContext
from .errors import ConfigurationError, ToolError
from .frames import HandoffCompleted, HandoffFailed, Say, Transfer
from .processors.kernel.within import is_async
from .session.session import Session
from .session.tool_calls import RegisteredCall
from .transports.client import client_of

__all__ = ["ToolContext", "end_conversation", "output_text_content", "remember", "transfer"]

CLOSING_S = 60.0
"""Seconds that the closing line of a call may take. Then the call ends without it."""
LOOK_S = 0.05
"""Seconds between two looks for the end of the closing line."""
TEXT_MAX_LENGTH = 16_384
"""Characters of a text that is shown."""
KEYS_MAX = 64
"""Keys that a model may remember in a call."""
VALUES_MAX_BYTES = 16_384
"""Bytes of all keys and values that a model may remember in a call."""


# -- the end of the call -----------------------------------------------------------------------------------------------


async def _end_conversation(closing_line: str, context: ToolContext, reason: str = "") -> dict[str, str]:
    """End the call, after a closing line. Call it when the conversation is over, and say no goodbye before.

    Args:
        closing_line: Your last words to the caller. They are said for you.
        reason: Why the call ends.
    """
    session, line, told = context.session, closing_line.strip(), {"status": "the call ends after the closing line"}
    if not line:
        context.respond = False
    elif _says_texts(session.calls.get(context.call_id)):
        context.respond = False
        await session.send(Say(text=line, turn=session.floor.turn))
    else:
        told["say_to_the_caller"] = line
    session.start_task(session.pipeline, _end_when_heard(session), name="end_conversation")
    return told


def _says_texts(call: RegisteredCall | None) -> bool:
    """Return True if the engine says a text of the application itself. A native engine's model is asked to say it."""
    return call is None or call.owner is None


async def _end_when_heard(session: Session[Any]) -> None:
    """End the call once nobody speaks. If the caller interrupts the closing line, or is answered, the call goes on."""
    floor, turn, fence = session.floor, session.floor.turn, session.floor.fence
    for _ in range(round(CLOSING_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        if floor.fence > fence or floor.turn > turn or session.draining:
            return
        if floor.owner == "caller" and not floor.caller_speaking:
            break
    await session.end("ended by the agent")


end_conversation = Tool(_end_conversation, name="end_conversation", cancel_on_interruption=False, filler="")
"""Ends the call once its closing line was heard, with the reason "ended by the agent".

A caller who interrupts the closing line keeps the call.
"""


# -- a text on the screen ----------------------------------------------------------------------------------------------


async def _output_text_content(text: str, context: ToolContext) -> dict[str, str]:
    """Show the caller a text that is better read than heard, such as an address, a code or a list. It is not spoken.

    Args:
        text: The text to show.
    """
    if not text.strip():
        raise ToolError("there is no text to show")
    if len(text) > TEXT_MAX_LENGTH:
        raise ToolError(f"the text has {len(text)} characters: at most {TEXT_MAX_LENGTH} can be shown")
    session = context.session
    session.conversation.add(
        "note", "agent", turn=context.turn, agent=context.agent, name="output_text_content", text=text
    )
    if client_of(session) is None:
        return {"status": "noted, but this call has no screen: say what the caller needs of it"}
    return {"status": "shown"}


output_text_content = Tool(_output_text_content, name="output_text_content", filler="")
"""Shows the caller a text that is not spoken: a note of the agent in the log, and a message to the client.

The note reaches rows and the page; RTVI clients get a `bot-output` that is not spoken. The model goes on to speak.
"""


# -- another person, agent or engine -----------------------------------------------------------------------------------

Destination = Transfer | Callable[..., Any]
"""A hand-off, or a function of the application."""


def transfer(destinations: Mapping[str, Destination | tuple[str, Destination]], **options: Any) -> Tool:
    """Return the tool "transfer", by which a model hands the call to one of these destinations.

        async def call_a_nurse(context: ToolContext, reason: str, summary: str) -> str:
            "For medical questions."
            ...  # dial, add the nurse to the room
            return "A nurse takes the call in a moment."

        transfer({"nurse": call_a_nurse, "billing": ("For bills.", Transfer(target="billing"))})

    A `Transfer` names an agent, an engine or both, and needs a `Handoff` in the pipeline; the new agent goes on. A
    function gets those of `context`, `reason` and `summary` that it names; a plain `def` runs in a thread. Its result
    goes to the model. The model learns of a failure as well: no caller waits for somebody who does not come. Each
    destination may have a description for the model, by default the first paragraph of the function's docstring.
    `options` are those of `Tool`.

    Raises ConfigurationError without a destination, and for one of another type.
    """
    if not destinations:
        raise ConfigurationError("transfer needs at least one destination")
    ways: dict[str, Destination] = {}
    lines = []
    for name, given in destinations.items():
        text, way = given if isinstance(given, tuple) else ("", given)
        if not (isinstance(way, Transfer) or callable(way)):
            raise ConfigurationError(f"the destination {name!r} is {way!r}: give a Transfer or a function")
        ways[name] = way
        text = text or ("" if isinstance(way, Transfer) else first_paragraph(inspect.getdoc(way) or ""))
        lines.append(f"{name}: {text}" if text else name)

    async def hand_on(destination: str, reason: str, summary: str, context: ToolContext) -> Any:
        way = ways[destination]
        if isinstance(way, Transfer):
            return await _handed_over(context.session, msgspec.structs.replace(way, reason=reason, summary=summary))
        known = {"context": context, "reason": reason, "summary": summary}
        named = inspect.signature(way).parameters
        return await _result_of(partial(way, **{name: value for name, value in known.items() if name in named}))

    names = Literal[tuple(ways)]  # type: ignore[valid-type]
    hand_on.__annotations__ = {
        "destination": Annotated[names, "Who takes the call. " + "; ".join(lines)],
        "reason": Annotated[str, "Why the call is handed on."],
        "summary": Annotated[str, "What they must know of the call."],
        "context": ToolContext,
    }
    described = "Hand the call on to somebody else. Tell the caller before you do."
    return Tool(hand_on, **{"name": "transfer", "description": described, "cancel_on_interruption": False, **options})


async def _result_of(function: Callable[[], Any]) -> Any:
    """Return the result of a function. A plain one runs in a thread, and no cancellation ends the wait for it."""
    if is_async(function):
        return await function()
    work = asyncio.ensure_future(run_in_thread(function, "transfer"))
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    return work.result()


async def _handed_over(session: Session[Any], frame: Transfer) -> dict[str, str]:
    """Hand the call over, and return the outcome. Raises ToolError with the reason if that fails."""
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ended(signal: HandoffCompleted | HandoffFailed) -> None:
        if not done.done() and signal.target in (frame.target, frame.target or signal.source):
            done.set_result(signal.error if isinstance(signal, HandoffFailed) else "")

    stops = (session.on(HandoffCompleted, ended), session.on(HandoffFailed, ended))
    try:
        await session.send(frame)
        if error := await done:
            raise ToolError(f"the call stays with you: {error}")
    finally:
        for stop in stops:
            stop()
    return {
        "status": f"{frame.target or 'the same agent'} has the call",
        "reason": frame.reason,
        "summary": frame.summary,
    }


# -- memory ------------------------------------------------------------------------------------------------------------

_remembered: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()  # bytes by key, for each session


async def _remember(
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=64, description="A short name, such as birthday.")],
    value: Annotated[str | float | bool, "What to remember."],
    session: Any,
) -> dict[str, str]:
    """Remember a fact for the rest of the call, such as a name or a wish. A new value replaces an earlier one."""
    sizes, data = _remembered.setdefault(session, {}), session.data
    if not isinstance(data, MutableMapping):
        raise ToolError("this call keeps no notes")
    if key not in sizes and data.get(key) not in (None, ""):
        raise ToolError(f"{key!r} is taken by the application: choose another key")
    size = len(msgspec.json.encode([key, value]))
    if key not in sizes and len(sizes) >= KEYS_MAX:
        raise ToolError(f"{KEYS_MAX} facts are remembered already: replace one of {', '.join(list(sizes)[:8])}")
    if size + sum(of for other, of in sizes.items() if other != key) > VALUES_MAX_BYTES:
        raise ToolError(f"no more than {VALUES_MAX_BYTES} bytes can be remembered: say it more briefly")
    data[key], sizes[key] = value, size
    return {"status": "remembered"}


remember = Tool(_remember, name="remember", filler="")
"""Lets the model remember facts in `session.data`, a dict, where the application and the instructions find them.

At most `KEYS_MAX` keys and `VALUES_MAX_BYTES` bytes. The application's own keys are not changed unless they are empty.
"""
